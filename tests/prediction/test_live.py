"""Live: the newest frame is predicted, the others are dropped, and the overlays play as fast as what was seen."""

import time

import cv2
import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import CITYSCAPES
from data.videos import count_frames, video_writer
from prediction.live import predict_live
from prediction.predictor import Prediction
from runtime.files import InputError

RATE, NUM_FRAMES = 50, 40


class Slow:
    """Takes so many seconds for an image, which is road all over; keeps how bright each was."""

    taxonomy, min_score, gives = CITYSCAPES, None, ("panoptic",)

    def __init__(self, seconds: float):
        self.seconds, self.seen = seconds, []

    def predict(self, image_id, image):
        time.sleep(self.seconds)
        self.seen.append(int(image.mean()))
        ids = np.full(image.shape[:2], 7, np.uint32)
        return Prediction(PanopticMap(ids, describe_segments(ids, lambda k: k)))


@pytest.fixture
def film(tmp_path):
    """Frames that get brighter."""
    with video_writer(tmp_path / "film.mp4", RATE) as write:
        for k in range(NUM_FRAMES):
            write(np.full((64, 96, 3), 5 * k, np.uint8))
    return tmp_path / "film.mp4"


def test_a_slow_model_keeps_up_by_dropping_frames(film, tmp_path):
    model = Slow(0.1)  # five frames long
    summary = predict_live(str(film), model, tmp_path)
    assert summary.num_predicted == len(model.seen) < NUM_FRAMES / 2
    assert model.seen == sorted(model.seen)
    assert model.seen[-1] > 5 * NUM_FRAMES / 2  # it saw what is late in the film, too
    assert f"{summary.num_frames - summary.num_predicted} of {summary.num_frames} frames dropped" in summary.in_words()


def test_the_overlays_play_as_long_as_what_was_seen(film, tmp_path):
    summary = predict_live(str(film), Slow(0.05), tmp_path)
    num_frames, problem = count_frames(summary.path)
    assert problem is None
    assert summary.num_frames - 5 <= num_frames <= summary.num_frames  # an encoder may hold some back
    capture = cv2.VideoCapture(str(summary.path))
    assert capture.get(cv2.CAP_PROP_FPS) == RATE


def test_it_ends_after_so_many_frames(film, tmp_path):
    assert predict_live(str(film), Slow(0.0), tmp_path, most_frames=10).num_frames <= 10


@pytest.mark.parametrize(("place", "words"), [("99", "no camera of this number"), ("none.mp4", "no such file")])
def test_what_cannot_be_opened_is_refused_in_one_line(place, words, tmp_path):
    with pytest.raises(InputError, match=words):
        predict_live(place, Slow(0.0), tmp_path)
