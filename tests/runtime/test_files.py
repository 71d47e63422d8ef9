"""Files are read with suspicion and written whole; a command's user gets one line."""

import errno
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.images import find_images, open_image, read_image, write_image
from runtime.files import InputError, atomic_path, one_line_errors, read_json, remove_partial_files, write_json

FROM_A_WORKER = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback:\nruntime.files.InputError: b.png: cut\n"
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def png_with_header(height: int, width: int) -> bytes:
    """A PNG of a few bytes whose header promises this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_picture_comes_back_as_it_was_written(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_any_8_bit_picture_is_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(PICTURE).convert(mode).save(path)
    assert np.array_equal(read_image(path), np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_picture_of_unknown_range_is_refused(tmp_path, dtype):
    Image.fromarray(PICTURE[..., 0].astype(dtype)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: pixel mode .*, but an 8-bit picture was needed"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("size", [(20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_header_is_refused_before_decoding(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_with_header(*size))
    with pytest.raises(InputError, match="more than 268435456"), open_image(tmp_path / "a.png"):
        pass


def test_a_picture_cut_at_any_byte_is_refused_or_lost_no_pixel(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, PICTURE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            pixels = read_image(path)
        except InputError:
            continue
        assert np.array_equal(pixels, PICTURE)


def test_half_a_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, PICTURE)
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded .* truncated or no picture, copy it again"):
        read_image(path)


def test_a_damaged_header_is_refused(tmp_path):
    whole = bytearray(png_with_header(4, 6))
    whole[11] = 5  # an IHDR chunk of 5 bytes; Pillow raises a bare ValueError
    (tmp_path / "a.png").write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded"):
        read_image(tmp_path / "a.png")


def test_a_missing_picture_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_an_exception_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as partial:
        partial.write_text(f"ne{1 / 0}")
    assert read_json(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".partial-x.png").touch()
    (tmp_path / "a.png").touch()
    remove_partial_files(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_json_that_is_missing_or_broken_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"images": [')
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_pictures_are_found_by_file_folder_and_glob(tmp_path):
    for name in ("b.jpg", "a.png", "deep/c.JPEG", "notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "deep" / "c.JPEG"]
    assert find_images(tmp_path / "a.png") == [tmp_path / "a.png"]
    assert find_images(str(tmp_path / "*.jpg")) == [tmp_path / "b.jpg"]


def test_no_pictures_and_two_of_one_id_are_refused(tmp_path):
    with pytest.raises(InputError, match="no pictures there"):
        find_images(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match="both would be image id 'a'"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.png: broken"), "error: a.png: broken"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "error: a.png: No space left on device; "),
        (KeyboardInterrupt(), "interrupted; run the same command again"),
        (InputError(FROM_A_WORKER), "error: b.png: cut"),
    ],
)
def test_bad_input_ends_a_command_with_one_line(error, line):
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code.startswith(line)
    assert "\n" not in end.value.code


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
