"""What the reader reads is what Pillow reads, and what it does not know it leaves to Pillow; the writer's files are Pillow's."""

import io
import struct
import tracemalloc
import zlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import panoptic_png
from data.panoptic_png import (
    PanopticMap,
    Segment,
    ids_to_rgb,
    read_panoptic_png,
    read_segment_ids,
    rgb_to_ids,
    write_panoptic_png,
)
from data.png_file import (
    BYTES_PER_PIXEL,
    GREY16,
    RGB8,
    SIGNATURE,
    filter_up,
    read_plain_png,
    read_plain_runs,
    write_id_png,
)
from runtime.files import InputError

WIDTHS = (1, 2, 15, 16, 17, 33, 64, 65, 150)


def draw_ids(seed: int, height: int, width: int, is_noise: bool = False, largest: int = 2**24 - 1) -> np.ndarray:
    """Rectangles over each other, or a value of its own for each pixel."""
    rng = np.random.default_rng(seed)
    if is_noise:
        return rng.integers(0, largest + 1, (height, width), dtype=np.uint32)
    ids = np.zeros((height, width), np.uint32)
    for _ in range(6):
        y, x = rng.integers(height), rng.integers(width)
        ids[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = rng.integers(0, largest + 1)
    return ids


def to_bytes(ids: np.ndarray, kind: tuple[int, int]) -> np.ndarray:
    """(H, W) ids -> (H, W * bytes per pixel) uint8 as PNG stores them, before the filter."""
    pixels = ids_to_rgb(ids) if kind == RGB8 else ids.astype(">u2").view(np.uint8)
    return pixels.reshape(len(ids), -1)


def apply_filters(pixels: np.ndarray, filters: list[int], size: int) -> bytes:
    """Rows after the filters of the PNG specification, section 9.2, as it writes them."""
    padded = np.zeros((len(pixels) + 1, pixels.shape[1] + size), np.int64)
    padded[1:, size:] = pixels
    left, up, corner = padded[1:, :-size], padded[:-1, size:], padded[:-1, :-size]
    to_left, to_up, to_corner = (abs(left + up - corner - p) for p in (left, up, corner))
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    predictions = (0 * left, left, up, (left + up) // 2, paeth)
    rows = [bytes([f]) + (pixels[y] - predictions[f][y]).astype(np.uint8).tobytes() for y, f in enumerate(filters)]
    return b"".join(rows)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def pack(size: tuple[int, int], kind: tuple[int, int], body: bytes, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", size[1], size[0], *kind, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def encode(ids: np.ndarray, kind: tuple[int, int], filters: list[int], before: bytes = b"", num_parts: int = 1) -> bytes:
    """A whole PNG; `before` stands before the pixels, which are cut into `num_parts` chunks."""
    compressed = zlib.compress(apply_filters(to_bytes(ids, kind), filters, BYTES_PER_PIXEL[kind]))
    cuts = np.linspace(0, len(compressed), num_parts + 1).astype(int).tolist()
    parts = (compressed[a:b] for a, b in pairwise(cuts))
    return pack(ids.shape, kind, before + b"".join(chunk(b"IDAT", part) for part in parts))


def read_fast(tmp_path, content: bytes, kind: tuple[int, int] = RGB8):
    (tmp_path / "a.png").write_bytes(content)
    return read_plain_png(tmp_path / "a.png", kind)


def read_with_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image)
    return rgb_to_ids(pixels) if pixels.ndim == 3 else pixels


# Reading


@pytest.mark.parametrize("is_noise", [False, True], ids=["rectangles", "noise"])
@pytest.mark.parametrize("kind", [RGB8, GREY16], ids=["rgb", "grey"])
@pytest.mark.parametrize("method", range(5))
def test_each_filter_is_undone_as_pillow_does_it(tmp_path, method, kind, is_noise):
    for width in WIDTHS:
        ids = draw_ids(width, 7, width, is_noise, 65535 if kind == GREY16 else 2**24 - 1)
        content = encode(ids, kind, [method] * 7)
        found, text = read_fast(tmp_path, content, kind)
        assert found.dtype == (np.uint32 if kind == RGB8 else np.int32)
        assert np.array_equal(found, ids)
        assert np.array_equal(read_with_pillow(content), ids)
        assert text == {}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 200),
    filters=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    kind=st.sampled_from((RGB8, GREY16)),
    few=st.booleans(),
)
def test_filters_may_change_from_row_to_row(tmp_path_factory, seed, width, filters, kind, few):
    # Few colours that differ in one byte only: where the bytes of a pixel must not mix.
    ids = draw_ids(seed, len(filters), width, largest=65535)
    ids = ids % 3 * 255 + ids // 3 % 2 * 256 if few else ids
    folder = tmp_path_factory.getbasetemp()
    assert np.array_equal(read_fast(folder, encode(ids, kind, filters), kind)[0], ids)


def test_files_of_pillow_and_of_this_writer_are_plain(tmp_path):
    ids = draw_ids(0, 40, 70)
    Image.fromarray(ids_to_rgb(ids)).save(tmp_path / "pillow.png")
    write_id_png(tmp_path / "ours.png", ids)
    Image.fromarray((ids % 65536).astype(np.uint16)).save(tmp_path / "grey.png")
    for name, kind, expected in (("pillow", RGB8, ids), ("ours", RGB8, ids), ("grey", GREY16, ids % 65536)):
        assert np.array_equal(read_plain_png(tmp_path / f"{name}.png", kind)[0], expected)


def test_pixels_in_many_chunks_and_texts_before_them_are_read(tmp_path):
    ids = draw_ids(0, 9, 20)
    before = chunk(b"gAMA", bytes(4)) + chunk(b"pHYs", bytes(9)) + chunk(b"tEXt", b"a\0\xe4") + chunk(b"tEXt", b"b\0x\0y")
    content = encode(ids, RGB8, [4] * 9, before + chunk(b"iTXt", b"c\0\0\0\0\0" + "日".encode()), num_parts=5)
    found, text = read_fast(tmp_path, content)
    assert np.array_equal(found, ids)
    with Image.open(io.BytesIO(content)) as image:
        assert text == image.text == {"a": "ä", "b": "x\0y", "c": "日"}


def read_runs(tmp_path, content: bytes, kind: tuple[int, int] = RGB8):
    (tmp_path / "a.png").write_bytes(content)
    return read_plain_runs(tmp_path / "a.png", kind)


def draw_sparse(seed: int, height: int = 60, width: int = 500, largest: int = 2**24 - 1) -> np.ndarray:
    """Narrow rectangles over each other, so that few bytes are left whatever filter predicts them."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), np.uint32)
    for _ in range(5):
        y, x = rng.integers(height), rng.integers(width)
        ids[y : y + height // 2, x : x + width // 5] = rng.integers(0, largest + 1)
    return ids


@pytest.mark.parametrize("kind", [RGB8, GREY16], ids=["rgb", "grey"])
@pytest.mark.parametrize("method", [1, 2, 3, 4])
def test_a_sparse_map_is_read_as_runs_from_each_filter(tmp_path, method, kind):
    for seed in range(8):
        ids = draw_sparse(seed, largest=65535 if kind == GREY16 else 2**24 - 1)
        content = encode(ids, kind, [method] * len(ids))
        runs = read_runs(tmp_path, content, kind)
        assert np.array_equal(runs.to_ids(), ids)
        assert (runs.shape, runs.size) == (ids.shape, ids.size)
        found = read_fast(tmp_path, content, kind)[0]
        assert np.array_equal(found, ids)
        assert found.dtype == (np.uint32 if kind == RGB8 else np.int32)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    filters=st.lists(st.sampled_from((0, 1, 2, 2, 3, 4)), min_size=60, max_size=60),
    kind=st.sampled_from((RGB8, GREY16)),
    few=st.booleans(),
)
def test_runs_are_read_from_filters_that_change_from_row_to_row(tmp_path_factory, seed, filters, kind, few):
    ids = draw_sparse(seed, largest=65535)
    ids = ids % 3 * 255 + ids // 3 % 2 * 256 if few else ids
    ids[np.array(filters) == 0] = 0  # what is not predicted is sparse only where it is void
    runs = read_runs(tmp_path_factory.getbasetemp(), encode(ids, kind, filters), kind)
    assert runs is None or np.array_equal(runs.to_ids(), ids)


def test_runs_are_as_long_as_they_can_be_and_repeated_rows_share_theirs(tmp_path):
    ids = np.zeros((40, 300), np.uint32)
    ids[10:30, 50:100] = 7
    write_id_png(tmp_path / "a.png", ids)
    runs = read_plain_runs(tmp_path / "a.png", RGB8)
    of_rows = [(runs.starts[k : k + 3].tolist(), runs.ids[k : k + 3].tolist()) for k in runs.firsts.tolist()]
    assert all(starts == [0, 50, 100] and values == [0, 7, 0] for starts, values in of_rows[10:30])
    assert all(starts[:2] == [0, 300] and values[0] == 0 for starts, values in of_rows[:10] + of_rows[30:])
    assert [len(set(part)) for part in (runs.firsts[:10], runs.firsts[10:30], runs.firsts[30:])] == [1, 1, 1]


def test_maps_with_too_many_runs_and_files_that_are_not_plain_are_not_read_as_runs(tmp_path):
    noise = draw_ids(0, 40, 200, is_noise=True)
    assert read_runs(tmp_path, encode(noise, RGB8, [2] * 40)) is None
    repeated = np.broadcast_to(noise[:1, :60], (400, 60))  # compresses well, but has a run for each pixel
    changing = repeated + np.arange(400, dtype=np.uint32)[:, None] % 2
    assert read_runs(tmp_path, encode(changing, RGB8, [1] * 400)) is None
    assert np.array_equal(read_fast(tmp_path, encode(changing, RGB8, [1] * 400))[0], changing)
    sparse = draw_sparse(0)
    assert read_runs(tmp_path, encode(sparse, RGB8, [2] * 60)) is not None
    assert read_runs(tmp_path, encode(sparse, RGB8, [2] * 60)[:-1]) is None
    assert read_plain_runs(tmp_path / "none.png", RGB8) is None


def test_maps_of_changing_sizes_are_read_one_after_another(tmp_path):
    for seed, (height, width) in enumerate([(60, 500), (200, 300), (60, 500), (33, 1000), (60, 501)]):
        ids = draw_sparse(seed, height, width)
        runs = read_runs(tmp_path, encode(ids, RGB8, [2] * height))
        first = runs.to_ids()
        read_runs(tmp_path, encode(draw_sparse(seed + 9, height, width), RGB8, [2] * height))
        assert np.array_equal(first, ids)
        assert np.array_equal(runs.to_ids(), ids)  # what is read later does not reach into it


IDS = draw_ids(3, 6, 9)
ROWS = apply_filters(to_bytes(IDS, RGB8), [2] * 6, 3)
PIXELS = chunk(b"IDAT", zlib.compress(ROWS))
WHOLE = pack(IDS.shape, RGB8, PIXELS)
NOT_PLAIN = {
    "no image": b"",
    "only a signature": SIGNATURE,
    "another kind": encode(IDS % 65536, GREY16, [0] * 6),
    "alpha": pack(IDS.shape, (8, 6), PIXELS),
    "16 bits a channel": pack(IDS.shape, (16, 2), PIXELS),
    "interlaced": pack(IDS.shape, RGB8, PIXELS, interlace=1),
    "no pixels": pack(IDS.shape, RGB8, b""),
    "empty": pack((0, 9), RGB8, PIXELS),
    "too large": pack((2**14, 2**13), RGB8, PIXELS),
    "transparent": pack(IDS.shape, RGB8, chunk(b"tRNS", bytes(6)) + PIXELS),
    "animated": pack(IDS.shape, RGB8, chunk(b"acTL", bytes(8)) + PIXELS),
    "compressed text": pack(IDS.shape, RGB8, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b")) + PIXELS),
    "much text": pack(IDS.shape, RGB8, chunk(b"tEXt", b"a\0" + bytes(2**20)) + PIXELS),
    "a text that is no UTF-8": pack(IDS.shape, RGB8, chunk(b"iTXt", b"a\0\0\0\0\0\xff") + PIXELS),
    "a text without keyword": pack(IDS.shape, RGB8, chunk(b"tEXt", b"\0b") + PIXELS),
    "text behind the pixels": pack(IDS.shape, RGB8, PIXELS + chunk(b"tEXt", b"a\0b")),
    "an empty part": pack(IDS.shape, RGB8, PIXELS + chunk(b"IDAT", b"")),
    "pixels in two places": pack(IDS.shape, RGB8, PIXELS + chunk(b"tEXt", b"a\0b") + PIXELS),
    "two headers": pack(IDS.shape, RGB8, WHOLE[8:33] + PIXELS),
    "bytes behind the end": WHOLE + b"\0",
    "no end": WHOLE[:-12],
    "a row too few": pack(IDS.shape, RGB8, chunk(b"IDAT", zlib.compress(ROWS[:-28]))),
    "a byte too many": pack(IDS.shape, RGB8, chunk(b"IDAT", zlib.compress(ROWS + b"\0"))),
    "bytes behind the stream": pack(IDS.shape, RGB8, chunk(b"IDAT", zlib.compress(ROWS) + b"\0")),
    "a wrong checksum of the stream": pack(IDS.shape, RGB8, chunk(b"IDAT", zlib.compress(ROWS)[:-1] + b"\0")),
    "an open stream": pack(IDS.shape, RGB8, chunk(b"IDAT", zlib.compress(ROWS)[:-4])),
    "an unknown filter": pack(IDS.shape, RGB8, chunk(b"IDAT", zlib.compress(b"\x05" + ROWS[1:]))),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_pillow(tmp_path, name):
    assert read_fast(tmp_path, NOT_PLAIN[name]) is None


def test_a_missing_file_and_a_folder_are_left_to_pillow(tmp_path):
    assert read_plain_png(tmp_path / "none.png", RGB8) is None
    assert read_plain_png(tmp_path, RGB8) is None


def test_a_bomb_is_not_inflated(tmp_path):
    bomb = pack((8, 8), RGB8, chunk(b"IDAT", zlib.compress(bytes(2**26))))
    read_fast(tmp_path, WHOLE)  # compiles
    tracemalloc.start()
    assert read_fast(tmp_path, bomb) is None
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def read_or_none(path) -> np.ndarray | None:
    try:
        return read_segment_ids(path)
    except InputError:
        return None


def leave_all_to_pillow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(panoptic_png, "read_plain_png", lambda *_: None)


def assert_reads_as_pillow(path, content: bytes) -> None:
    """With the fast reader and without it: the same ids, or both refuse."""
    path.write_bytes(content)
    found = read_or_none(path)
    with pytest.MonkeyPatch.context() as patch:
        leave_all_to_pillow(patch)
        expected = read_or_none(path)
    assert (found is None) == (expected is None)
    assert found is None or np.array_equal(found, expected)


def test_a_file_with_a_flipped_bit_is_read_as_pillow_reads_it(tmp_path):
    content = encode(IDS, RGB8, [0, 1, 2, 3, 4, 4], chunk(b"tEXt", b"a\0b"), num_parts=2)
    for position in range(len(content)):
        for bit in (0, 5, 7):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            assert_reads_as_pillow(tmp_path / "a.png", bytes(damaged))


def test_a_sparse_file_with_a_flipped_bit_is_read_as_pillow_reads_it(tmp_path):
    ids = draw_sparse(0, 40, 150)
    content = encode(ids, RGB8, [1, 2, 4, 2] * 10)
    assert read_runs(tmp_path, content) is not None
    for position in range(len(content)):
        for bit in (0, 4):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            assert_reads_as_pillow(tmp_path / "a.png", bytes(damaged))


def test_damaged_pixels_of_a_sparse_file_are_read_as_pillow_reads_them(tmp_path):
    ids = draw_sparse(1, 40, 150)
    filtered = apply_filters(to_bytes(ids, RGB8), [2, 4] * 20, 3)
    rng = np.random.default_rng(0)
    for k in range(300):
        damaged = bytearray(filtered)
        damaged[rng.integers(len(damaged)) if k % 2 else 451 * rng.integers(40)] = rng.integers(256)  # filters, too
        assert_reads_as_pillow(tmp_path / "a.png", pack(ids.shape, RGB8, chunk(b"IDAT", zlib.compress(bytes(damaged)))))
        compressed = bytearray(zlib.compress(filtered))
        compressed[rng.integers(len(compressed))] = rng.integers(256)
        assert_reads_as_pillow(tmp_path / "a.png", pack(ids.shape, RGB8, chunk(b"IDAT", bytes(compressed))))


def test_a_file_cut_at_any_byte_is_read_as_pillow_reads_it(tmp_path):
    for length in range(len(WHOLE)):
        assert_reads_as_pillow(tmp_path / "a.png", WHOLE[:length])


def test_damaged_pixels_under_right_checksums_are_read_as_pillow_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(300):
        compressed = bytearray(zlib.compress(ROWS))
        compressed[rng.integers(len(compressed))] = rng.integers(256)
        assert_reads_as_pillow(tmp_path / "a.png", pack(IDS.shape, RGB8, chunk(b"IDAT", bytes(compressed))))


# Writing


@pytest.mark.parametrize("is_noise", [False, True], ids=["rectangles", "noise"])
def test_rows_are_filtered_as_the_specification_says(is_noise):
    for width in WIDTHS:
        ids = draw_ids(width, 5, width, is_noise)
        assert filter_up(ids).tobytes() == apply_filters(to_bytes(ids, RGB8), [2] * 5, 3)


@pytest.mark.parametrize("ids", [np.array([[0, -1]]), np.array([[7, 2**24]], np.uint32), np.array([[2**40]])], ids=str)
def test_ids_that_do_not_fit_leave_no_file(tmp_path, ids):
    with pytest.raises(InputError, match="but a panoptic PNG holds"):
        write_id_png(tmp_path / "a.png", ids)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint32])
def test_any_integers_in_any_order_of_memory_are_written(tmp_path, dtype):
    ids = draw_ids(1, 20, 30, largest=255).astype(dtype)
    for array in (ids, np.asfortranarray(ids), ids[::-1, ::2]):
        write_id_png(tmp_path / "a.png", array)
        assert np.array_equal(read_with_pillow((tmp_path / "a.png").read_bytes()), array)


def test_opencv_reads_what_is_written(tmp_path):
    for ids in (draw_sparse(0), draw_ids(1, 30, 40, is_noise=True)):
        write_id_png(tmp_path / "a.png", ids, {"a": "b"})
        blue_first = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(rgb_to_ids(blue_first[..., ::-1]), ids)


def test_pillow_reads_the_texts(tmp_path):
    text = {"plain": "a\nb", "latin": "ä", "other": "日本"}
    write_id_png(tmp_path / "a.png", IDS, text)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == text


@pytest.mark.parametrize("is_left_to_pillow", [False, True], ids=["kernel", "pillow"])
def test_a_panoptic_map_comes_back_only_to_its_producer(tmp_path, monkeypatch, is_left_to_pillow):
    if is_left_to_pillow:
        leave_all_to_pillow(monkeypatch)
    path, panoptic = tmp_path / "a.png", PanopticMap(IDS, (Segment(5, 7, 1, (0, 0, 1, 1), score=0.5),))
    write_panoptic_png(path, panoptic, "model ü")
    found = read_panoptic_png(path, "model ü")
    assert np.array_equal(found.segment_ids, IDS)
    assert found.segments == panoptic.segments
    assert read_panoptic_png(path, "another") is None
    path.write_bytes(path.read_bytes()[:-40])  # inside the pixels
    assert read_panoptic_png(path, "model ü") is None
    Image.new("L", (2, 2)).save(path)
    assert read_panoptic_png(path, "model ü") is None
