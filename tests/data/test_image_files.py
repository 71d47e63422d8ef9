"""Images and videos that a path names: each gets an id of its own, and the frames of a video are images, too."""

import cv2
import numpy as np
import pytest
from PIL import Image

from data.layouts.image_files import ImageFiles, find_image_files
from data.split import Split
from data.videos import video_writer
from runtime.files import InputError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def ids_of(place) -> list[str]:
    return list(find_image_files(place))


def test_names_that_occur_once_are_ids_wherever_the_files_lie(tmp_path):
    touch(tmp_path, "b.jpg", "a.png", "deep/c.JPEG", "deep/er/d.mp4", "notes.txt", ".hidden.png")
    assert find_image_files(tmp_path) == {
        "a": tmp_path / "a.png",
        "b": tmp_path / "b.jpg",
        "c": tmp_path / "deep" / "c.JPEG",
        "d": tmp_path / "deep" / "er" / "d.mp4",
    }
    assert ids_of(f"{tmp_path}/*.jpg") == ["b"]
    assert ids_of(f"{tmp_path}/**/*.*") == ["a", "b", "c", "d"]


def test_the_suffix_of_cityscapes_is_no_part_of_an_id(tmp_path):
    touch(tmp_path, "ulm/ulm_000000_000019_leftImg8bit.png")
    assert ids_of(tmp_path) == ["ulm_000000_000019"]


def test_where_names_repeat_all_ids_are_paths(tmp_path):
    touch(tmp_path, "a/x.png", "b/x.jpg", "b/c/x.png", "b/y.png", "b/readme.txt", "b/.hidden.png")
    assert ids_of(tmp_path) == ["a/x", "b/c/x", "b/x", "b/y"]
    assert ids_of(f"{tmp_path}/*/x.*") == ["a/x", "b/x"]
    assert ids_of(f"{tmp_path}/b/**/x.*") == ["c/x", "x"]


def test_where_paths_repeat_all_ids_keep_their_suffix(tmp_path):
    touch(tmp_path, "x.png", "x.jpg", "y.png")
    assert ids_of(tmp_path) == ["x.jpg", "x.png", "y.png"]


def test_ids_that_differ_in_case_alone_are_equal(tmp_path):
    touch(tmp_path, "a/X.png", "b/x.png")
    assert ids_of(tmp_path) == ["a/X", "b/x"]


def test_a_file_is_named_without_its_folder(tmp_path):
    touch(tmp_path, "street.v2.png", "other.png")
    assert ids_of(tmp_path / "street.v2.png") == ["street.v2"]


@pytest.mark.parametrize("place", ["", "nothing.png", "*.png"])
def test_no_images_is_an_error(tmp_path, place):
    with pytest.raises(InputError, match="no images there; give a file, a folder or a glob"):
        find_image_files(f"{tmp_path}/{place}")


@pytest.fixture
def mixed(tmp_path):
    """An image and a video of three frames, each 20 brighter than the one before."""
    Image.fromarray(np.full((5, 7, 3), 9, np.uint8)).save(tmp_path / "z.png")
    with video_writer(tmp_path / "drive.mp4", 10) as write:
        for k in range(3):
            write(np.full((48, 64, 3), 60 + 20 * k, np.uint8))
    return tmp_path


def test_frames_of_a_video_are_images(mixed):
    split = ImageFiles(mixed)
    assert isinstance(split, Split)
    assert [split.image_id(k) for k in range(len(split))] == ["drive/000000", "drive/000001", "drive/000002", "z"]
    assert [split.file_name(k) for k in range(4)] == ["drive/000000.png", "drive/000001.png", "drive/000002.png", "z.png"]
    assert [split.video_of(k) for k in range(4)] == ["drive"] * 3 + [None]
    assert [split.size(k) for k in range(4)] == [(48, 64)] * 3 + [(5, 7)]
    for k in (2, 0, 1):  # in any order
        assert split.image(k).mean() == pytest.approx(60 + 20 * k, abs=9)  # lossy, but nearer than the next frame
    assert (split.image(3) == 9).all()


def test_images_without_truth_have_no_classes(mixed):
    split = ImageFiles(mixed)
    assert split.taxonomy is None
    assert not any(split.has_truth(k) for k in range(4))
    assert split.truth(0) is None
    with pytest.raises(InputError, match="has no truth, but it is needed"):
        split.truth_digest(3)


def test_each_frame_has_a_digest_that_follows_the_video(mixed):
    def digests() -> list[str]:
        split = ImageFiles(mixed)
        return [split.digest(k) for k in range(len(split))]

    before = digests()
    assert len(set(before)) == 4
    assert digests() == before
    with video_writer(mixed / "drive.mp4", 10) as write:
        for _ in range(3):
            write(np.zeros((48, 64, 3), np.uint8))
    assert [a == b for a, b in zip(before, digests(), strict=True)] == [False] * 3 + [True]


def test_of_a_video_that_is_cut_off_the_frames_that_are_left_are_images(tmp_path):
    path = tmp_path / "a.avi"  # which can be read up to its broken end
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    noise = np.random.default_rng(0)
    for _ in range(20):
        writer.write(noise.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    split = ImageFiles(tmp_path)
    (problem,) = split.problems
    assert 0 < len(split) < 15
    assert f"a.avi: only {len(split)} of 20 frames can be decoded; the video is cut off" in problem
    assert split.image(len(split) - 1).shape == (48, 64, 3)
