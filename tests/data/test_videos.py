"""Videos: frames in order or by number, written whole, and refused where they are cut off."""

import struct
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from data.videos import FrameReader, count_frames, open_video, video_writer
from runtime.files import InputError


def write_video(path, num_frames, size=(48, 64), rate=12.5):
    """Frames of one grey each, 20 brighter than the one before."""
    with video_writer(path, rate) as write:
        for k in range(num_frames):
            write(np.full((*size, 3), 20 * k, dtype=np.uint8))


def read_all(path):
    """All frames of a video."""
    reader = FrameReader(path)
    return [reader.read(k) for k in range(count_frames(path)[0])]


def test_frames_come_back_in_order(tmp_path):
    write_video(tmp_path / "a.mp4", 6)
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.num_frames, video.rate) == (6, 12.5)
        assert video.problem_with(6) is None
    levels = [float(frame.mean()) for frame in read_all(tmp_path / "a.mp4")]
    np.testing.assert_allclose(levels, [20 * k for k in range(6)], atol=9)  # lossy, but nearer than the next frame


@pytest.mark.parametrize("numbers", [(0, 1, 2, 3), (3, 0, 2, 2, 1), (2,)])
def test_frames_are_read_by_number_in_any_order(tmp_path, numbers):
    write_video(tmp_path / "a.mp4", 4)
    assert count_frames(tmp_path / "a.mp4") == (4, None)
    reader = FrameReader(tmp_path / "a.mp4")
    frames = read_all(tmp_path / "a.mp4")
    for number in numbers:
        assert np.array_equal(reader.read(number), frames[number])
    with pytest.raises(InputError, match=r"a\.mp4: frame 4 cannot be decoded"):
        reader.read(4)


def test_colours_are_red_green_blue(tmp_path):
    with video_writer(tmp_path / "a.mp4", 10) as write:
        write(np.full((48, 64, 3), (200, 30, 30), dtype=np.uint8))
    (frame,) = read_all(tmp_path / "a.mp4")
    np.testing.assert_allclose(frame.mean((0, 1)), (200, 30, 30), atol=6)


def test_odd_sides_lose_their_last_line(tmp_path):
    write_video(tmp_path / "a.mp4", 2, size=(47, 65))
    assert {frame.shape for frame in read_all(tmp_path / "a.mp4")} == {(46, 64, 3)}


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
    num_read, problem = count_frames(path)
    assert 0 < num_read < 15
    assert len(read_all(path)) == num_read
    assert f"only {num_read} of 20 frames can be decoded; the video is cut off" in problem


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be decoded as a video"), open_video(tmp_path / "a.mp4"):
        pass
    with pytest.raises(InputError, match="no such file"), open_video(tmp_path / "b.mp4"):
        pass
    with pytest.raises(InputError, match=r"a\.mp4: cannot be decoded as a video"):
        count_frames(tmp_path / "a.mp4")


def test_threads_read_one_video_side_by_side(tmp_path):
    write_video(tmp_path / "a.mp4", 12)
    frames = read_all(tmp_path / "a.mp4")
    reader = FrameReader(tmp_path / "a.mp4")
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(reader.read, [*range(12)] * 3))
    assert all(np.array_equal(read[k], frames[k % 12]) for k in range(36))


def test_a_film_that_is_to_be_turned_comes_upright(tmp_path):
    """As telephones write them: the pixels lie, and the header says by how much."""
    with video_writer(tmp_path / "a.mp4", 10) as write:
        for _ in range(3):
            write(np.repeat(np.uint8([200, 0]), 32)[:, None, None] * np.ones((1, 96, 3), np.uint8))
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    start = content.find(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # a quarter, clockwise
    (tmp_path / "a.mp4").write_bytes(content)
    frames = read_all(tmp_path / "a.mp4")
    assert [frame.shape for frame in frames] == 3 * [(96, 64, 3)]
    assert frames[0][:, 40:].mean() > 190  # what was above is on the right
    assert frames[0][:, :24].mean() < 10


def test_a_film_of_a_varying_rate_gives_all_its_frames_and_a_line(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", 12)
    count_frames(tmp_path / "a.mp4")
    assert capsys.readouterr().err == ""
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    start = content.find(b"stts") - 4
    size, _, _, num_entries, num_frames, duration = struct.unpack(">I4sIIII", content[start : start + 24])
    assert (size, num_entries, num_frames) == (24, 1, 12)
    # Eight frames of half the duration and four of the double one: as long as before.
    content[start : start + 24] = struct.pack(">I4sIIIIII", 32, b"stts", 0, 2, 8, duration // 2, 4, 2 * duration)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        start = content.find(name) - 4
        content[start : start + 4] = struct.pack(">I", struct.unpack(">I", content[start : start + 4])[0] + 8)
    (tmp_path / "a.mp4").write_bytes(content)
    assert len(read_all(tmp_path / "a.mp4")) == 12
    assert "a.mp4: its frames are 40 to 160 ms apart; each is predicted" in capsys.readouterr().err
