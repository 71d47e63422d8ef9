"""Scored soft masks survive their file, and a reader refuses what does not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from data.instance_dump import TENSORS, InstanceLogits, dump_path, from_full_logits, is_dumped_by, read_instances, write_instances
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC
from runtime.files import InputError

PERSON, CAR = (next(k for k, c in enumerate(CITYSCAPES.categories) if c.name == name) for name in ("person", "car"))
SIZE, STRIDE = (14, 22), 4  # a grid of 4x6, whose last row and column are cut


def some_logits(num_instances: int = 3) -> np.ndarray:
    logits = np.random.default_rng(0).normal(-2, 1, (num_instances, 4, 6)).astype(np.float32)
    for k in range(num_instances):
        logits[k, k : k + 2, k + 1 : k + 3] = 2 + k
    return logits


def make(logits: np.ndarray, train_ids: list[int], scores: list[float]) -> InstanceLogits:
    about = {"image_id": "city_1", "size": SIZE, "stride": STRIDE, "taxonomy": CITYSCAPES, "producer": "test"}
    return from_full_logits(logits, train_ids, scores, **about)


@pytest.fixture
def instances() -> InstanceLogits:
    return make(some_logits(), [CAR, PERSON, CAR], [0.3, 0.9, 0.5])


def assert_equal(first: InstanceLogits, second: InstanceLogits) -> None:
    for name, value in vars(first).items():
        if name == "crops":
            assert all(np.array_equal(a, b) for a, b in zip(value, second.crops, strict=True))
        else:
            assert np.array_equal(value, getattr(second, name)), name


def test_instances_survive_their_file(tmp_path, instances):
    write_instances(tmp_path, instances)
    assert_equal(read_instances(tmp_path, "city_1", CITYSCAPES, SIZE), instances)


def test_an_image_without_instances_survives_its_file(tmp_path):
    empty = make(np.zeros((0, 4, 6)), [], [])
    write_instances(tmp_path, empty)
    assert_equal(read_instances(tmp_path, "city_1", CITYSCAPES, SIZE), empty)


def test_the_same_instances_give_the_same_bytes(tmp_path, instances):
    first, second = (write_instances(tmp_path / folder, instances).read_bytes() for folder in "ab")
    assert first == second


def test_the_best_instance_comes_first(instances):
    assert instances.scores.tolist() == [np.float32(s) for s in (0.9, 0.5, 0.3)]
    assert instances.train_ids.tolist() == [PERSON, CAR, CAR]


def test_an_instance_without_a_mask_is_left_out():
    logits = some_logits(2)
    logits[0] = -1
    assert make(logits, [CAR, PERSON], [0.9, 0.5]).train_ids.tolist() == [PERSON]


def test_the_box_is_that_of_the_mask_and_stays_in_the_image():
    logits = np.full((1, 4, 6), -1.0)
    logits[0, 2:, 4:] = 1
    # Rows 2..3 and columns 4..5 of stride 4 begin at pixel (8, 16); the image ends at (14, 22).
    assert make(logits, [CAR], [1.0]).boxes.tolist() == [[16, 8, 22, 14]]


def test_a_crop_upsampled_in_its_box_equals_the_full_frame(instances):
    full = some_logits()[1]  # the instance with the best score
    upsampled = F.interpolate(torch.from_numpy(full)[None, None], scale_factor=STRIDE, mode="bilinear")[0, 0]
    y1, x1, y2, x2 = instances.crop_boxes[0].tolist()
    crop = torch.from_numpy(instances.crops[0].astype(np.float32))[None, None]
    inside = F.interpolate(crop, scale_factor=STRIDE, mode="bilinear")[0, 0]
    left, top, right, bottom = instances.boxes[0].astype(int).tolist()
    expected = upsampled[top:bottom, left:right]
    found = inside[top - STRIDE * y1 : bottom - STRIDE * y1, left - STRIDE * x1 : right - STRIDE * x1]
    torch.testing.assert_close(found, expected, rtol=0, atol=4e-3)  # float16 holds three digits
    assert (y2, x2) == (4, 5)


def test_a_missing_dump_is_named(tmp_path):
    with pytest.raises(InputError, match=r"city_1\.instances\.safetensors: no such dump"):
        read_instances(tmp_path, "city_1", CITYSCAPES)


def test_a_dump_cut_at_any_byte_is_refused(tmp_path, instances):
    path = write_instances(tmp_path, instances)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="broken instance-dump"):
            read_instances(tmp_path, "city_1", CITYSCAPES)
        assert not is_dumped_by(tmp_path, "city_1", "test")


def test_a_dump_knows_its_producer(tmp_path, instances):
    assert not is_dumped_by(tmp_path, "city_1", "test")
    write_instances(tmp_path, instances)
    assert is_dumped_by(tmp_path, "city_1", "test")
    assert not is_dumped_by(tmp_path, "city_1", "another checkpoint")


@pytest.mark.parametrize(
    ("image_id", "taxonomy", "size", "complaint"),
    [
        ("city_1", COCO_PANOPTIC, SIZE, "taxonomy is 'cityscapes', but 'coco_panoptic' was needed"),
        ("city_1", CITYSCAPES, (14, 23), "made for 14x22, but the image is 14x23"),
        ("city_2", CITYSCAPES, SIZE, "image_id is 'city_1', but 'city_2' was needed"),
    ],
)
def test_a_dump_of_something_else_is_refused(tmp_path, instances, image_id, taxonomy, size, complaint):
    write_instances(tmp_path, instances).rename(dump_path(tmp_path, image_id))
    with pytest.raises(InputError, match=complaint):
        read_instances(tmp_path, image_id, taxonomy, size)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scores": [0.9, np.nan, 0.3]}, "NaN or infinite"),
        ({"boxes": [[0, 0, np.inf, 1]] * 3}, "NaN or infinite"),
        ({"scores": [0.3, 0.5, 0.9]}, "scores must lie in 0..1 and descend"),
        ({"scores": [1.5, 0.5, 0.3]}, "scores must lie in 0..1 and descend"),
        ({"scores": [0.9, 0.5]}, "3 classes, 2 scores and 3 boxes"),
        ({"train_ids": [0, 1, 2]}, r"train ids \[0, 1, 2\], but things of cityscapes are"),
        ({"train_ids": [PERSON, CAR, 19]}, r"train ids \[19\]"),
        ({"crop_boxes": [[0, 0, 5, 6]] * 3}, "a crop leaves the 4x6 grid"),
        ({"crop_boxes": [[-1, 0, 3, 5]] * 3}, "a crop leaves the 4x6 grid"),
        ({"crop_boxes": [[2, 0, 2, 5]] * 3}, "a crop leaves the 4x6 grid or is empty"),
        ({"crop_boxes": [[0, 0, 1, 1]] * 3}, "logits do not fill the crops"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, instances, changes, complaint):
    arrays = {name: np.array(value, dtype=getattr(instances, name).dtype) for name, value in changes.items()}
    write_instances(tmp_path, replace(instances, **arrays))
    with pytest.raises(InputError, match=complaint):
        read_instances(tmp_path, "city_1", CITYSCAPES)


def test_nan_logits_are_refused(tmp_path, instances):
    instances.crops[1][0, 0] = np.nan
    write_instances(tmp_path, instances)
    with pytest.raises(InputError, match="NaN or infinite values; dump again with a model that works"):
        read_instances(tmp_path, "city_1", CITYSCAPES)


def test_a_logit_that_float16_cannot_hold_stays_finite(tmp_path, instances):
    write_instances(tmp_path, make(1e6 * some_logits(), [CAR] * 3, [0.9, 0.5, 0.3]))
    crops = read_instances(tmp_path, "city_1", CITYSCAPES, SIZE).crops
    assert max(crop.max() for crop in crops) == 60000


@pytest.mark.parametrize("box", [[0, 0, 22, 14], [6, 6, 6, 9], [-5, 4, 8, 9]])
def test_a_box_outside_its_crop_is_refused(tmp_path, instances, box):
    write_instances(tmp_path, replace(instances, boxes=np.array([box] * len(instances), dtype=np.float32)))
    with pytest.raises(InputError, match="leaves its crop or is empty"):
        read_instances(tmp_path, "city_1", CITYSCAPES, SIZE)


@pytest.mark.parametrize("stride", [0, -4, "4", 2.5])
def test_a_stride_that_is_no_whole_number_is_refused(tmp_path, instances, stride):
    write_instances(tmp_path, replace(instances, stride=stride))
    with pytest.raises(InputError, match="whole numbers above 0"):
        read_instances(tmp_path, "city_1", CITYSCAPES)


ODD_TENSORS = {
    "crop boxes of 8 bits": {"crop_boxes": torch.zeros(3, 4, dtype=torch.uint8)},
    "logits as whole numbers": {"logits": torch.zeros(27, dtype=torch.int16)},
    "logits of bfloat16": {"logits": torch.zeros(27, dtype=torch.bfloat16)},
    "scores of 64 bits": {"scores": torch.zeros(3, dtype=torch.float64)},
    "complex boxes": {"boxes": torch.zeros(3, 4, dtype=torch.complex64)},
    "a number alone": {"scores": torch.tensor(0.5)},
    "crop boxes in a row": {"crop_boxes": torch.zeros(12, dtype=torch.int32)},
    "boxes of three numbers": {"boxes": torch.zeros(3, 3)},
    "classes in a table": {"train_ids": torch.zeros(3, 1, dtype=torch.int64)},
}


@pytest.mark.parametrize("changes", ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_a_tensor_of_another_form_than_the_format_says_is_refused(tmp_path, instances, changes):
    path = write_instances(tmp_path, instances)
    with safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in TENSORS}, file.metadata()
    save_file(tensors | changes, path, about)
    with pytest.raises(InputError, match=r"needed; dump again|must be \(N, 4\)"):
        read_instances(tmp_path, "city_1", CITYSCAPES, SIZE)


ODD_HEADERS = {
    "a side that is a flag": {"height": True},
    "a producer that is a number": {"producer": 1},
    "a side beyond all images": {"width": 2**40},
    "lists in lists": {"producer": json.loads("[" * 500 + "]" * 500)},
}


@pytest.mark.parametrize("changes", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_a_header_of_another_form_is_refused(tmp_path, instances, changes):
    path = write_instances(tmp_path, instances)
    with safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in TENSORS}, json.loads(file.metadata()["header"])
    save_file(tensors, path, {"header": json.dumps(about | changes)})
    with pytest.raises(InputError, match="must be"):
        read_instances(tmp_path, "city_1", CITYSCAPES)


@pytest.mark.parametrize("header", ["[" * 3000, "9" * 5000, "[]", "{}", "null"])
def test_a_header_that_is_none_is_refused(tmp_path, header):
    save_file({"a": torch.zeros(1)}, dump_path(tmp_path, "city_1"), {"header": header})
    with pytest.raises(InputError):
        read_instances(tmp_path, "city_1", CITYSCAPES)
