"""The COCO panoptic layout: what is written reads back, and files that do not fit are refused in one clear line."""

import json

import numpy as np
import pytest
from PIL import Image

from data.images import path_to_image_id
from data.panoptic_file import count_ids, read_panoptic_json, read_panoptic_map, write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, describe_segments, write_segment_ids
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, Category, Taxonomy
from runtime.files import InputError

CAR, ROAD = 26, 7


def small_map() -> PanopticMap:
    ids = np.zeros((6, 8), dtype=np.uint32)
    ids[4:], ids[2:4, 1:4], ids[1:3, 5:7] = ROAD, 26000, 26005
    return PanopticMap(ids, describe_segments(ids, lambda i: CAR if i > 1000 else i))


def write(folder, panoptic=None, taxonomy=CITYSCAPES):
    panoptic = panoptic or small_map()
    write_segment_ids(folder / "truth" / "x_panoptic.png", panoptic.segment_ids)
    entries = [("x", "x_leftImg8bit.png", "x_panoptic.png", panoptic.segment_ids.shape, panoptic.segments)]
    write_panoptic_json(folder / "truth.json", taxonomy, entries)
    return folder / "truth.json"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_reads_back(tmp_path):
    file = read_panoptic_json(write(tmp_path))
    assert file.taxonomy is CITYSCAPES
    assert file.image_files == {"x": "x_leftImg8bit.png"}
    panoptic = read_panoptic_map(file, "x")
    np.testing.assert_array_equal(panoptic.segment_ids, small_map().segment_ids)
    assert panoptic.segments == small_map().segments


def test_the_same_entries_give_the_same_bytes(tmp_path):
    first = write(tmp_path / "a").read_bytes()
    assert write(tmp_path / "b").read_bytes() == first


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_a_file_written_image_by_image_has_the_bytes_of_one_written_at_once(num_images, tmp_path):
    segments = [Segment(k + 1, ROAD, 12, (0, 0, 4, 3), False, score) for k, score in enumerate((None, 0.5))]
    entries = [(f"straße {k}", f"{k}.jpg", f"{k}.png", (3, 4), segments[:k]) for k in range(num_images)]
    write_panoptic_json(tmp_path / "a.json", CITYSCAPES, iter(entries))
    whole = {
        "images": [{"id": key, "file_name": image, "height": 3, "width": 4} for key, image, *_ in entries],
        "annotations": [
            {"image_id": key, "file_name": png, "segments_info": [s.to_json() for s in of_image]}
            for key, _, png, _, of_image in entries
        ],
        "categories": CITYSCAPES.to_coco_categories(),
    }
    assert (tmp_path / "a.json").read_text() == json.dumps(whole, indent=1) + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("categories", "annotations", "images")])
def test_a_file_reads_the_same_in_any_encoding_and_order(encoding, order, tmp_path):
    path = write(tmp_path)
    first = read_panoptic_json(path)
    wanted = dict(first.annotations), first.image_files
    content = json.loads(path.read_text())
    path.write_bytes(json.dumps({name: content[name] for name in order}, ensure_ascii=False).encode(encoding))
    found = read_panoptic_json(path)
    assert (dict(found.annotations), found.image_files) == wanted


def test_scores_and_whole_number_image_ids_survive(tmp_path):
    segment = Segment(5, 1, 12, (0, 0, 4, 3), True, 0.5)
    write_segment_ids(tmp_path / "a" / "1.png", np.full((3, 4), 5, np.uint32))
    write_panoptic_json(tmp_path / "a.json", COCO_PANOPTIC, [(139, "000000000139.jpg", "1.png", (3, 4), [segment])])
    file = read_panoptic_json(tmp_path / "a.json")
    assert file.taxonomy is COCO_PANOPTIC
    assert read_panoptic_map(file, 139).segments == (segment,)


def test_areas_are_counted_and_the_order_of_the_list_is_kept(tmp_path):
    def lie(content):
        infos = content["annotations"][0]["segments_info"]
        infos.reverse()
        infos[0]["area"] = 12345

    file = read_panoptic_json(edit(write(tmp_path), lie))
    assert read_panoptic_map(file, "x").segments == small_map().segments[::-1]


def test_a_listed_segment_of_id_zero_is_one_of_a_prediction_and_refused_in_a_truth(tmp_path):
    panoptic = small_map()
    num_zeros = int((panoptic.segment_ids == 0).sum())
    listed = PanopticMap(panoptic.segment_ids, (Segment(0, 23, num_zeros, (0, 0, 8, 4)), *panoptic.segments))
    path = write(tmp_path, listed)
    assert read_panoptic_map(read_panoptic_json(path, is_prediction=True), "x").segments == listed.segments
    with pytest.raises(InputError, match="id 0, which in the PNG is void; number the segments from 1"):
        read_panoptic_json(path)


def test_pixels_are_counted_by_id():
    ids = np.array([[3, 3, 0], [0, 3, 2**24 - 1]], dtype=np.uint32)
    assert count_ids(ids) == {0: 2, 3: 3, 2**24 - 1: 1}
    assert count_ids(np.zeros((0, 4), np.uint32)) == {}


@pytest.mark.parametrize(
    ("file_name", "image_id"),
    [
        ("frankfurt/frankfurt_000000_000294_leftImg8bit.png", "frankfurt_000000_000294"),
        ("frankfurt_000000_000294_gtFine_leftImg8bit.png", "frankfurt_000000_000294"),
        ("000000000139.jpg", "000000000139"),
    ],
)
def test_a_pictures_id_is_its_name(file_name, image_id):
    assert path_to_image_id(file_name) == image_id


def without_categories(tmp_path, category_ids):
    """A file whose segments 7, 26000, 26005 have these category ids, and that says nothing about classes."""

    def change(content):
        del content["categories"], content["images"]
        for info, category_id in zip(content["annotations"][0]["segments_info"], category_ids, strict=True):
            info["category_id"] = category_id

    return edit(write(tmp_path), change)


@pytest.mark.parametrize(
    ("category_ids", "name"),
    [
        ((0, 13, 13), "cityscapes_trainId"),
        ((7, 26, 26), "cityscapes"),
        ((7, 13, 13), "cityscapes_trainId"),  # all of them are ids too, but segment 26000 says that 13 is a car
    ],
)
def test_files_without_categories_are_read_as_cityscapes(tmp_path, category_ids, name):
    assert read_panoptic_json(without_categories(tmp_path, category_ids)).taxonomy.name == name


def test_a_taxonomy_may_be_given_for_a_file_without_categories(tmp_path):
    own = Taxonomy("own", (Category("floor", 50, False, (1, 2, 3)), Category("box", 51, True, (4, 5, 6))))
    path = without_categories(tmp_path, (50, 51, 51))
    with pytest.raises(InputError, match=r"has no `categories`, and category ids 50, 51 are not Cityscapes'; give a taxonomy"):
        read_panoptic_json(path)
    assert read_panoptic_json(path, taxonomy=own).taxonomy is own


BAD_JSONS = {
    "no annotations": (lambda c: c.pop("annotations"), "holds no list of `annotations`"),
    "empty annotations": (lambda c: c.update(annotations=[]), "`annotations` is empty"),
    "an image twice": (lambda c: c["annotations"].append(c["annotations"][0]), "image id 'x' occurs twice"),
    "a segment twice": (
        lambda c: c["annotations"][0]["segments_info"].append(c["annotations"][0]["segments_info"][0]),
        "segment ids 7 occur twice in image 'x'",
    ),
    "no segments": (lambda c: c["annotations"][0].pop("segments_info"), "lacks `segments_info`"),
    "segments no list": (lambda c: c["annotations"][0].update(segments_info=3), "has `segments_info` 3"),
    "no category": (lambda c: c["annotations"][0]["segments_info"][0].pop("category_id"), "needs whole numbers `id` and"),
    "a segment id of 25 bits": (lambda c: c["annotations"][0]["segments_info"][0].update(id=2**24), "holds 0..16777215"),
    "a box of text": (lambda c: c["annotations"][0]["segments_info"][0].update(bbox="wide"), "that is no number"),
    "an unknown category": (
        lambda c: c["annotations"][0]["segments_info"][0].update(category_id=99),
        r"category ids 99 of image 'x' are not in taxonomy cityscapes",
    ),
    "a category without a name": (lambda c: c["categories"][0].pop("name"), "`categories` do not read"),
    "a category twice": (lambda c: c["categories"].append(c["categories"][0]), "`categories` do not read"),
    "a parent folder": (lambda c: c["annotations"][0].update(file_name="../x.png"), "'../x.png' leaves its folder"),
    "an absolute path": (lambda c: c["annotations"][0].update(file_name="/etc/x.png"), "'/etc/x.png' leaves its folder"),
    "a drive": (lambda c: c["annotations"][0].update(file_name="C:\\x.png"), "leaves its folder"),
    "backslashes": (lambda c: c["annotations"][0].update(file_name="..\\x.png"), "leaves its folder"),
    "an image id of a list": (lambda c: c["annotations"][0].update(image_id=[1]), r"has `image_id` \[1\]"),
}


@pytest.mark.parametrize(("change", "message"), BAD_JSONS.values(), ids=BAD_JSONS)
def test_a_json_that_does_not_fit_is_refused(tmp_path, change, message):
    path = edit(write(tmp_path), change)
    with pytest.raises(InputError, match=message) as caught:
        read_panoptic_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"truth\.json: not valid JSON"):
        read_panoptic_json(path)


def test_a_missing_folder_is_named(tmp_path):
    path = write(tmp_path)
    (tmp_path / "truth").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"truth: no such folder, but the PNGs of truth\.json were looked for there"):
        read_panoptic_json(path)
    assert read_panoptic_map(read_panoptic_json(path, tmp_path / "elsewhere"), "x").segments == small_map().segments


def test_an_id_only_in_the_png_is_named(tmp_path):
    path = edit(write(tmp_path), lambda c: c["annotations"][0]["segments_info"].pop())
    with pytest.raises(InputError, match=r"x_panoptic.png and .*: segment ids 26005 are in the PNG, but not in the list"):
        read_panoptic_map(read_panoptic_json(path), "x")


def test_an_id_only_in_the_json_is_named(tmp_path):
    path = edit(write(tmp_path), lambda c: c["annotations"][0]["segments_info"].append({"id": 26009, "category_id": CAR}))
    with pytest.raises(InputError, match=r"x_panoptic.png and .*: segment ids 26009 are in the list, but not in the PNG"):
        read_panoptic_map(read_panoptic_json(path), "x")


def test_a_missing_png_is_named(tmp_path):
    file = read_panoptic_json(write(tmp_path))
    (tmp_path / "truth" / "x_panoptic.png").unlink()
    with pytest.raises(InputError, match=r"x_panoptic.png: no such file"):
        read_panoptic_map(file, "x")


def test_a_truncated_png_is_named(tmp_path):
    file = read_panoptic_json(write(tmp_path))
    png = tmp_path / "truth" / "x_panoptic.png"
    png.write_bytes(png.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"x_panoptic.png: cannot be decoded .* truncated"):
        read_panoptic_map(file, "x")


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "LA"])
def test_a_png_of_another_mode_is_named(tmp_path, mode):
    file = read_panoptic_json(write(tmp_path))
    Image.new(mode, (8, 6)).save(tmp_path / "truth" / "x_panoptic.png")
    with pytest.raises(InputError, match=r"x_panoptic.png: PNG mode .*a panoptic PNG is 8-bit RGB"):
        read_panoptic_map(file, "x")
