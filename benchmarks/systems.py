"""The systems that scripts/compare.py trains and scores: the commands that train and predict, and how one picture is done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import solov2  # noqa: F401, before torch: it sets what torch reads when it is loaded

# isort: split
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES
from efficientps.panoptic_inference import load_panoptic_predictor
from efficientps.predictor import load_semantic_predictor
from fusion.logit_fusion import fuse, semantic_only
from fusion.settings import FusionSettings
from pan_secb.predictor import load_predictor as load_pan_secb
from panoptic_fpn.predictor import load_predictor as load_panoptic_fpn
from solov2.checkpoints import find_last
from solov2.predictor import load_predictor as load_solov2
from solov2.settings import load_config

Predict = Callable[[str, np.ndarray], PanopticMap]
"""(image id, (H, W, 3) uint8 RGB) -> panoptic map: all that one picture costs, from pixels to ids."""
BOX_SCORE = 0.5
"""From which a detection of Mask R-CNN is fused; the paper's."""


@dataclass(frozen=True)
class Configs:
    """Configuration of each training, how long it is, in epochs, and flags that its command gets besides."""

    stage1: Path
    stage2: Path
    joint: Path
    panoptic_fpn: Path
    crops: Path
    finetune: Path
    epochs: dict[str, int]
    more: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """One row. All paths are absolute.

    trainings: {name: command}. predictions: the commands to run after them, which leave <fused>/panoptic.json and
    <fused>/panoptic/. checkpoints: the files that hold what was trained; load: a predictor of them. instances and semantics:
    folders of dumps for mask AP and mIoU; where there are none, `scores` is the JSON that holds these.
    """

    name: str
    trainings: dict[str, tuple]
    predictions: Callable[[], tuple[tuple, ...]]
    fused: Path
    checkpoints: Callable[[], tuple[Path, ...]]
    load: Callable[[], Predict]
    instances: Path | None = None
    semantics: Path | None = None
    scores: Path | None = None
    preparations: tuple[tuple, ...] = field(default=())
    """Commands before the training, whose time does not count: they only write what is read again and again."""


def all_systems(root: Path, out: Path, configs: Configs) -> tuple[System, ...]:
    """What is compared, for a data set at `root`, with all results under `out`."""
    plan = Plan(root, out, configs)
    return tuple(describe(plan) for describe in (two_stages, original, semantics_alone, panoptic_fpn, pan_secb))


@dataclass(frozen=True)
class Plan:
    """What all systems share: the data set's folder, the folder of all results, and how each training is called."""

    root: Path
    out: Path
    configs: Configs

    @property
    def data(self) -> tuple:
        """The option of every command that names the data set."""
        return ("--data-root", self.root)

    @property
    def fuse_command(self) -> tuple:
        """Fusion's command, without its sources."""
        return ("fusion/solo_fusion.py", *self.data)

    @property
    def stage1_options(self) -> tuple:
        """The config of stage 1 and its schedule, which mmdet's commands are told setting by setting."""
        number = self.configs.epochs["stage1"]
        schedule = (f"train_cfg.max_epochs={number}", f"train_cfg.val_begin={number + 1}", f"param_scheduler.1.end={number}")
        return ("--config", self.configs.stage1, "--cfg-options", *schedule)

    @property
    def semantics(self) -> Path:
        """What stage 2 predicts: written with the two stages' fusion, read by the floor's."""
        return self.out / "stage2_semantics"

    def last(self, name: str) -> Path:
        """What a training ends with; nothing is chosen on val."""
        return self.out / name / "last.ckpt"

    def last_of_stage1(self) -> Path:
        """The same of stage 1, once it is trained: mmengine names the file after its epoch."""
        return find_last(self.out / "stage1")

    def stage1(self) -> dict[str, tuple]:
        """The training of stage 1, by name."""
        return self._extended("stage1", ("solov2/train.py", *self.data, "--work-dir", self.out / "stage1", *self.stage1_options))

    def lightning(self, name: str, script: str, *more: object) -> dict[str, tuple]:
        """A training of Lightning's, by name, which is also the field of its config."""
        length = ("--trainer.max_epochs", str(self.configs.epochs[name]), "--trainer.enable_progress_bar", "false")
        places = ("--config", getattr(self.configs, name), *self.data, "--output", self.out / name)
        return self._extended(name, (script, *places, *length, *more))

    def stage2(self) -> dict[str, tuple]:
        """The training of stage 2, by name."""
        return self.lightning("stage2", "efficientps/train_net.py")

    def _extended(self, name: str, command: tuple) -> dict[str, tuple]:
        return {name: (*command, *self.configs.more.get(name, ()))}


def two_stages(plan: Plan) -> System:
    """Location-based EfficientPS: SOLOv2's instances and EfficientPS's semantics, fused."""
    dumps, semantics, fused = plan.out / "stage1_dumps", plan.semantics, plan.out / "two_stage"

    def load() -> Predict:
        instances = load_solov2(load_config(plan.configs.stage1), plan.last_of_stage1())
        semantic = load_semantic_predictor(plan.last("stage2"))
        return lambda image_id, picture: fuse(
            instances.predict(image_id, picture, "compare"), semantic.predict(image_id, picture), CITYSCAPES
        )

    def predictions() -> tuple[tuple, ...]:
        dump = ("--checkpoint", plan.last_of_stage1(), "--output", dumps, *plan.stage1_options)
        sources = ("--instances", dumps, "--checkpoint", plan.last("stage2"), "--save-semantics", semantics)
        return (("solov2/eval.py", *plan.data, *dump), (*plan.fuse_command, *sources, "--output", fused))

    return System(
        "SOLOv2 + EfficientPS semantics",
        plan.stage1() | plan.stage2(),
        predictions,
        fused,
        lambda: (plan.last_of_stage1(), plan.last("stage2")),
        load,
        instances=dumps,
        semantics=semantics,
    )


def original(plan: Plan) -> System:
    """EfficientPS as published, with its Mask R-CNN head."""
    checkpoint, fused = plan.last("joint"), plan.out / "original"
    instances, semantics = plan.out / "joint_instances", plan.out / "joint_semantics"

    def load() -> Predict:
        predictor, settings = load_panoptic_predictor(checkpoint), FusionSettings(min_score=BOX_SCORE)
        return lambda image_id, picture: fuse(*predictor.predict(image_id, picture), CITYSCAPES, settings)

    sources = ("--instances", "model", "--checkpoint", checkpoint, "--fusion.min_score", str(BOX_SCORE))
    kept = ("--save-semantics", semantics, "--save-instances", instances, "--output", fused)
    return System(
        "original EfficientPS (Mask R-CNN)",
        plan.lightning("joint", "efficientps/train_net.py"),
        lambda: ((*plan.fuse_command, *sources, *kept),),
        fused,
        lambda: (checkpoint,),
        load,
        instances=instances,
        semantics=semantics,
    )


def semantics_alone(plan: Plan) -> System:
    """The floor: the class of each pixel, and one object a thing class. It reads what two_stages writes."""
    semantics, fused = plan.semantics, plan.out / "floor"

    def load() -> Predict:
        predictor = load_semantic_predictor(plan.last("stage2"))
        return lambda image_id, picture: semantic_only(predictor.predict(image_id, picture), CITYSCAPES)

    return System(
        "semantic argmax only",
        plan.stage2(),
        lambda: ((*plan.fuse_command, "--instances", "none", "--semantics", semantics, "--output", fused),),
        fused,
        lambda: (plan.last("stage2"),),
        load,
        semantics=semantics,
    )


def panoptic_fpn(plan: Plan) -> System:
    """Panoptic FPN."""
    checkpoint, fused = plan.last("panoptic_fpn"), plan.out / "fpn_val"
    return System(
        "Panoptic FPN",
        plan.lightning("panoptic_fpn", "panoptic_fpn/train.py"),
        lambda: (("panoptic_fpn/evaluate.py", *plan.data, "--checkpoint", checkpoint, "--output", fused),),
        fused,
        lambda: (checkpoint,),
        lambda: load_panoptic_fpn(checkpoint).panoptic,
        scores=fused / "scores.json",
    )


def pan_secb(plan: Plan) -> System:
    """Pan-SECB, trained on crops, then on whole images."""
    checkpoint, cut, fused = plan.last("finetune"), plan.out / "cut", plan.out / "pan_secb_val"
    script, crops = "pan_secb/train.py", ("--data.crops", cut)
    return System(
        "Pan-SECB",
        plan.lightning("crops", script, *crops)
        | plan.lightning("finetune", script, *crops, "--model.weights", plan.last("crops")),
        lambda: (("pan_secb/test.py", *plan.data, "--checkpoint", checkpoint, "--output", fused),),
        fused,
        lambda: (checkpoint,),
        lambda: load_pan_secb(checkpoint).panoptic,
        scores=fused / "scores.json",
        preparations=(("pan_secb/generate_crops.py", *plan.data, "--output", cut, "--splits", "train"),),
    )
