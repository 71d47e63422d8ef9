"""Predictions that somebody else has made: what is read, what is refused, and when it counts as another."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from data.instance_dump import write_instances
from data.layouts.coco import CocoSplit
from data.layouts.find import open_data_set
from data.layouts.image_files import ImageFiles
from data.semantic_dump import write_semantic
from data.split import FileSplit
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from fusion.logit_fusion import semantic_argmax
from prediction.predictor import Predictor
from prediction.sources.coco_results import CocoResults
from prediction.sources.dumps import DumpedInstances, DumpedSemantics
from prediction.sources.foreign import MappedInstances
from prediction.sources.truth import Truth
from runtime.files import InputError

IMAGE_ID = "town_000001_000019"
SIZE = (6, 8)
IMAGE = np.zeros((*SIZE, 3), np.uint8)
MASK = np.zeros(SIZE, dtype=np.uint8)
MASK[1:4, 2:7] = 1


def result(**changes) -> dict:
    rle = coco_mask.encode(np.asfortranarray(MASK))
    entry = {"image_id": IMAGE_ID, "category_id": 26, "score": 0.75}
    return entry | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}} | changes


class Images(FileSplit):
    """One image, or as many as there are ids."""

    name = "val of somewhere"

    def __init__(self, *image_ids: str):
        self.image_ids = image_ids or (IMAGE_ID,)

    def __len__(self):
        return len(self.image_ids)

    def image_id(self, index):
        return self.image_ids[index]

    def image_path(self, index):
        return Path(f"town/{self.image_ids[index]}_leftImg8bit.png")


def source(
    tmp_path: Path, content: object, images: list[dict] | None = None, split: FileSplit | None = None, **others
) -> MappedInstances:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    images_json = None
    if images is not None:
        images_json = tmp_path / "annotations.json"
        images_json.write_text(json.dumps({"images": images, **others}))
    return MappedInstances(CocoResults(path, split or Images(), images_json), CITYSCAPES)


def read(tmp_path: Path, content: object, images: list[dict] | None = None):
    return source(tmp_path, content, images).predict(IMAGE_ID, IMAGE).instances


def test_a_compressed_and_an_uncompressed_rle_give_the_same_mask(tmp_path):
    runs, value, counts = MASK.ravel(order="F"), 0, [0]
    for pixel in runs:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    for segmentation in (result()["segmentation"], {"size": list(SIZE), "counts": counts}):
        instances = read(tmp_path, [result(segmentation=segmentation)])
        assert instances.boxes.tolist() == [[2, 1, 7, 4]]
        assert instances.scores.tolist() == [0.75]
        assert [CITYSCAPES.categories[i].name for i in instances.train_ids] == ["car"]
        assert (instances.crops[0] > 0).sum() == MASK.sum()


def test_polygons_are_masks_too(tmp_path):
    assert read(tmp_path, [result(segmentation=[[2, 1, 7, 1, 7, 4, 2, 4]])]).boxes.tolist() == [[2, 1, 7, 4]]


def test_a_numbered_image_is_found_through_the_annotation_file(tmp_path):
    images = [{"id": 3, "file_name": "town/town_000001_000019_leftImg8bit.png"}, {"id": 4, "file_name": "x.png"}]
    assert len(read(tmp_path, [result(image_id=3), result(image_id=4)], images)) == 1


NAMES = {
    "the image's id": IMAGE_ID,
    "its file name": f"{IMAGE_ID}_leftImg8bit.png",
    "its path": f"leftImg8bit/val/town/{IMAGE_ID}_leftImg8bit.png",
    "a path of Windows": f"val\\town\\{IMAGE_ID}.jpg",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_image_may_be_named_in_many_ways(tmp_path, name):
    assert len(read(tmp_path, [result(image_id=name)])) == 1


def test_a_dot_in_a_name_is_a_part_of_it(tmp_path):
    split = Images("cam0.000123", "cam0.000124")
    found = source(tmp_path, [result(image_id="cam0.000123"), result(image_id="cam0.000123", score=0.5)], None, split)
    assert [len(found.predict(image_id, IMAGE).instances) for image_id in split.image_ids] == [2, 0]


@pytest.mark.parametrize("image_id", [139, "139", "000000000139", "000000000139.jpg"])
def test_a_number_is_the_same_with_zeros_in_front_and_as_text(tmp_path, image_id):
    split = Images("000000000139", "000000000285")
    assert len(source(tmp_path, [result(image_id=image_id)], None, split).predict("000000000139", IMAGE).instances) == 1


@pytest.mark.parametrize("own", [3, "3"])
@pytest.mark.parametrize("other", [3, "3"])
def test_a_number_of_the_annotation_file_may_have_become_text(tmp_path, own, other):
    assert len(read(tmp_path, [result(image_id=other)], [{"id": own, "file_name": f"{IMAGE_ID}.png"}])) == 1


def test_results_of_which_some_fit_no_image_say_how_many(tmp_path):
    split = Images(IMAGE_ID, "town_000002_000019", "town_000003_000019")
    found = source(tmp_path, [result(), result(image_id="a"), result(image_id="b")], None, split)
    assert any("2 images in" in note and "such as a, b; left out" in note for note in found.notes)
    assert any("2 of 3 images of val of somewhere have no result" in note for note in found.notes)
    assert any("classes by number, 26 for car" in note for note in found.notes)
    assert len(found.predict("town_000002_000019", IMAGE).instances) == 0


def test_results_without_any_object_are_none(tmp_path):
    assert len(read(tmp_path, [])) == 0


def test_results_of_another_split_are_refused(tmp_path):
    with pytest.raises(InputError, match="none of its images is one of val of somewhere: another against town_000001_000019"):
        source(tmp_path, [result(image_id="another")])


def test_a_name_that_fits_two_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="'000000' could be 0001/000000, 0002/000000"):
        source(tmp_path, [result(image_id="000000")], None, Images("0001/000000", "0002/000000"))


def test_classes_of_another_name_are_refused_where_the_annotation_file_names_them(tmp_path):
    images = [{"id": 3, "file_name": f"{IMAGE_ID}.png"}]
    with pytest.raises(InputError, match=r"zebra is none of our classes; give --instances-classes"):
        source(tmp_path, [result(image_id=3)], images, categories=[{"id": 26, "name": "zebra"}, {"id": 1, "name": "person"}])
    assert source(tmp_path, [result(image_id=3)], images, categories=[{"id": 26, "name": "car"}]).notes


@pytest.mark.parametrize(
    ("content", "images", "words"),
    [
        ({"annotations": []}, None, "holds no list of results; give a COCO result list"),
        ([{"image_id": 1, "category_id": 26, "bbox": [0, 0, 1, 1], "score": 1}], None, "with masks, not boxes"),
        ([result(image_id=3)], None, "--instances-images"),
        ([result(image_id=9)], [{"id": 3, "file_name": "a.png"}], "none of its images is one of .*: 9 against"),
        ([result(image_id=9)], [{"id": 3}], "entry 0 of `images` lacks `file_name`"),
        ([result(category_id=7)], None, "none of its classes is one of our things"),
        ([result(segmentation={"size": [6, 9], "counts": [54]})], None, r"size \[6, 9\], but its image is \[6, 8\]"),
        ([result(segmentation=[[0, 0, 5, 0, 5]])], None, "polygon"),
        ([result(score="high")], None, "score 'high', but 0 to 1"),
        ([result(score=float("nan"))], None, "score nan"),
        ([result(segmentation={"size": list(SIZE)})], None, "has counts None"),
        ([result(category_id=[26])], None, "`category_id`"),
    ],
)
def test_results_that_do_not_fit_are_refused(tmp_path, content, images, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, content, images)


def test_results_are_others_once_one_of_the_files_changes(tmp_path):
    images = [{"id": 3, "file_name": "a.png"}]
    found = [
        source(tmp_path, [result()], images).fingerprint(IMAGE_ID),
        source(tmp_path, [result(score=0.5)], images).fingerprint(IMAGE_ID),
        source(tmp_path, [result(score=0.5)], [{"id": 3, "file_name": "b.png"}]).fingerprint(IMAGE_ID),
    ]
    assert len(set(found)) == 3
    assert source(tmp_path, [result()], images).fingerprint(IMAGE_ID) == found[0]


@pytest.fixture(params=["cityscapes", "coco"])
def split(request):
    """The validation split of each layout."""
    return open_data_set(request.getfixturevalue({"cityscapes": "streets", "coco": "snapshots"}[request.param])).split()


def test_the_truth_says_what_the_labels_say(split):
    predictor = Truth(split, stride=1)
    assert isinstance(predictor, Predictor)
    for index in range(2):
        truth, found = split.truth(index), predictor.predict(split.image_id(index), split.image(index))
        assert found.panoptic.segments == truth.segments
        things = [s for s in truth.segments if split.taxonomy.is_thing[split.taxonomy.dataset_id_to_train_id[s.category_id]]]
        assert len(found.instances) == sum(not s.is_crowd for s in things)
        expected = panoptic_to_semantic(truth, split.taxonomy)
        is_known = expected != VOID_TRAIN_ID
        assert np.array_equal(semantic_argmax(found.semantic, split.taxonomy)[is_known], expected[is_known])


def test_the_truth_of_images_that_have_none_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="has no truth; give dumps or a model instead"):
        Truth(ImageFiles(tmp_path))


def test_the_fingerprint_of_the_truth_follows_the_labels_and_the_stride(split):
    ids = [split.image_id(index) for index in range(2)]
    prints = [Truth(split, stride).fingerprint(image_id) for stride in (1, 4) for image_id in ids]
    assert len(set(prints)) == 4


@pytest.fixture
def dumps(snapshots, tmp_path):
    """A split, and a run folder with the truth of its first image as dumps."""
    split = CocoSplit(snapshots, "val2017")
    about = {"image_id": split.image_id(0), "stride": 4, "producer": "test"}
    write_instances(tmp_path / "run/instances", panoptic_to_instance_logits(split.truth(0), split.taxonomy, **about))
    write_semantic(tmp_path / "run/semantic", panoptic_to_semantic_logits(split.truth(0), split.taxonomy, **about))
    return split, tmp_path / "run"


@pytest.mark.parametrize("inner", [("", ""), ("instances", "semantic")], ids=["run", "folder"])
def test_dumps_are_read_from_their_folder_or_from_the_run_that_kept_them(dumps, inner):
    split, run = dumps
    (run / "run.json").write_text(json.dumps({"min_score": 0.5, "instances_min_score": 0.35}))
    instances, semantics = DumpedInstances(run / inner[0], split.taxonomy), DumpedSemantics(run / inner[1], split.taxonomy)
    image_id, image = split.image_id(0), split.image(0)
    expected = Truth(split).predict(image_id, image)
    assert len(instances.predict(image_id, image).instances) == len(expected.instances)
    found = semantics.predict(image_id, image).semantic.logits
    assert np.array_equal(np.argmax(found, 0), np.argmax(expected.semantic.logits.astype(np.float16), 0))
    assert instances.min_score == 0.35
    assert isinstance(instances, Predictor)
    assert isinstance(semantics, Predictor)


@pytest.mark.parametrize("inner", ["", "instances"])
def test_dumps_that_an_earlier_run_left_are_refused(dumps, inner):
    split, run = dumps
    (run / "run.json").write_text(json.dumps({"kept": ["panoptic"]}))
    with pytest.raises(InputError, match=r"instances: is of an earlier run, as .*run\.json says; predict with --keep instances"):
        DumpedInstances(run / inner, split.taxonomy)


def test_a_dump_of_another_content_has_another_fingerprint_and_an_absent_one_is_refused(dumps):
    split, run = dumps
    image_id = split.image_id(0)
    predictors = DumpedInstances(run, split.taxonomy), DumpedSemantics(run, split.taxonomy)
    before = [p.fingerprint(image_id) for p in predictors]
    about = {"image_id": image_id, "stride": 4, "producer": "another"}
    write_instances(run / "instances", panoptic_to_instance_logits(split.truth(0), split.taxonomy, **about))
    write_semantic(run / "semantic", panoptic_to_semantic_logits(split.truth(0), split.taxonomy, **about))
    assert all(p.fingerprint(image_id) != old for p, old in zip(predictors, before, strict=True))
    for predictor in predictors:
        with pytest.raises(InputError, match="no such file"):
            predictor.fingerprint(split.image_id(1))


def test_a_folder_without_dumps_is_refused(dumps, tmp_path):
    split, run = dumps
    (tmp_path / "empty").mkdir()
    for kind, name in ((DumpedInstances, "instances"), (DumpedSemantics, "semantic")):
        with pytest.raises(InputError, match=f"no {name} dumps there; predict them first"):
            kind(tmp_path / "empty", split.taxonomy)
    with pytest.raises(InputError, match="no instances dumps there"):
        DumpedInstances(run / "semantic", split.taxonomy)


def test_a_folder_that_lies_in_a_run_but_is_no_part_of_it_does_not_follow_it(dumps):
    split, run = dumps
    (run / "run.json").write_text(json.dumps({"kept": ["panoptic"], "instances_min_score": 0.35}))
    (run / "instances").rename(run / "mine")
    assert DumpedInstances(run / "mine", split.taxonomy).min_score is None


@pytest.mark.parametrize("categories", [[{"id": "26", "name": "zebra"}], [{"id": 26.0, "name": "zebra"}], {"26": "zebra"}])
def test_classes_whose_ids_became_text_are_compared_as_well(tmp_path, categories):
    images = [{"id": 3, "file_name": f"{IMAGE_ID}.png"}]
    with pytest.raises(InputError, match="zebra is none of our classes"):
        source(tmp_path, [result(image_id=3)], images, categories=categories)


def test_an_annotation_file_that_gives_one_number_to_two_images_is_refused(tmp_path):
    images = [{"id": 3, "file_name": f"{IMAGE_ID}.png"}, {"id": 3, "file_name": "other.png"}]
    with pytest.raises(InputError, match=r"image id 3 is .* and other.png; keep one"):
        source(tmp_path, [result(image_id=3)], images)


def test_polygons_in_shares_of_the_image_are_refused(tmp_path):
    with pytest.raises(InputError, match="is in shares of 1, but pixels were needed"):
        read(tmp_path, [result(segmentation=[[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]])])


def test_two_names_of_one_image_are_refused(tmp_path):
    names = [f"{IMAGE_ID}.png", f"x/{IMAGE_ID}.png"]
    with pytest.raises(InputError, match="would both be image"):
        source(tmp_path, [result(image_id=name) for name in names])
