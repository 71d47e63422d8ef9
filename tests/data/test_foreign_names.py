"""Which files count, and how a file is found whose name is spelled another way; the same for every layout."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from data.layouts.cityscapes import find_images
from data.layouts.coco import CocoSplit
from data.layouts.image_files import ImageFiles, find_image_files
from data.panoptic_png import ids_to_rgb
from runtime.files import InputError, walk_files


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_hidden_files_and_those_of_systems_do_not_count(tmp_path):
    touch(tmp_path, "a.png", "B.JPG", "deep/c.png", "._a.png", ".ipynb_checkpoints/a.png", ".Trash-1000/a.png", "notes.txt")
    touch(tmp_path, "@eaDir/a.png/THUMB_M.jpg", "__MACOSX/._a.png", "__MACOSX/a.png", "$RECYCLE.BIN/a.png", "lost+found/a.png")
    assert walk_files(tmp_path, (".png", ".jpg")) == ["B.JPG", "a.png", "deep/c.png"]
    assert list(find_image_files(tmp_path)) == ["B", "a", "c"]
    assert list(find_image_files(f"{tmp_path}/**/*.*")) == ["B", "a", "c"]


def test_links_are_followed_and_their_loops_and_dead_ends_are_not(tmp_path):
    touch(tmp_path, "disk/b.png", "images/a.png")
    for name, target in {"more": "../disk", "link.png": "a.png", "dead.png": "nowhere.png", "loop": ".", "up": ".."}.items():
        (tmp_path / "images" / name).symlink_to(target)
    (tmp_path / "disk" / "back").symlink_to("../images")
    assert walk_files(tmp_path / "images", (".png",)) == ["a.png", "link.png", "more/b.png"]


def test_folders_that_link_to_each_other_are_visited_once(tmp_path):
    for k in range(12):
        touch(tmp_path, f"{k}/{k}.png")
        for other in range(12):
            (tmp_path / str(k) / f"to{other}").symlink_to(f"../{other}")
    assert len(walk_files(tmp_path)) == 12


@pytest.mark.parametrize("name", ["Screenshot 1.23\u202fPM.png", "a\u00a0b.png", "\u3000.png", "👩\u200d🔬.png"])
def test_names_that_people_give_their_images_are_taken(tmp_path, name):
    touch(tmp_path, name)
    Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert len(ImageFiles(tmp_path)) == 1


def test_an_image_whose_name_is_no_text_is_named_and_left_out(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for name in ("b\udcff.png", "b\n.png"):
        shutil.copy(tmp_path / "a.png", tmp_path / name)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    split = ImageFiles(tmp_path)
    assert [split.image_id(k) for k in range(len(split))] == ["a"]
    assert len(split.problems) == 2
    for problem in split.problems:
        assert "rename it" in problem
        assert problem.isprintable()


@pytest.fixture
def coco(tmp_path):
    """Writes a COCO layout: the names of its two images in the JSON, and on disk."""

    def write(listed, on_disk):
        for name in on_disk:
            (tmp_path / "val" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3)).save(tmp_path / "val" / name)
        folder = tmp_path / "annotations" / "panoptic_val"
        folder.mkdir(parents=True)
        for k in range(len(listed)):
            Image.fromarray(ids_to_rgb(np.ones((3, 4), int))).save(folder / f"{k}.png")
        segments = [{"id": 1, "category_id": 1}]
        content = {
            "images": [{"id": k, "file_name": name} for k, name in enumerate(listed)],
            "annotations": [{"image_id": k, "file_name": f"{k}.png", "segments_info": segments} for k in range(len(listed))],
            "categories": [{"id": 1, "name": "hall", "isthing": 0}],
        }
        (tmp_path / "annotations" / "panoptic_val.json").write_text(json.dumps(content))
        return CocoSplit(tmp_path, "val")

    return write


def test_composed_and_decomposed_names_are_one(coco):
    names = ["straße_ä.png", "café/é.png"]
    split = coco(names, [unicodedata.normalize("NFD", name) for name in names])
    assert [split.image_id(k) for k in range(2)] == ["straße_ä", "é"]
    assert split.image(1).shape == split.image(0).shape == (3, 4, 3)


def test_a_suffix_may_be_in_upper_case(coco):
    assert coco(["a.png", "b.png"], ["a.PNG", "b.png"]).image(0).shape == (3, 4, 3)


def test_images_of_one_name_in_several_folders_keep_them_in_their_ids(coco):
    split = coco(["0000/000000.png", "0001/000000.png"], ["0000/000000.png", "0001/000000.png"])
    assert [split.image_id(k) for k in range(2)] == ["0000/000000", "0001/000000"]


def test_one_image_is_listed_once(coco):
    with pytest.raises(InputError, match=r"named by more than one image, first 'a\.png'"):
        coco(["a.png", "a.png"], ["a.png"])


def test_cityscapes_may_be_kept_as_jpeg(tmp_path, draw):
    draw(tmp_path, "val", "ulm_000000_000019", np.full((4, 6), 7))
    path = find_images(tmp_path, "val")[0].image_path
    path.rename(path.with_suffix(".JPG"))
    touch(path.parent, f"._{path.name}")
    (image,) = find_images(tmp_path, "val")
    assert (image.image_id, image.image_path.suffix) == ("ulm_000000_000019", ".JPG")
    assert image.label_path.is_file()


def test_a_deep_glob_walks_as_a_folder_does(tmp_path):
    touch(tmp_path, "a/x.png", "a/b/y.png", "z.png", "a/.hidden/h.png", "a/n.txt")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "self.png").symlink_to("self.png")
    assert list(find_image_files(f"{tmp_path}/**/*.png")) == ["y", "x", "z"]
    assert list(find_image_files(f"{tmp_path}/a/**/*.png")) == ["y", "x"]
    assert list(find_image_files(f"{tmp_path}/**/b/[a-z].png")) == ["y"]
    assert list(find_image_files(tmp_path)) == ["y", "x", "z"]
