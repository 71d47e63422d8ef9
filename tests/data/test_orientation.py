"""Images and films come upright, as their EXIF orientation or their rotation says, and truth must fit the upright image."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.images import check_size_of_truth, read_image, read_image_size
from data.panoptic_png import ids_to_rgb, read_segment_ids
from data.videos import FrameReader, video_writer
from runtime.files import InputError

ORIENTATION = 0x0112
SCENE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def save(path, turn, pixels=SCENE, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_every_exif_orientation_is_applied_in_every_form(tmp_path, name, turn):
    path = save(tmp_path / name, turn, **({"lossless": True} if name.endswith("webp") else {}))
    with Image.open(path) as image:
        wanted = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), wanted)
    assert read_image_size(path) == wanted.shape[:2]


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_phone_photo_comes_upright(tmp_path, turn):
    path = save(tmp_path / "a.jpg", turn)
    assert read_image_size(path) == read_image(path).shape[:2] == ((6, 4) if turn >= 5 else (4, 6))


@pytest.mark.parametrize("turn", [0, 9, 77, 65535])
def test_an_orientation_that_does_not_exist_is_none(tmp_path, turn):
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", turn)), SCENE)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\xff\0\x99", b"II*\0" + b"\xff" * 40])
def test_a_broken_exif_block_is_none(tmp_path, exif):
    Image.fromarray(SCENE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), SCENE)
    assert read_image_size(tmp_path / "a.png") == (4, 6)


def test_a_truth_drawn_on_the_image_as_it_lies_in_the_file_is_refused_with_the_reason(tmp_path):
    path = save(tmp_path / "a.png", 6)
    check_size_of_truth(tmp_path / "truth.png", (6, 4), path)
    with pytest.raises(InputError, match=r"truth\.png: 4x6 pixels, but its image has 6x4, turned by its EXIF orientation 6"):
        check_size_of_truth(tmp_path / "truth.png", (4, 6), path)
    with pytest.raises(InputError, match=r"5x5 pixels, but its image has 6x4, as .* use the truth of the same image"):
        check_size_of_truth(tmp_path / "truth.png", (5, 5), path)


def test_a_film_that_a_phone_has_turned_comes_upright(tmp_path):
    frame = np.zeros((48, 96, 3), np.uint8)
    frame[:, :48, 0] = 255  # the left half is red
    with video_writer(tmp_path / "a.mp4", 10) as write:
        write(frame)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # of the track, behind the fields of version 0
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # a quarter clockwise
    (tmp_path / "a.mp4").write_bytes(content)
    found = FrameReader(tmp_path / "a.mp4").read(0)
    assert found.shape == (96, 48, 3)
    assert found[2, 24, 0] > 200 > 50 > found[-3, 24, 0]


@pytest.mark.parametrize("turn", [3, 6])
def test_a_truth_to_which_a_tool_copied_the_tag_is_turned_with_its_image(tmp_path, turn):
    ids = np.arange(24, dtype=np.uint32).reshape(4, 6)
    image, truth = save(tmp_path / "a.png", turn), save(tmp_path / "truth.png", turn, ids_to_rgb(ids))
    found = read_segment_ids(truth)
    check_size_of_truth(truth, found.shape, image)
    np.testing.assert_array_equal(found, np.rot90(ids, -1 if turn == 6 else 2))
