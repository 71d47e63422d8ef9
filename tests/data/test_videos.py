"""Pictures and videos get names of their own, a command never reads what it writes, and videos survive being cut off."""

import cv2
import numpy as np
import pytest

from data.videos import check_outside, find_footage, open_video, video_writer
from runtime.files import InputError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names_of(place) -> list[str]:
    return [footage.name for footage in find_footage(place)]


def test_equal_names_in_different_folders_stay_apart(tmp_path):
    touch(tmp_path, "a/x.png", "b/x.jpg", "b/c/x.png", "b/readme.txt", "b/.hidden.png")
    assert names_of(tmp_path) == ["a/x", "b/c/x", "b/x"]
    assert names_of(f"{tmp_path}/*/x.*") == ["a/x", "b/x"]


def test_equal_names_in_one_folder_keep_their_suffix(tmp_path):
    touch(tmp_path, "x.png", "x.jpg", "y.png")
    assert names_of(tmp_path) == ["x.jpg", "x.png", "y.png"]


def test_a_file_is_named_without_its_folder(tmp_path):
    touch(tmp_path, "street.v2.png", "drive.mp4")
    assert names_of(tmp_path / "street.v2.png") == ["street.v2"]
    assert [f.is_video for f in find_footage(tmp_path)] == [True, False]


@pytest.mark.parametrize("place", ["", "nothing.png", "*.png"])
def test_no_pictures_is_an_error(tmp_path, place):
    with pytest.raises(InputError, match="no pictures there; give a file, a folder or a glob"):
        find_footage(f"{tmp_path}/{place}")


def test_the_output_is_not_the_input(tmp_path):
    inside = tmp_path / "out" / "overlay" / "x.png"
    check_outside(tmp_path, [tmp_path / "x.png"], tmp_path / "out")
    with pytest.raises(InputError, match="also finds pictures in the output"):
        check_outside(tmp_path, [tmp_path / "x.png", inside], tmp_path / "out")


def write_video(path, num_frames, size=(48, 64), rate=12.5):
    """Frames of one grey each, 20 brighter than the one before."""
    with video_writer(path, rate) as write:
        for k in range(num_frames):
            write(np.full((*size, 3), 20 * k, dtype=np.uint8))


def test_frames_come_back_in_order(tmp_path):
    write_video(tmp_path / "a.mp4", 6)
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.num_frames, video.rate) == (6, 12.5)
        levels = [float(frame.mean()) for frame in video.frames()]
        video.check_length(len(levels))
    np.testing.assert_allclose(levels, [20 * k for k in range(6)], atol=9)  # lossy, but nearer than the next frame


def test_colours_are_red_green_blue(tmp_path):
    with video_writer(tmp_path / "a.mp4", 10) as write:
        write(np.full((48, 64, 3), (200, 30, 30), dtype=np.uint8))
    with open_video(tmp_path / "a.mp4") as video:
        (frame,) = video.frames()
    np.testing.assert_allclose(frame.mean((0, 1)), (200, 30, 30), atol=6)


def test_odd_sides_lose_their_last_line(tmp_path):
    write_video(tmp_path / "a.mp4", 2, size=(47, 65))
    with open_video(tmp_path / "a.mp4") as video:
        assert {frame.shape for frame in video.frames()} == {(46, 64, 3)}


def test_an_interrupted_video_leaves_no_file(tmp_path):
    def interrupted():
        with video_writer(tmp_path / "a.mp4", 10) as write:
            write(np.zeros((48, 64, 3), dtype=np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_is_cut_off_says_how_much_is_left(tmp_path):
    """An .avi can be read up to its broken end."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    noise = np.random.default_rng(0)
    for _ in range(20):
        writer.write(noise.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_video(path) as video:
        num_read = sum(1 for _ in video.frames())
        assert 0 < num_read < 15
        with pytest.raises(InputError, match=f"only {num_read} of 20 frames can be decoded; the video is cut off"):
            video.check_length(num_read)


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be decoded as a video"), open_video(tmp_path / "a.mp4"):
        pass
    with pytest.raises(InputError, match="no such file"), open_video(tmp_path / "b.mp4"):
        pass
