"""The stages: actors that hold one network each, and the fusion of what they say of an image."""

import gc
import json
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy
from prediction.cluster.settings import Job
from prediction.fused import FusedPredictor
from prediction.parts import LEFT_OUT
from prediction.predictor import Prediction, Predictor
from runtime.files import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def stages_of(predictor: Predictor) -> dict[str, Predictor]:
    """The networks of a predictor that run one after the other, by name; `panoptic` needs no fusion after it."""
    if not isinstance(predictor, FusedPredictor):
        return {"panoptic": predictor}
    if predictor.instances is None or predictor.instances is predictor.semantics:
        return {"semantics": predictor.semantics}
    return {"instances": predictor.instances, "semantics": predictor.semantics}


class Stage:
    """An actor: a network that stays in memory, and adds to each row what it predicts.

    Raises:
        InputError: if the model does not load, or is another one here than where the job was started.
    """

    def __init__(self, job: Job, name: str):
        predictor = job.model.load(job.device)
        if predictor.fingerprint("") != job.fingerprint:
            raise InputError("the model differs between machines; give all of them the same files and the same versions")
        self.name, self.is_last = name, name == job.stages[-1]
        self.predictor = stages_of(predictor)[name]
        del predictor
        gc.collect()  # the other half

    def __call__(self, rows: "pa.Table") -> "pa.Table":
        """Predict a batch."""
        import pyarrow as pa

        records = rows["record"].to_pylist()
        waiting = [k for k, record in enumerate(records) if record is None]
        images = [(rows["image_id"][k].as_py(), _pixels(rows, k)) for k in waiting]
        said: list[bytes | None] = [None] * len(records)
        for k, found in zip(waiting, _predict(self.predictor, images), strict=True):
            if isinstance(found, InputError):
                records[k] = json.dumps({LEFT_OUT: f"image {rows['image_id'][k].as_py()!r}: {found}"})
            else:
                said[k] = pickle.dumps(found, protocol=5)
        rows = rows.drop_columns(["record", "image"] if self.is_last else ["record"])
        rows = rows.append_column("record", pa.array(records, pa.string()))
        return rows.append_column(self.name, pa.array(said, pa.large_binary()))


def _pixels(rows: "pa.Table", k: int) -> np.ndarray:
    size = rows["height"][k].as_py(), rows["width"][k].as_py(), 3
    return np.frombuffer(rows["image"][k].as_buffer(), np.uint8).reshape(size).copy()  # torch wants to own what it is given


def _predict(predictor: Predictor, images: Sequence[tuple[str, np.ndarray]]) -> list[Prediction | InputError]:
    """What is said of each image, or why nothing is; a network gets images of one size at once."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for k, (_, pixels) in enumerate(images):
        by_size.setdefault(pixels.shape, []).append(k)
    found: dict[int, Prediction | InputError] = {}
    for places in by_size.values():
        if len(places) > 1 and hasattr(predictor, "predict_batch"):
            try:
                found |= zip(places, predictor.predict_batch([images[k] for k in places]), strict=True)
                continue
            except InputError:
                pass  # one by one below, each image gives its own error
        for k in places:
            try:
                found[k] = predictor.predict(*images[k])
            except InputError as error:
                found[k] = error
    return [found[k] for k in range(len(images))]


def fuse(rows: "pa.Table", k: int, job: Job, image_id: str) -> PanopticMap:
    """The panoptic map of row k, by the rule of a single process, from what the stages said.

    Raises:
        InputError: as the rule.
    """
    said = {name: pickle.loads(rows[name][k].as_buffer()) for name in job.stages}  # by this job's own actors
    if job.rule is None:
        return said["panoptic"].panoptic
    semantics = _Said(job.taxonomy, None, said["semantics"])
    instances = None
    if "instances" in said:
        instances = _Said(job.taxonomy, None, said["instances"])
    elif "instances" in semantics.gives:
        instances = semantics
    return FusedPredictor(instances, semantics, job.rule).predict(image_id, None).panoptic


class _Said:
    """A predictor that repeats what the stages said, so that the fusion is that of a single process."""

    def __init__(self, taxonomy: Taxonomy, min_score: float | None, said: Prediction):
        self.taxonomy, self.min_score, self.said = taxonomy, min_score, said
        self.gives = tuple(name for name in ("instances", "semantic") if getattr(said, name) is not None)

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return ""

    def predict(self, image_id: str, image: np.ndarray | None) -> Prediction:
        """See Predictor."""
        return self.said
