"""Batches: images of one size go through a network together, give what they give alone, and fail alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.find import open_data_set
from prediction.batches import Batches, networks_of, set_batch_size
from prediction.fused import FusedPredictor
from prediction.predictor import NetworkPredictor
from runtime.files import InputError
from tests.systems import SYSTEMS, build_system

LARGEST_DIFFERENCE = 1e-4
"""Of a logit: sums of float32 that are added in another order."""
LARGEST_SHARE = 1e-4
"""Of the pixels of a panoptic map, where two classes are as good as equal."""


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return open_data_set(ensure_streets(tmp_path_factory.mktemp("s"), StreetsSettings(128, 256, num_train=1, num_val=4))).split()


def image_of(height: int) -> np.ndarray:
    return np.full((height, 8, 3), height, np.uint8)


class Recorder:
    """Holds the first batch until all have asked, and keeps what was run together."""

    def __init__(self, size: int, num_requests: int):
        self.batches, self.may_go = [], threading.Event()
        self.gives = Batches(self.run, size)
        self.num_requests = num_requests

    def run(self, images):
        self.may_go.wait(10)
        self.batches.append([image_id for image_id, _ in images])
        if any(image_id == "broken" for image_id, _ in images):
            raise InputError("broken")
        assert len({image.shape for _, image in images}) == 1
        return [f"{image_id} is {len(image)} high" for image_id, image in images]

    def ask_all(self, images):
        with ThreadPoolExecutor(self.num_requests) as pool:
            found = []
            for image_id, image in images:
                found.append(pool.submit(self.gives, image_id, image))
                time.sleep(0.01)  # so that they wait in this order
            self.may_go.set()
            return [f.exception() or f.result()[0] for f in found]


def test_images_of_one_size_that_wait_together_are_run_together():
    images = [(str(k), image_of(4 + k % 2)) for k in range(9)]
    recorder = Recorder(3, len(images))
    assert recorder.ask_all(images) == [f"{k} is {4 + k % 2} high" for k in range(9)]
    assert recorder.batches[0] == ["0"]  # it came when nothing waited
    assert all(len(batch) <= 3 for batch in recorder.batches)
    assert sorted(name for batch in recorder.batches for name in batch) == [str(k) for k in range(9)]
    assert len(recorder.batches) == 1 + 2 + 2  # of height 4 three and one beside the first, of height 5 three and one


def test_an_image_that_fails_spoils_no_other_one():
    images = [("a", image_of(4)), ("b", image_of(4)), ("broken", image_of(4)), ("c", image_of(4))]
    found = Recorder(4, 4).ask_all(images)
    assert [str(f) for f in found] == ["a is 4 high", "b is 4 high", "broken", "c is 4 high"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_batch_gives_what_its_images_give_alone(system, split, tmp_path):
    predictor = build_system(system, split.root, tmp_path)
    images = [(split.image_id(k), split.image(k)) for k in range(4)]
    networks = list(networks_of(predictor))
    assert {isinstance(network, NetworkPredictor) for network in networks} == {True}
    for network in networks:
        alone = [network.predict(*image) for image in images]
        together = network.predict_batch(images)
        for one, other in zip(alone, together, strict=True):
            for part in network.gives:
                compare(getattr(one, part), getattr(other, part))


def compare(one, other) -> None:
    if hasattr(one, "logits"):
        np.testing.assert_allclose(one.logits, other.logits, atol=LARGEST_DIFFERENCE * max(1, np.abs(one.logits).max()))
    elif hasattr(one, "crops"):
        np.testing.assert_allclose(np.sort(one.scores), np.sort(other.scores), atol=LARGEST_DIFFERENCE)
    else:
        name = "segment_ids" if hasattr(one, "segment_ids") else "train_ids"
        assert (getattr(one, name) != getattr(other, name)).mean() <= LARGEST_SHARE


def test_the_batch_size_reaches_both_networks(split, tmp_path):
    predictor = build_system("two stages", split.root, tmp_path)
    assert isinstance(predictor, FusedPredictor)
    assert set_batch_size(predictor, 3) == 2
    assert predictor.instances.batch_size == predictor.semantics.batch_size == 3
