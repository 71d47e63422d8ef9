"""Results of other frameworks as stage 1: what is read and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from data.layouts.cityscapes import Frame
from data.taxonomy import CITYSCAPES
from prediction.sources import CocoResultInstances
from runtime.files import InputError

FRAME = Frame("town_000001_000019", Path("town_000001_000019_leftImg8bit.png"), None)
SIZE = (6, 8)
MASK = np.zeros(SIZE, dtype=np.uint8)
MASK[1:4, 2:7] = 1


def result(**changes) -> dict:
    rle = coco_mask.encode(np.asfortranarray(MASK))
    entry = {"image_id": FRAME.image_id, "category_id": 26, "score": 0.75}
    return entry | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}} | changes


def read(tmp_path: Path, content: object, images: list[dict] | None = None):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    images_json = None
    if images is not None:
        images_json = tmp_path / "annotations.json"
        images_json.write_text(json.dumps({"images": images}))
    return CocoResultInstances(path, CITYSCAPES, images_json).read(FRAME, SIZE)


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


def test_a_numbered_image_is_found_through_the_annotation_file(tmp_path):
    images = [{"id": 3, "file_name": "town/town_000001_000019_leftImg8bit.png"}, {"id": 4, "file_name": "x.png"}]
    assert len(read(tmp_path, [result(image_id=3), result(image_id=4)], images)) == 1


def test_an_image_without_results_has_no_instances(tmp_path):
    assert len(read(tmp_path, [result(image_id="another")])) == 0


@pytest.mark.parametrize(
    ("content", "images", "words"),
    [
        ({"annotations": []}, None, "a COCO result list was needed"),
        ([{"image_id": 1, "category_id": 26, "bbox": [0, 0, 1, 1], "score": 1}], None, "export masks, not boxes"),
        ([result(image_id=3)], None, "--instances-images"),
        ([result(image_id=9)], [{"id": 3, "file_name": "a.png"}], "image id 9"),
        ([result(category_id=7)], None, "category id 7, but things are"),
        ([result(segmentation={"size": [6, 9], "counts": "0"})], None, "size \\[6, 8\\]"),
        ([result(segmentation=[[0, 0, 5, 0, 5, 5]])], None, "an RLE"),
    ],
)
def test_results_that_do_not_fit_are_refused(tmp_path, content, images, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, content, images)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (result(score="high"), "score 'high'"),
        (result(score=float("nan")), "score nan"),
        (result(segmentation={"size": list(SIZE)}), "cannot be decoded"),
        (result(category_id=[26]), "category id"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, entry, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, [entry])
