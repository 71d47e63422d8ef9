"""Panels and scores of a validation, read back from TensorBoard's event file."""

import io

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.instance_dump import InstanceLogits
from data.loading.datamodule import PanopticDataModule
from data.panoptic_png import PanopticMap, describe_segments
from data.semantic_dump import SemanticMap
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from panoptic_fpn.module import PanopticFPNModule
from panoptic_fpn.panels import OTHER_COLOR, draw_panel
from prediction.predictor import Prediction

INSTANCE_TERMS = ("rpn_objectness", "rpn_box", "roi_class", "roi_box", "roi_mask")


@pytest.fixture(scope="module")
def validated(learned, small, streets, tmp_path_factory) -> tuple[EventAccumulator, dict]:
    """TensorBoard's events of one validation of six images, a panel at each fourth, and Lightning's own scores."""
    folder = tmp_path_factory.mktemp("run")
    data = PanopticDataModule(str(streets), val_batch_size=1, num_workers=0, normalization="imagenet")
    data.has_instances = True
    module = PanopticFPNModule(CITYSCAPES, data.network_input, small, panels_every_n_steps=4)
    module.network.load_state_dict(learned[0].state_dict())
    options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", logger=TensorBoardLogger(folder, name="", version=""), **options)
    scores = trainer.validate(module, data, verbose=False)[0]
    trainer.logger.finalize("success")
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events, scores


@pytest.mark.slow
def test_every_nth_image_has_a_panel_named_after_it(validated, streets):
    events, _ = validated
    names = sorted(path.name.removesuffix("_leftImg8bit.png") for path in (streets / "leftImg8bit/val").rglob("*.png"))
    assert sorted(events.Tags()["images"]) == [f"val/{names[0]}", f"val/{names[4]}"]


@pytest.mark.slow
def test_a_panel_is_an_image_of_three_rows_of_two(validated):
    events, _ = validated
    tag = events.Tags()["images"][0]
    (shown,) = events.Images(tag)
    panel = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)))
    assert panel.shape == (shown.height, shown.width, 3)
    # Two columns of 128x256 images, enlarged, and three rows of them, with titles and the key below.
    column = shown.width / 2
    assert 3 * column / 2 < shown.height < 3 * column / 2 + 0.6 * column
    assert shown.width >= 960


@pytest.mark.slow
def test_losses_and_scores_are_there_by_name(validated):
    events, scores = validated
    tags = set(events.Tags()["scalars"])
    losses = {"val/loss", "val/loss_semantic", *(f"val/loss_{name}" for name in INSTANCE_TERMS)}
    qualities = {f"val/{name}{suffix}" for name in ("pq", "sq", "rq") for suffix in ("", "_things", "_stuff")}
    assert losses | qualities | {"val/miou", "val/ap", "val/ap50"} <= tags
    assert events.Scalars("val/pq")[-1].value == pytest.approx(scores["val/pq"])
    total = sum(scores[name] for name in losses - {"val/loss"})
    assert scores["val/loss"] == pytest.approx(total, rel=1e-5)
    assert 0 < scores["val/pq_stuff"] <= 1  # sky and road, which it has learned, are in every street
    assert 0 < scores["val/miou"] <= 1


def scene() -> tuple[np.ndarray, Prediction, PanopticMap]:
    """A grey image of a road with a car, which the prediction sees as "other" and finds twice, once with a low score."""
    ids = np.full((64, 128), 7, dtype=np.uint32)
    ids[20:40, 30:60] = 26001
    truth = PanopticMap(ids, describe_segments(ids, lambda i: 26 if i > 1000 else i))
    road, car = (CITYSCAPES.dataset_id_to_train_id[k] for k in (7, 26))
    semantic = np.where(ids == 7, road, VOID_TRAIN_ID).astype(np.uint8)
    boxes = np.array([[30, 20, 60, 40], [80, 50, 90, 60]], dtype=np.int32)
    crops = tuple(np.full((y2 - y1, x2 - x1), 4, np.float16) for x1, y1, x2, y2 in boxes.tolist())
    scores = np.array([0.9, 0.2], dtype=np.float32)
    crop_boxes = boxes[:, [1, 0, 3, 2]]
    found = InstanceLogits(
        "a", 64, 128, 1, CITYSCAPES.name, "test", np.array([car, car]), scores, boxes.astype(np.float32), crop_boxes, crops
    )
    class_map = SemanticMap("a", CITYSCAPES.name, "test", semantic)
    return np.full((64, 128, 3), 100, np.uint8), Prediction(truth, found, class_map), truth


def test_instances_below_the_limit_are_not_drawn():
    image, predicted, truth = scene()
    with_both, with_one = (draw_panel(image, predicted, truth, CITYSCAPES, min_score) for min_score in (0.1, 0.5))
    without = draw_panel(image, predicted, truth, CITYSCAPES, 0.95)
    assert with_both.shape == with_one.shape == without.shape
    # The two cars are in the left half of the first row, the second one below and to the right of the first.
    changed = [np.flatnonzero((a != b).any((1, 2))) for a, b in ((with_one, without), (with_both, with_one))]
    assert changed[0].min() < changed[1].min()
    assert max(rows.max() for rows in changed) < without.shape[0] / 3
    columns = np.flatnonzero((with_both != without).any((0, 2)))
    assert columns.max() < without.shape[1] / 2


def test_other_is_no_void():
    """Where the branch says "other", the semantic panel has its colour; the truth beside it has the car's."""
    panel = draw_panel(*scene(), CITYSCAPES, 0.5)
    middle = panel[panel.shape[0] // 3 : 2 * panel.shape[0] // 3]
    left, right = middle[:, : panel.shape[1] // 2], middle[:, panel.shape[1] // 2 :]
    assert (left == OTHER_COLOR).all(-1).sum() > 100
    car = next(c.color for c in CITYSCAPES.categories if c.name == "car")
    assert (right == car).all(-1).sum() > 100
    assert not (left == car).all(-1).any()


def test_an_image_without_objects_has_a_panel_too():
    image, predicted, _ = scene()
    none = InstanceLogits(
        "a", 64, 128, 1, CITYSCAPES.name, "test", np.zeros(0, int), np.zeros(0, np.float32), np.zeros((0, 4), np.float32),
        np.zeros((0, 4), np.int32), (),
    )  # fmt: skip
    road = np.full((64, 128), 7, dtype=np.uint32)
    empty = PanopticMap(road, describe_segments(road, int))
    panel = draw_panel(image, Prediction(empty, none, predicted.semantic), empty, CITYSCAPES, 0.5)
    assert panel.dtype == np.uint8
    assert panel.shape[2] == 3
