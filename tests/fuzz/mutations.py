"""Damage to files: of any bytes, and of JSON, PNG, safetensors, pickles and zip archives at the level of their own structure."""

import copy
import io
import json
import pickletools
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from math import prod

ODD_NUMBERS = (0, 1, -1, 2, 7, 255, 256, 65536, 2**24, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, -(2**31), -(2**63))
ODD_VALUES = (
    *ODD_NUMBERS,
    *(None, True, False, 0.5, -0.5, 1.0, -0.0, 1e308, 3e-320, float("nan"), float("inf"), float("-inf")),
    *("", "0", "7", "1.5", "a", "\0", "日本", "a\nb", "x" * 300, "../a", "/a", "C:\\a", "NaN", "true"),
    *([], {}, [None], [[]], [0, 0], {"a": None}, {"id": 1}),
)
ODD_JSON = (
    *("1e999", "-1e999", "NaN", "-0", "1E400", "9" * 400, "9" * 5000, "0.1e-9999", '"\\ud800"', '"\\udc00\\ud800"'),
    *("[" * depth + "]" * depth for depth in (300, 900, 985, 3000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (300, 900)),
)
"""Values that json.dumps does not write."""
ODD_SIZES = (0, 1, 2, 3, 7, 255, 256, 65535, 65536, 2**20, 2**28, 2**31 - 1, 2**31, 2**32 - 1)


def places_to_change(rng: random.Random) -> range:
    """One to four rounds, mostly one or two."""
    return range(1 + int(rng.expovariate(0.8)) % 4)


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, replace, delete, insert, repeat or cut off bytes."""
    damaged = bytearray(content)
    for _ in places_to_change(rng):
        at, length = rng.randrange(len(damaged) + 1), 1 + int(rng.expovariate(0.2))
        change = rng.randrange(8)
        if change <= 2 and at < len(damaged):
            damaged[at] ^= 1 << rng.randrange(8)
        elif change == 3 and at < len(damaged):
            damaged[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif change == 4:
            del damaged[at : at + length]
        elif change == 5:
            damaged[at:at] = rng.randbytes(length)
        elif change == 6:
            start = rng.randrange(len(damaged) + 1)
            damaged[at:at] = damaged[start : start + length]
        elif change == 7:
            del damaged[at:]
    return bytes(damaged)


# JSON


def mutate_json(rng: random.Random, content: bytes) -> bytes:
    """Change a JSON's values and keys, and now and then its text."""
    root = [json.loads(content)]
    for _ in places_to_change(rng):
        _mutate_value(rng, root)
    text = json.dumps(root[0]).encode()
    if rng.random() < 0.1:
        values = list(re.finditer(rb'"[^"]*"|[\d.]+', text))
        start, end = rng.choice(values).span() if values else (0, len(text))
        text = text[:start] + rng.choice(ODD_JSON).encode() + text[end:]
    return mutate_text(rng, text) if rng.random() < 0.1 else text


def places(value: dict | list) -> Iterator[tuple[dict | list, str | int]]:
    """(container, key) of everything inside a value, outer ones before what they hold."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def _mutate_value(rng: random.Random, root: list) -> None:
    found = list(places(root))
    inside, key = rng.choice(found)
    value, change = inside[key], rng.randrange(10)
    if change == 3 and inside is not root:
        del inside[key]
    elif change == 4:
        other, other_key = rng.choice(found)
        inside[key] = copy.deepcopy(other[other_key])
    elif change == 5 and isinstance(inside, list) and inside is not root:
        inside.insert(rng.randrange(len(inside) + 1), copy.deepcopy(value))
    elif change == 6 and isinstance(inside, dict):
        inside[rng.choice(("", "id", "size", str(key).upper(), f"{key} "))] = inside.pop(key)
    elif change == 7:
        inside[key] = rng.choice(([value], {"a": value}, str(value)))
    elif change >= 8 and isinstance(value, int | float):
        inside[key] = rng.choice((value + 1, value - 1, -value, float(value), str(value), value * 1000, bool(value)))
    elif change >= 8 and isinstance(value, str):
        inside[key] = mutate_bytes(rng, value.encode("utf-8", "replace")).decode("latin-1")
    else:
        inside[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def mutate_text(rng: random.Random, content: bytes) -> bytes:
    """Damage to the text of a JSON or YAML: its encoding, its end, its bytes."""
    change = rng.randrange(5)
    if change == 0:
        return b"\xef\xbb\xbf" + content
    if change == 1:
        return content.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-16-le", "utf-32")))
    if change == 2:
        at = rng.randrange(len(content) + 1)
        return content[:at] + rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0")) + content[at:]
    if change == 3:
        return content + rng.choice((b"]", b"{}", b"\0", b"\n\n", content))
    return mutate_bytes(rng, content)


# PNG


SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMB = zlib.compress(bytes(2**21))
"""Two megabytes."""


def split_png(content: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of the chunks of a whole PNG."""
    chunks, position = [], len(SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunks.append((kind, content[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def join_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, with right checksums."""
    parts = [SIGNATURE]
    for kind, content in chunks:
        parts += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(kind + content))]
    return b"".join(parts)


def mutate_png(rng: random.Random, content: bytes) -> bytes:
    """Damage to bytes; or under right checksums to chunks, header or pixels. Of another image, damage to bytes."""
    if not content.startswith(SIGNATURE) or rng.random() < 0.25:
        return mutate_bytes(rng, content)
    chunks = split_png(content)
    for _ in places_to_change(rng):
        if chunks:
            _mutate_chunks(rng, chunks)
    return join_png(chunks)


def _mutate_chunks(rng: random.Random, chunks: list[tuple[bytes, bytes]]) -> None:
    change, at, other = rng.randrange(8), rng.randrange(len(chunks)), rng.randrange(len(chunks))
    kind, content = chunks[at]
    if change == 0:
        del chunks[at]
    elif change == 1:
        chunks.insert(other, chunks[at])
    elif change == 2:
        chunks[at], chunks[other] = chunks[other], chunks[at]
    elif change == 3:
        chunks.insert(other + 1, _odd_chunk(rng))
    elif change == 4:
        chunks[at] = kind, mutate_bytes(rng, content)
    elif change == 5:
        cut = rng.randrange(len(content) + 1)
        chunks[at : at + 1] = [(kind, content[:cut]), (kind, content[cut:])]
    elif change == 6 and len(chunks[0][1]) == 13:
        fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = rng.randrange(7)
        sides = (*ODD_SIZES, fields[field] + 1, max(fields[field] - 1, 0), fields[1 - field])
        fields[field] = rng.choice(sides if field < 2 else (0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = chunks[0][0], struct.pack(">IIBBBBB", *fields)
    else:
        compressed = [k for k, (kind, _) in enumerate(chunks) if kind == b"IDAT"]
        with suppress(zlib.error, IndexError):
            rows = zlib.decompressobj().decompress(b"".join(chunks[k][1] for k in compressed), 2**20)
            chunks[compressed[0]] = b"IDAT", zlib.compress(mutate_bytes(rng, rows), rng.choice((0, 1)))
            for k in reversed(compressed[1:]):
                del chunks[k]


def _odd_chunk(rng: random.Random) -> tuple[bytes, bytes]:
    """A chunk that some PNGs hold: right, of a wrong size, or of random content."""
    text = rng.choice((b"\0\0", b"\1\0", b"\2\0")) + b"\0\0" + rng.choice((b"text", b"\xff", zlib.compress(b"a")))
    right = {
        b"PLTE": rng.randbytes(3 * rng.randrange(1, 5)),
        b"tRNS": rng.randbytes(rng.choice((1, 2, 6))),
        b"gAMA": struct.pack(">I", rng.choice((0, 45455, 100000))),
        b"pHYs": struct.pack(">IIB", rng.choice(ODD_SIZES), rng.choice(ODD_SIZES), rng.randrange(3)),
        b"acTL": struct.pack(">II", rng.choice((0, 1, 2, 2**31)), 0),
        b"fcTL": struct.pack(">IIIIIHHBB", 0, rng.choice((1, 4, 2**31)), 4, 0, 0, 1, 10, rng.randrange(4), rng.randrange(3)),
        b"fdAT": struct.pack(">I", 1) + zlib.compress(bytes(40)),
        b"iCCP": b"p\0\0" + zlib.compress(rng.randbytes(20)),
        b"eXIf": exif(rng.choice((0, 1, 3, 6, 8, 9))),
        b"tEXt": b"key\0value",
        b"zTXt": b"key\0\0" + rng.choice((zlib.compress(bytes(4)), BOMB)),
        b"iTXt": b"key\0" + text,
        **dict.fromkeys((b"cHRM", b"sRGB", b"tIME", b"sBIT", b"bKGD", b"IEND", b"abcd", b"ABCD"), b""),
    }
    kind = rng.choice(list(right))
    return kind, right[kind] if rng.random() < 0.7 else rng.randbytes(rng.randrange(12))


def exif(orientation: int) -> bytes:
    """An EXIF block that says how a camera was held."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)


# safetensors


FORMS = {
    **{"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "I16": "h", "I8": "b"},
    **{"U64": "Q", "U32": "I", "U16": "H", "U8": "B", "BOOL": "B"},
}
"""dtype -> code of struct."""
OTHER_DTYPES = ("BF16", "F8_E4M3", "F8_E5M2", "F4", "C64")


def mutate_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Damage to bytes, the header, the project's own header inside it, or a tensor's name, form, values or length."""
    (length,) = struct.unpack_from("<Q", content)
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    about = header.pop("__metadata__", {})
    parts = {name: data[slice(*entry.pop("data_offsets"))] for name, entry in header.items()}
    name, change = rng.choice(list(header)), rng.randrange(8)
    entry, part = header[name], parts[name]
    if change == 0:
        return mutate_bytes(rng, content)
    if change <= 2 and "header" in about:
        about["header"] = mutate_json(rng, about["header"].encode()).decode("latin-1")
    elif change == 3:
        entry["dtype"] = rng.choice((*FORMS, *OTHER_DTYPES))
        count = len(part) // struct.calcsize(FORMS.get(entry["dtype"], "H"))
        sides = entry["shape"][1:] if rng.random() < 0.5 else []
        if rng.random() < 0.8:
            entry["shape"] = rng.choice(([count // max(prod(sides), 1), *sides], [count], [1, count], [count, 1], [], [0]))
    elif change == 4:
        parts[name] = _odd_values(rng, entry["dtype"], part)
    elif change == 5:
        other = rng.choice(("a", "logits", "boxes", f"{name}2", ""))
        header[other], parts[other] = entry, part
        if rng.random() < 0.5:
            del header[name]
    elif change == 6 and entry["shape"]:
        axis = rng.randrange(len(entry["shape"]))
        before = max(entry["shape"][axis], 1)
        after = rng.choice((0, 1, before + 1, max(before - 1, 0), 2 * before))
        entry["shape"] = [after if k == axis else side for k, side in enumerate(entry["shape"])]
        parts[name] = (part * 2 + bytes(16))[: len(part) * after // before]
    position = 0
    for name in header:
        header[name] = header[name] | {"data_offsets": [position, position + len(parts[name])]}
        position += len(parts[name])
    whole = json.dumps({"__metadata__": about} | header).encode()
    whole = mutate_json(rng, whole) if change == 7 else whole
    return struct.pack("<Q", len(whole)) + whole + b"".join(parts[name] for name in header)


def _odd_values(rng: random.Random, dtype: str, part: bytes) -> bytes:
    """The values of a tensor with one that hardly fits, or all the other way round."""
    code = FORMS.get(dtype)
    if not code or not part:
        return part
    values = list(struct.unpack(f"<{len(part) // struct.calcsize(code)}{code}", part))
    if rng.random() < 0.2:
        values.reverse()
    elif dtype.startswith("F"):
        values[rng.randrange(len(values))] = rng.choice((float("nan"), float("inf"), -1.0, -0.0, 2.0, 1e4, 6e-8, 1.5))
    else:
        least = 0 if code.isupper() else -(2 ** (8 * struct.calcsize(code) - 1))
        most = least + 2 ** (8 * struct.calcsize(code)) - 1
        values[rng.randrange(len(values))] = rng.choice((0, 1, 2, 18, 19, 127, most, least, rng.randint(least, most)))
    return struct.pack(f"<{len(values)}{code}", *values)


# Pickles and the archives of torch


def mutate_pickle(rng: random.Random, content: bytes) -> bytes:
    """Remove, repeat, swap, replace or insert opcodes in one of the pickles that a file begins with."""
    stream, ends = io.BytesIO(content), [0]
    with suppress(Exception):  # where pickles end: ValueError, UnicodeDecodeError, struct.error and more
        while ends[-1] < len(content):
            for _ in pickletools.genops(stream):
                pass
            ends.append(stream.tell())
    if len(ends) == 1 or rng.random() < 0.1:
        return mutate_bytes(rng, content)
    k = rng.randrange(len(ends) - 1)
    start, end = ends[k : k + 2]
    starts = [start + position for _, _, position in pickletools.genops(content[start:end])]
    parts = [content[a:b] for a, b in zip(starts, [*starts[1:], end], strict=True)]
    for _ in places_to_change(rng):
        change, at, other = rng.randrange(7), rng.randrange(len(parts)), rng.randrange(len(parts))
        if change == 0 and len(parts) > 1:
            del parts[at]
        elif change == 1:
            parts.insert(other, parts[at])
        elif change == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif change <= 4:
            parts[at] = odd_opcode(rng)
        elif change == 5:
            parts.insert(at, odd_opcode(rng))
        else:
            parts[at] = parts[at][:1] + mutate_bytes(rng, parts[at][1:])
    return content[:start] + b"".join(parts) + content[end:]


GLOBALS = (
    *(b"numpy.core.multiarray _reconstruct", b"numpy._core.multiarray _reconstruct", b"numpy._core.multiarray scalar"),
    *(b"numpy ndarray", b"numpy dtype", b"collections OrderedDict", b"_codecs encode", b"builtins eval", b"os system"),
    *(b"torch._utils _rebuild_tensor_v2", b"torch._utils _rebuild_parameter", b"torch._utils _rebuild_sparse_tensor"),
    *(b"torch._utils _rebuild_meta_tensor_no_storage", b"torch._utils _rebuild_qtensor", b"torch FloatStorage"),
    *(b"torch HalfStorage", b"torch Size", b"torch device", b"torch float32", b"torch qint8", b"torch.nn.parameter Parameter"),
    *(b"torch._utils _rebuild_device_tensor_from_numpy", b"torch._utils _rebuild_wrapper_subclass", b"__builtin__ set"),
)
SIMPLE_OPCODES = b"N}])(02t\x85\x86\x87\x88\x891Rb\x81suaeQ.dlo\x92\x93\x94"
"""Those without an argument."""


def odd_opcode(rng: random.Random) -> bytes:
    """One opcode with its argument."""
    number, length = rng.choice(ODD_NUMBERS), rng.randrange(30)
    num_bytes = number.bit_length() // 8 + 1
    return rng.choice(
        (
            bytes([rng.choice(SIMPLE_OPCODES)]),
            bytes([rng.choice(SIMPLE_OPCODES)]),
            b"J" + struct.pack("<i", max(min(number, 2**31 - 1), -(2**31))),
            b"\x8a" + bytes([num_bytes]) + number.to_bytes(num_bytes, "little", signed=True),
            b"X" + struct.pack("<I", 2) + rng.choice((b"O8", b"f4", b"V8", b"S4", b"U9", b"|b", b"M8", b"\xff\xff", b"i,")),
            b"c" + rng.choice(GLOBALS).replace(b" ", b"\n") + b"\n",
            rng.choice((b"h", b"q")) + bytes([rng.randrange(20)]),
            rng.choice((b"r", b"j")) + struct.pack("<I", rng.choice((0, 300, 2**20, 2**31, 2**32 - 1))),
            b"C" + bytes([length]) + rng.randbytes(length),
            rng.choice((b"\x8e", b"\x8d", b"\x95")) + struct.pack("<Q", rng.choice((1, 2**20, 2**33, 2**63))),
            b"G" + struct.pack(">d", rng.choice((0.0, float("nan"), 1e300))),
        )
    )


def mutate_archive(rng: random.Random, content: bytes) -> bytes:
    """Damage to the bytes of a zip archive of torch.save, or under right checksums to its pickle, its storages, its records."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name, change = rng.choice(list(records)), rng.randrange(7)
    if change == 0:
        del records[name]
    elif change == 1:
        records[name] = mutate_bytes(rng, records[name])
    elif change == 2:
        records[name] = rng.choice((b"", records[name][: len(records[name]) // 2], records[name] * 2))
    elif change == 3:
        records[rng.choice((name + "0", "a/" + name, name.upper(), *records))] = records.pop(name)
    else:
        pickled = next(name for name in records if name.endswith("data.pkl"))
        records[pickled] = mutate_pickle(rng, records[pickled])
    return join_archive(records, zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED)


def join_archive(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive; the same records give the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in sorted(records):
            archive.writestr(zipfile.ZipInfo(name), records[name], compression)
    return file.getvalue()
