"""inference.py: an image, a folder of odd sizes, a video; what is broken is named, and the others are done."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import path_to_image_id
from data.panoptic_file import read_panoptic_json, read_panoptic_map
from data.videos import FrameReader, count_frames, video_writer
from panoptic_fpn import inference

pytestmark = pytest.mark.slow
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
FLAGS = ("--device", "cpu", "--min-score", "0.2", "--min-stuff-area", "500")


@pytest.fixture
def call(checkpoint, tmp_path, monkeypatch):
    """Run the command on a place; return its output folder."""

    def run(place, *arguments) -> Path:
        output = tmp_path / "out"
        given = ("--images", place, "--checkpoint", checkpoint, "--output", output, *FLAGS, *arguments)
        monkeypatch.setattr(sys, "argv", ["inference.py", *map(str, given)])
        inference.main()
        return output

    return run


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def images(tmp_path, street_image) -> Path:
    """Odd sizes, grey, and the same name in two folders."""
    folder = tmp_path / "photos"
    save(folder / "monday/street.png", street_image[:97, :201])
    save(folder / "tuesday/street.jpg", street_image[::-1])
    save(folder / "grey.png", street_image[:, :31, 0])
    return folder


def test_a_folder_gets_png_json_and_overlay_under_names_of_their_own(call, images, capsys):
    output = call(images)
    file = read_panoptic_json(output / "panoptic.json")
    assert sorted(file.annotations) == ["grey", "monday/street", "tuesday/street"]
    sizes = {name: read_panoptic_map(file, name).segment_ids.shape for name in file.annotations}  # checks PNG against JSON
    assert sizes == {"grey": (128, 31), "monday/street": (97, 201), "tuesday/street": (128, 256)}
    for name in file.annotations:
        assert (output / "overlay" / f"{name}.png").is_file()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("checkpoint ")
    assert f"3 images, {images}" in lines[0]
    assert f"wrote {output / 'panoptic.json'}" in lines


def test_the_learned_street_is_seen(call, tmp_path, street_image):
    save(tmp_path / "in" / "street.png", street_image)
    output = call(tmp_path / "in" / "street.png")
    annotation = json.loads((output / "panoptic.json").read_text())
    names = {c["id"]: c["name"] for c in annotation["categories"]}
    found = {names[s["category_id"]] for s in annotation["annotations"][0]["segments_info"]}
    assert {"road", "sky"} <= found
    overlay = np.asarray(Image.open(output / "overlay" / "street.png"))
    assert overlay.shape[1] == 4 * street_image.shape[1]  # enlarged to about a thousand pixels
    assert overlay.shape[0] > 4 * street_image.shape[0]  # the legend


def test_a_broken_image_is_named_and_the_others_are_done(call, images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    with pytest.raises(SystemExit) as stopped:
        call(images)
    assert stopped.value.code.startswith("error: 1 of 4 images were left out, the first one: ")
    assert "broken.png" in stopped.value.code
    assert "\n" not in stopped.value.code
    assert "left out: " in capsys.readouterr().err
    file = read_panoptic_json(tmp_path / "out" / "panoptic.json")
    assert sorted(file.annotations) == ["grey", "monday/street", "tuesday/street"]


def test_nothing_but_broken_images_leaves_no_json(call, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.jpg").write_bytes(b"none")
    with pytest.raises(SystemExit):
        call(tmp_path / "in")
    assert not (tmp_path / "out" / "panoptic.json").exists()


def test_an_image_is_done_once(call, images):
    output = call(images)
    png = output / "panoptic" / "grey_panoptic.png"
    first = png.stat().st_mtime_ns
    call(images)
    assert png.stat().st_mtime_ns == first
    (output / "overlay" / "grey.png").unlink()
    call(images)
    assert png.stat().st_mtime_ns != first


def test_a_video_becomes_an_overlay_video(call, tmp_path, street_image):
    path = tmp_path / "drive.mp4"
    with video_writer(path, 10) as write:
        for k in range(4):
            write(np.roll(street_image, 8 * k, axis=1))
    output = call(path, "--frame-pngs")  # an older flag, of which all is done today
    drawn = output / "overlay" / "drive.mp4"
    assert count_frames(drawn) == (4, None)
    width = 4 * 256
    assert FrameReader(drawn).read(0).shape == (4 * 128 + width // 8, width, 3)
    file = read_panoptic_json(output / "panoptic.json")
    assert list(file.annotations) == [f"drive/{k:06d}" for k in range(4)]
    assert read_panoptic_map(file, "drive/000003").segment_ids.shape == (128, 256)


def test_the_older_spelling_names_images_too(call, tmp_path, street_image):
    save(tmp_path / "in" / "new.png", street_image)
    save(tmp_path / "in" / "old.png", street_image)
    output = call(tmp_path / "in" / "new.png", "--image-path", tmp_path / "in" / "old.png")
    assert list(read_panoptic_json(output / "panoptic.json").annotations) == ["old"]


def test_it_does_not_read_what_it_wrote(call, tmp_path, street_image, fails_in_one_line):
    save(tmp_path / "out" / "overlay" / "a.png", street_image)
    with pytest.raises(SystemExit, match="also finds images in the output"):
        call(tmp_path)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the real samples in ../shared/samples, which a user's clone has not")
def test_the_real_street_gets_a_map_of_its_size(call):
    image = SAMPLES / "street" / "dummy_000000_000000_leftImg8bit.png"
    output = call(image, "--shorter-side", "128", "--longer-side", "256")
    file = read_panoptic_json(output / "panoptic.json")
    size = Image.open(image).size[::-1]
    assert read_panoptic_map(file, path_to_image_id(image)).segment_ids.shape == size
