"""A trained SOLOv2: image in, scored mask logits out. Its checkpoint says all that is needed: network, input, classes."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmengine.structures import InstanceData
from torch import nn

from data.input_size import check_enlarged
from data.instance_dump import from_full_logits
from data.taxonomy import Taxonomy
from prediction.batches import Named
from prediction.predictor import NetworkPredictor, Prediction
from prediction.views import PLAIN, View, ViewSettings
from runtime.checkpoint_file import check_finite
from runtime.files import InputError, ItemError, digest_of, file_digest, shorten
from solov2.checkpoints import ADVICE, load_weights, read_checkpoint
from solov2.location_head import LocationHead
from solov2.pooled_views import CandidateHead, select_from_views
from solov2.trained_settings import TrainedSettings, read_settings
from solov2.weights import build_network


class SOLOv2Predictor(NetworkPredictor):
    """A network in evaluation mode, what turns an image into its input, one for each scale, and the views that are taken.

    The network has a CandidateHead where there are several views. Class k is taxonomy.thing_ids[k].

    Args:
        name: changes with the weights and settings.
        pipelines: by scale.
        min_score: of the instances that are worth fusing.
    """

    def __init__(
        self,
        network: nn.Module,
        taxonomy: Taxonomy,
        name: str,
        pipelines: dict[float, Compose],
        min_score: float | None = None,
        views: ViewSettings = PLAIN,
    ):
        super().__init__(taxonomy, name + views.suffix)
        self.network, self.pipelines, self.min_score, self.views = network, pipelines, min_score, views
        self.gives = ("instances",)

    def run(self, image_id: str, image: np.ndarray) -> Prediction:
        """See NetworkPredictor: mask logits at the head's `logit_stride`, 4 by default."""
        return self.run_batch([(image_id, image)])[0]

    def run_batch(self, images: Sequence[Named]) -> list[Prediction]:
        """See NetworkPredictor; the views of an image are pooled image by image."""
        pixels, views = [image for _, image in images], self.views.views()
        if self.views.is_plain:
            found = self._predict_view(pixels, views[0])
        else:
            found = [
                select_from_views([partial(self._predict_one, image, view) for view in views], self.network.mask_head.test_cfg)
                for image in pixels
            ]
        return [self._to_prediction(image_id, image, of_image) for (image_id, image), of_image in zip(images, found, strict=True)]

    def _to_prediction(self, image_id: str, image: np.ndarray, found: InstanceData) -> Prediction:
        # A sum is finite only if every term is; thirty times faster than asking each.
        if not all(values.sum(dtype=values.float().dtype).isfinite() for values in (found.mask_logits, found.scores)):
            raise InputError(f"{image_id}: the instance model gives NaN or infinite values; use another checkpoint")
        instances = from_full_logits(
            found.mask_logits.float().cpu().numpy(),
            [self.taxonomy.thing_ids[label] for label in found.labels.tolist()],
            found.scores.float().cpu().numpy(),
            image_id=image_id,
            size=image.shape[:2],
            stride=self.network.mask_head.logit_stride,
            taxonomy=self.taxonomy,
            producer="",
        )
        return Prediction(instances=instances)

    def _predict_one(self, image: np.ndarray, view: View) -> InstanceData:
        return self._predict_view([image], view)[0]

    def _predict_view(self, images: Sequence[np.ndarray], view: View) -> list[InstanceData]:
        """What the head gives for one view of images of one size; its scale is the pipeline's, which resizes anyway."""
        samples = [self._sample(image, view) for image in images]
        batch = {name: [sample[name] for sample in samples] for name in ("inputs", "data_samples")}
        return [result.pred_instances for result in self.network.test_step(batch)]

    def _sample(self, image: np.ndarray, view: View) -> dict:
        """What mmdet's pipeline makes of an image."""
        bgr = (image[:, ::-1] if view.is_flipped else image)[..., ::-1]  # as mmdet's own loader gives it
        try:
            sample = self.pipelines[view.scale]({"img": np.ascontiguousarray(bgr), "img_id": 0, "img_path": ""})
        except cv2.error:
            size = "x".join(map(str, image.shape[:2]))
            raise ItemError(f"an image of {size} pixels cannot be resized to the model's input; cut a strip into parts") from None
        check_enlarged(image.shape[:2], tuple(sample["inputs"].shape[-2:]))
        sample["data_samples"].set_metainfo({"flip": view.is_flipped})
        return sample


def load_predictor(path: Path, device: str = "cpu", views: ViewSettings = PLAIN, options: dict | None = None) -> SOLOv2Predictor:
    """Load a checkpoint that train.py wrote. No pickled code is executed.

    Args:
        options: settings of its model that are to be others, by dotted name, such as model.test_cfg.score_thr.

    Raises:
        InputError: if the checkpoint is missing, truncated, of another program or not finite, the model cannot be built or has
            no LocationHead of its classes, or the test pipeline has no size to scale.
    """
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # mmdet's own call
    content = read_checkpoint(path)
    settings = read_settings(content, path).changed(options or {})
    is_pooled = not views.is_plain and settings.model.get("mask_head", {}).get("type") == LocationHead.__name__
    network = build_network(settings.model, str(path), CandidateHead.__name__ if is_pooled else None)
    head, num_things = getattr(network, "mask_head", None), len(settings.taxonomy.thing_ids)
    if not isinstance(head, LocationHead) or head.num_classes != num_things:
        raise InputError(f"{path}: a LocationHead of {num_things} classes is needed; train one of configs/solov2")
    head.with_full_masks = False
    load_weights(network, content, path)
    check_finite(path, network.state_dict())
    pipelines = {scale: _image_pipeline(settings, scale, path) for scale in views.scales}
    name = f"solov2-{settings.config}-{digest_of(file_digest(path), settings.model, settings.pipeline)}"
    return SOLOv2Predictor(network.eval().to(device), settings.taxonomy, name, pipelines, settings.min_score, views)


def _image_pipeline(settings: TrainedSettings, scale: float, path: Path) -> Compose:
    """The test pipeline of an image in memory, its sizes multiplied by `scale`."""
    transforms = [dict(transform) for transform in settings.pipeline]
    if scale != 1:
        resizing = [t for t in transforms if t["type"] == "Resize" and t.get("scale")]
        if not resizing:
            raise InputError(f"{path}: test-time scales need a Resize with `scale` in test_dataloader; add one and train")
        for t in resizing:
            t["scale"] = tuple(max(1, round(side * scale)) for side in t["scale"])
    try:
        return Compose([{"type": "mmdet.LoadImageFromNDArray"}, *transforms])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its test pipeline cannot be built ({shorten(error)}); {ADVICE}") from None
