"""Images and label PNGs: read as Pillow reads them."""

import io
import json
import struct
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels
from PIL import Image, ImageOps

from data.coco_json import is_whole
from data.images import FORMATS, read_image, read_image_size
from data.layouts.cityscapes import read_instance_ids
from data.panoptic_png import PanopticMap, Segment, read_panoptic_png, read_segment_ids, write_panoptic_png
from data.png_file import write_id_png
from data.semantic_dump import SemanticMap, map_path, read_semantic_map, write_semantic_map
from data.taxonomy import CITYSCAPES
from runtime.files import InputError
from tests.fuzz.drawn import draw_ids, to_rgb, written
from tests.fuzz.mutations import exif, join_png, mutate_json, mutate_png, split_png

SIZES = ((1, 1), (1, 40), (5, 1), (3, 7), (8, 8), (17, 23), (40, 33))
OTHER_FORMATS = (
    *("GIF", "PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "JPEG2000"),
    *("ICNS", "IM", "MSP", "SPIDER", "XBM", "QOI", "EPS", "AVIF"),
)
"""What Pillow would read, and is not offered."""
LARGEST_COMPARED = 10**7
"""Values; to decode and compare a larger image takes seconds and its memory a second time."""
KNOWN_IDS = [label.id for label in labels if label.id >= 0]


def save(image: Image.Image, **options: object) -> bytes:
    """The bytes of an image file; PNG unless `format` says otherwise."""
    file = io.BytesIO()
    image.save(file, **({"format": "PNG"} | options))
    return file.getvalue()


def insert_chunk(content: bytes, kind: bytes, inner: bytes) -> bytes:
    """A PNG with one chunk more, before its pixels."""
    chunks = split_png(content)
    return join_png([chunks[0], (kind, inner), *chunks[1:]])


def write(folder: Path, content: bytes) -> Path:
    """A file for a reader."""
    path = folder / "a.png"
    path.write_bytes(content)
    return path


def decode(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Pixels, upright, and texts as Pillow reads them."""
    with Image.open(path) as image:
        image.load()
        return np.asarray(turn_upright(image)), getattr(image, "text", {})


def turn_upright(image: Image.Image) -> Image.Image:
    """As Pillow's own exif_transpose, which fails over broken blocks."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError, OverflowError):
        return image


def check_ids(found: np.ndarray, wanted: np.ndarray, expected: np.ndarray | None) -> None:
    """Equal to what Pillow decodes, and to what was written."""
    assert np.array_equal(found, wanted), "ids differ from Pillow's"
    assert expected is None or np.array_equal(found, expected), "ids differ from what was written"


def ids_of(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3 or 4) -> ids of a panoptic PNG."""
    assert pixels.ndim == 3, f"ids of an image without three channels: {pixels.shape}"
    return pixels[..., :3].astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)


# Panoptic PNGs


@cache
def segment_seeds() -> dict[bytes, object]:
    """Content -> (H, W) ids."""
    seeds: dict[bytes, object] = {}
    for k, size in enumerate(SIZES):
        ids = draw_ids(k, size, 2**24 - 1 if k % 3 else 300)
        text = {"a": "b", "ü": "日本"} if k % 2 else None
        seeds[written(lambda folder: write_id_png(folder / "a.png", ids, text))] = ids  # noqa: B023
        rgb = Image.fromarray(to_rgb(ids))
        whole = save(rgb, compress_level=k % 10)
        seeds[whole] = seeds[insert_chunk(whole, b"gAMA", bytes(4))] = ids
        seeds[save(rgb.convert("RGBA"))] = None
        seeds[save(rgb.quantize(8))] = seeds[save(rgb.convert("L"))] = seeds[save(rgb, format="JPEG")] = InputError
    deep = ids.astype(">u2").view(np.uint8).reshape(len(ids), -1)
    rows = b"".join(b"\0" + row.tobytes() * 3 for row in deep)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], 16, 2, 0, 0, 0)
    seeds[join_png([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])] = InputError
    return seeds


def check_segment_ids(content: bytes, folder: Path, expected: np.ndarray | None) -> None:
    """(H, W) uint32, of 8-bit samples."""
    path = write(folder, content)
    found = read_segment_ids(path)
    assert found.dtype == np.uint32, f"ids are not uint32: {found.dtype}"
    if found.size > LARGEST_COMPARED:
        return
    check_ids(found, ids_of(decode(path)[0]), expected)
    if content.startswith(b"\x89PNG"):
        depths = [inner[8:9] for kind, inner in split_png(content) if kind == b"IHDR"]
        assert set(depths) == {b"\x08"}, f"a panoptic PNG of another depth than 8 bits: {depths}"


# Cityscapes' instanceIds.png


@cache
def instance_seeds() -> dict[bytes, object]:
    """Content -> (H, W) ids."""
    seeds: dict[bytes, object] = {}
    known = np.array([value for k in KNOWN_IDS for value in (k, k * 1000, k * 1000 + 7)])
    for k, size in enumerate(SIZES):
        ids = known[draw_ids(k, size, len(known) - 1)]
        whole = save(Image.fromarray(ids.astype(np.uint16)), compress_level=k)
        seeds[whole] = seeds[insert_chunk(whole, b"pHYs", bytes(9))] = ids
        seeds[save(Image.fromarray((ids % 24).astype(np.uint8)))] = None
        seeds[save(Image.fromarray(ids.astype(np.int32)), format="TIFF")] = None
    return seeds


def check_instance_ids(content: bytes, folder: Path, expected: np.ndarray | None) -> None:
    """(H, W) int32, and no value that Cityscapes does not know."""
    path = write(folder, content)
    found = read_instance_ids(path)
    assert found.dtype == np.int32, f"ids are not int32: {found.dtype}"
    if found.size > LARGEST_COMPARED:
        return
    check_ids(found, decode(path)[0], expected)
    classes = np.unique(np.where(found >= 1000, found // 1000, found))
    assert set(classes.tolist()) <= {*KNOWN_IDS, 65}, f"unknown ids: {classes}"  # 65535 is a license plate


# Panoptic PNGs with their segments in a text chunk


@cache
def panoptic_png_seeds() -> dict[bytes, object]:
    """Content -> PanopticMap."""
    seeds: dict[bytes, object] = {}
    for k, size in enumerate(SIZES):
        ids = draw_ids(k, size, 40)
        segments = tuple(Segment(int(i), 7 + int(i) % 5, int((ids == i).sum()), (0, 0, 1, 1)) for i in np.unique(ids) if i)
        panoptic = PanopticMap(ids, segments)
        seeds[written(lambda folder: write_panoptic_png(folder / "a.png", panoptic, "model"))] = panoptic  # noqa: B023
    return seeds


def mutate_panoptic_png(rng, content: bytes) -> bytes:
    """Damage to the PNG, or to the JSON in its text."""
    if rng.random() < 0.3:
        return mutate_png(rng, content)
    key, chunks = b"segments_info\0", split_png(content)
    at = next(k for k, (_, inner) in enumerate(chunks) if inner.startswith(key))
    chunks[at] = chunks[at][0], key + mutate_json(rng, chunks[at][1].removeprefix(key))
    return join_png(chunks)


def check_panoptic_png(content: bytes, folder: Path, expected: PanopticMap | None) -> None:
    """A map whose segments are those of the text; where there is none, it counts as refused."""
    path = write(folder, content)
    found = read_panoptic_png(path, "model")
    if found is None:
        raise InputError("no panoptic PNG of ours")
    if found.segment_ids.size > LARGEST_COMPARED:
        return
    pixels, text = decode(path)
    check_ids(found.segment_ids, ids_of(pixels), None if expected is None else expected.segment_ids)
    assert text["producer"] == "model", "of another producer"
    listed = [(entry["id"], entry["category_id"]) for entry in json.loads(text["segments_info"])]
    assert [(s.segment_id, s.category_id) for s in found.segments] == listed, "other segments than in the text"
    for segment in found.segments:
        assert all(map(is_whole, (segment.segment_id, segment.category_id))), "a segment's id is no whole number"
        assert len(segment.bbox) == 4, "a box is not four numbers"
    assert expected is None or found.segments == expected.segments, "segments differ from what was written"


# Class maps


@cache
def map_seeds() -> dict[bytes, object]:
    """Content -> (H, W) train ids."""
    seeds: dict[bytes, object] = {}
    for k, size in enumerate(SIZES):
        train_ids = draw_ids(k, size, CITYSCAPES.num_classes - 1).astype(np.uint8)
        train_ids[0, 0] = 255
        semantic = SemanticMap("a", CITYSCAPES.name, "model 1", train_ids)
        seeds[written(lambda folder: write_semantic_map(folder, semantic))] = train_ids  # noqa: B023
    return seeds


def check_map(content: bytes, folder: Path, expected: np.ndarray | None) -> None:
    """(H, W) uint8, and no train id that the taxonomy has not."""
    path = map_path(folder, "a")
    path.write_bytes(content)
    found = read_semantic_map(folder, "a", CITYSCAPES).train_ids
    assert found.dtype == np.uint8, f"train ids are not uint8: {found.dtype}"
    if found.size > LARGEST_COMPARED:
        return
    check_ids(found, decode(path)[0], expected)
    assert set(np.unique(found).tolist()) <= {*range(CITYSCAPES.num_classes), 255}, "train ids that the taxonomy has not"


# Images


@cache
def image_seeds() -> dict[bytes, object]:
    """Content -> True, as all of them must be read but those that must be refused."""
    seeds: dict[bytes, object] = {}
    for k, size in enumerate(SIZES):
        rgb = Image.fromarray(to_rgb(draw_ids(k, size, 2**24 - 1)))
        turned = Image.Exif()
        turned[0x112] = 1 + k
        whole = [save(rgb.convert(mode)) for mode in ("RGB", "L", "RGBA", "P", "1", "LA")]
        whole.append(insert_chunk(whole[0], b"eXIf", exif(2 + k)))
        jpeg = {"format": "JPEG", "exif": turned, "progressive": k % 2, "subsampling": k % 3}
        whole += [save(rgb.convert(mode), **jpeg) for mode in ("RGB", "L", "CMYK")]
        whole += [save(rgb.convert(mode), format="BMP") for mode in ("RGB", "L", "P", "1")]
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            whole.append(save(rgb, format="TIFF", compression=compression, exif=turned))
        whole.append(save(rgb.convert("1"), format="TIFF", compression="group4"))
        whole.append(save(rgb, format="WEBP", exif=turned))
        whole.append(save(rgb.convert("RGBA"), format="WEBP", lossless=True))
        whole.append(save(rgb, format="WEBP", save_all=True, append_images=[rgb.rotate(90), rgb]))
        seeds |= dict.fromkeys(whole, True)
        seeds[save(Image.fromarray(draw_ids(k, size, 65535).astype(np.uint16)))] = InputError
        seeds[save(Image.fromarray(draw_ids(k, size, 9).astype(np.float32)), format="TIFF")] = InputError
        for other in OTHER_FORMATS:
            mode = {"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(other, "RGB")
            with suppress(OSError, ValueError, KeyError):  # such as a size that the format has not
                seeds[save(rgb.convert(mode), format=other)] = None if other == "ICNS" else InputError
    return {content: wanted for content, wanted in seeds.items() if len(content) < 2**15}


def check_image(content: bytes, folder: Path, expected: object) -> None:
    """As Pillow decodes it, turned as its EXIF block says, in RGB; and of one of the formats that are offered."""
    path = write(folder, content)
    found = read_image(path)
    size = read_image_size(path)
    if found.size > LARGEST_COMPARED:
        return
    with Image.open(path) as image:
        name = image.format
        image.load()
        pixels = np.asarray(turn_upright(image).convert("RGB"))
    assert name in (*FORMATS, "MPO"), f"a format that is not offered: {name}"
    assert found.dtype == np.uint8, f"pixels are not uint8: {found.dtype}"
    assert np.array_equal(found, pixels), f"pixels differ from Pillow's: {found.shape}, {pixels.shape}"
    assert size == found.shape[:2], f"another size in the header than in the pixels: {size}, {found.shape}"
