"""What tiles lose by themselves: halves that are right about whatever they see, on Streets of 1024x2048, whole and in tiles.

A tile shows a part of each object alone, as a real model would see it; what is joined wrongly across a seam costs PQ. Against the
truth, with the fusion's own settings.

    $ python -m benchmarks.tile_quality 8
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.cityscapes import CityscapesSplit
from data.panoptic_png import PanopticMap, describe_segments
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic_logits
from data.taxonomy import CITYSCAPES
from evaluation.panoptic_quality import PanopticQuality
from fusion.settings import FusionSettings
from prediction.fused import FusedPredictor, LogitRule
from prediction.predictor import NetworkPredictor, Prediction
from prediction.tiles import TileSettings, tiled

HEIGHT, WIDTH = 1024, 2048
UNIT = 32
"""At whose multiples tiles start."""
SETTINGS = TileSettings(512, 1024)


class RightAboutAll(NetworkPredictor):
    """Says of a tile what the truth says there; a tile's first pixel holds its place."""

    gives = ("instances", "semantic")
    truth: PanopticMap

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """See NetworkPredictor."""
        top, left = UNIT * int(image[0, 0, 0]), UNIT * int(image[0, 0, 1])
        ids = np.ascontiguousarray(self.truth.segment_ids[top : top + image.shape[0], left : left + image.shape[1]])
        category_of = {s.segment_id: s.category_id for s in self.truth.segments}
        crowds = {s.segment_id for s in self.truth.segments if s.is_crowd}
        part = PanopticMap(ids, describe_segments(ids, category_of.__getitem__, crowds.__contains__))
        about = {"image_id": image_id, "stride": 4, "producer": ""}
        instances = panoptic_to_instance_logits(part, CITYSCAPES, **about)
        return Prediction(instances=instances, semantic=panoptic_to_semantic_logits(part, CITYSCAPES, **about))


def measure(num_images: int) -> dict[str, dict]:
    """PanopticQuality.scores, whole and in tiles."""
    found = {"whole": PanopticQuality(), "tiles": PanopticQuality()}
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(HEIGHT)[:, None] // UNIT, np.arange(WIDTH) // UNIT
    model = RightAboutAll(CITYSCAPES, "right about all")
    whole = FusedPredictor(model, model, LogitRule(FusionSettings(min_score=0.0)))
    predictors = {"whole": whole, "tiles": tiled(whole, SETTINGS)}
    with TemporaryDirectory() as folder:
        root = ensure_streets(Path(folder), StreetsSettings(HEIGHT, WIDTH, num_train=1, num_val=num_images))
        split = CityscapesSplit(root, "val")
        for index in range(num_images):
            model.truth = split.truth(index)
            for name, predictor in predictors.items():
                found[name].add(model.truth, predictor.predict(split.image_id(index), image).panoptic)
    return {name: quality.scores(CITYSCAPES) for name, quality in found.items()}


def main() -> None:
    """The command; see above."""
    for name, scores in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 8).items():
        print(f"{name}: " + ", ".join(f"{group} PQ {100 * scores[group]['pq']:.2f}" for group in ("All", "Things", "Stuff")))


if __name__ == "__main__":
    main()
