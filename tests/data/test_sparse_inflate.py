"""The sparse inflater gives what zlib gives, or nothing: never other bytes, and nothing of a stream that zlib refuses."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sparse_inflate import Room, inflate_sparse

STRATEGIES = {
    "default": zlib.Z_DEFAULT_STRATEGY,
    "fixed codes": zlib.Z_FIXED,
    "no matches": zlib.Z_HUFFMAN_ONLY,
    "runs": zlib.Z_RLE,
}


def deflate(content: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY, window: int = 15) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, window, 9, strategy)
    return compressor.compress(content) + compressor.flush()


def inflate(compressed: bytes, size: int, most: int | None = None) -> bytes | None:
    """All bytes again; None where the stream is refused."""
    room = Room.for_streams(size, size if most is None else most)
    found = inflate_sparse(np.frombuffer(compressed, np.uint8), size, room)
    if found is None:
        return None
    content = np.zeros(size, np.uint8)
    content[found[0]] = found[1]
    assert (np.diff(found[0]) > 0).all()
    assert found[1].all()
    return content.tobytes()


def inflate_with_zlib(compressed: bytes, size: int) -> bytes | None:
    """None also where the stream gives another size, or bytes follow it."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(compressed)
    except zlib.error:
        return None
    return content if inflater.eof and not inflater.unused_data and len(content) == size else None


def skewed(num: int) -> bytes:
    """Bytes as frequent as Fibonacci's numbers, for which the longest codes are needed."""
    counts = [1, 1]
    while sum(counts) < num:
        counts.append(counts[-1] + counts[-2])
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.uint8).tobytes()


def mostly_zeros(size: int, num: int) -> bytes:
    rng = np.random.default_rng(size)
    content = np.zeros(size, np.uint8)
    content[rng.integers(0, size, num)] = rng.integers(0, 4, num)
    return content.tobytes()


CONTENTS = {
    "nothing": b"",
    "one byte": b"\x07",
    "zeros": bytes(300_000),
    "few bytes": mostly_zeros(200_000, 300),
    "rows that nearly repeat": b"".join(mostly_zeros(700, 9)[k % 3 :] + bytes(k % 3) for k in range(200)),
    "short periods": b"\0\0\1" * 500 + bytes(90) + b"\5" * 1000 + b"\0\2\3\0" * 300,
    "a match over the whole window": b"\3\1\4" + bytes(2**15 - 3) + b"\3\1\4\1\5",
    "noise": np.random.default_rng(1).integers(0, 256, 5000, dtype=np.uint8).tobytes(),
    "long codes": skewed(60_000),
}


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", CONTENTS)
def test_it_inflates_what_zlib_deflates(name, strategy, level):
    content = CONTENTS[name]
    assert inflate(deflate(content, level, STRATEGIES[strategy]), len(content)) == content


@settings(deadline=None, max_examples=200)
@given(
    parts=st.lists(
        st.tuples(st.binary(max_size=6), st.integers(0, 400), st.integers(1, 4), st.sampled_from((0, 1, 3, 9))), max_size=12
    ),
    flush=st.sampled_from((zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK)),
    strategy=st.sampled_from(list(STRATEGIES.values())),
)
def test_it_inflates_streams_of_any_blocks(parts, flush, strategy):
    compressor = zlib.compressobj(6, zlib.DEFLATED, 15, 9, strategy)
    content, compressed = b"", b""
    for own, num_zeros, repeats, back in parts:
        part = (own + bytes(num_zeros)) * repeats + content[-50 * back :]
        content += part
        compressed += compressor.compress(part) + compressor.flush(flush)
    compressed += compressor.flush()
    assert inflate(compressed, len(content)) == content


@settings(deadline=None, max_examples=400)
@given(
    seed=st.integers(0, 2**32 - 1),
    strategy=st.sampled_from(list(STRATEGIES.values())),
    place=st.integers(0, 10**6),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_of_a_damaged_stream_it_believes_nothing_that_zlib_refuses(seed, strategy, place, value, cut):
    content = mostly_zeros(3000 + seed % 7, 60)
    damaged = bytearray(deflate(content, 6, strategy))
    if cut:
        del damaged[place % len(damaged) :]
    else:
        damaged[place % len(damaged)] = value
    found = inflate(bytes(damaged), len(content))
    assert found is None or found == inflate_with_zlib(bytes(damaged), len(content))


def test_any_bytes_after_a_right_header_do_no_harm():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        junk = b"\x78\x9c" + rng.integers(0, 256, rng.integers(0, 80), dtype=np.uint8).tobytes()
        assert inflate(junk, 1000) is None  # the checksum alone is right once in 2 ** 32 times


CONTENT = mostly_zeros(1000, 40)
REFUSED = {
    "a byte fewer than promised": (deflate(CONTENT), 1001),
    "a byte more than promised": (deflate(CONTENT), 999),
    "a stored byte more than promised": (deflate(CONTENT, 0), 999),
    "a wrong checksum": (deflate(CONTENT)[:-1] + bytes([deflate(CONTENT)[-1] ^ 1]), 1000),
    "no checksum": (deflate(CONTENT)[:-4], 1000),
    "a byte behind the end": (deflate(CONTENT) + b"\0", 1000),
    "no zlib header": (deflate(CONTENT)[2:], 1000),
    "a small window": (deflate(CONTENT, window=9), 1000),
    "nothing": (b"", 1000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_does_not_fit(name):
    assert inflate(*REFUSED[name]) is None


def test_it_refuses_a_stream_that_needs_a_dictionary():
    compressor = zlib.compressobj(zdict=b"known")
    assert inflate(compressor.compress(b"known" * 5) + compressor.flush(), 25) is None


@pytest.mark.parametrize("level", [0, 1, 6])
@pytest.mark.parametrize("content", [bytes(10) + b"\1" * 90, bytes(50) + bytes(range(1, 51))], ids=["a match", "literals"])
def test_it_gives_up_where_too_many_bytes_are_not_zero(content, level):
    num = 100 - content.count(0)
    assert inflate(deflate(content, level), 100, most=num) == content
    assert inflate(deflate(content, level), 100, most=num - 1) is None
