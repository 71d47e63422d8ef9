"""The systems that scripts/compare.py trains and scores: the commands that train and predict, and how one picture is done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import solov2  # noqa: F401, before torch: it sets what torch reads when it is loaded

# isort: split
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES
from efficientps.inference import load_semantic_predictor
from efficientps.panoptic_inference import load_panoptic_predictor
from fusion.logit_fusion import FusionSettings, fuse, semantic_only
from pan_secb.predictor import load_predictor as load_pan_secb
from panoptic_fpn.predictor import load_predictor as load_panoptic_fpn
from solov2.checkpoints import find_last
from solov2.inference import load_predictor as load_solov2
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
    data, epochs = ("--data-root", root), configs.epochs

    def lightning(script: str, name: str, config: Path) -> tuple:
        length = ("--trainer.max_epochs", str(epochs[name]), "--trainer.enable_progress_bar", "false")
        return (script, "--config", config, *data, "--output", out / name, *length)

    number = epochs["stage1"]
    schedule = (f"train_cfg.max_epochs={number}", f"train_cfg.val_begin={number + 1}", f"param_scheduler.1.end={number}")
    stage1 = ("--config", configs.stage1, "--cfg-options", *schedule)
    trainings = {
        "stage1": ("solov2/train.py", *data, "--work-dir", out / "stage1", *stage1),
        "stage2": lightning("efficientps/train_net.py", "stage2", configs.stage2),
        "joint": lightning("efficientps/train_net.py", "joint", configs.joint),
        "panoptic_fpn": lightning("panoptic_fpn/train.py", "panoptic_fpn", configs.panoptic_fpn),
        "crops": (*lightning("pan_secb/train.py", "crops", configs.crops), "--data.crops", out / "cut"),
        "finetune": (
            *lightning("pan_secb/train.py", "finetune", configs.finetune),
            *("--data.crops", out / "cut", "--model.weights", out / "crops" / "last.ckpt"),
        ),
    }
    trainings = {name: (*command, *configs.more.get(name, ())) for name, command in trainings.items()}
    last = {name: out / name / "last.ckpt" for name in trainings}  # nothing is chosen on val
    fuse_command = ("fusion/solo_fusion.py", *data)

    def solo() -> Path:
        return find_last(out / "stage1")

    def load_two_stage() -> Predict:
        instances, semantic = load_solov2(load_config(configs.stage1), solo()), load_semantic_predictor(last["stage2"])
        return lambda image_id, picture: fuse(
            instances.predict(image_id, picture, "compare"), semantic.predict(image_id, picture), CITYSCAPES
        )

    def load_original() -> Predict:
        predictor, settings = load_panoptic_predictor(last["joint"]), FusionSettings(min_score=BOX_SCORE)
        return lambda image_id, picture: fuse(*predictor.predict(image_id, picture), CITYSCAPES, settings)

    def load_floor() -> Predict:
        predictor = load_semantic_predictor(last["stage2"])
        return lambda image_id, picture: semantic_only(predictor.predict(image_id, picture), CITYSCAPES)

    two_stage = System(
        "SOLOv2 + EfficientPS semantics",
        {name: trainings[name] for name in ("stage1", "stage2")},
        lambda: (
            ("solov2/eval.py", *data, "--checkpoint", solo(), "--output", out / "stage1_dumps", *stage1),
            (
                *(*fuse_command, "--instances", out / "stage1_dumps", "--checkpoint", last["stage2"]),
                *("--save-semantics", out / "stage2_semantics", "--output", out / "two_stage"),
            ),
        ),
        out / "two_stage",
        lambda: (solo(), last["stage2"]),
        load_two_stage,
        instances=out / "stage1_dumps",
        semantics=out / "stage2_semantics",
    )
    original = System(
        "original EfficientPS (Mask R-CNN)",
        {"joint": trainings["joint"]},
        lambda: (
            (
                *(*fuse_command, "--instances", "model", "--checkpoint", last["joint"], "--fusion.min_score", str(BOX_SCORE)),
                *("--save-semantics", out / "joint_semantics", "--save-instances", out / "joint_instances"),
                *("--output", out / "original"),
            ),
        ),
        out / "original",
        lambda: (last["joint"],),
        load_original,
        instances=out / "joint_instances",
        semantics=out / "joint_semantics",
    )
    floor = System(
        "semantic argmax only",
        {"stage2": trainings["stage2"]},
        lambda: ((*fuse_command, "--instances", "none", "--semantics", out / "stage2_semantics", "--output", out / "floor"),),
        out / "floor",
        lambda: (last["stage2"],),
        load_floor,
        semantics=out / "stage2_semantics",
    )
    fpn = System(
        "Panoptic FPN",
        {"panoptic_fpn": trainings["panoptic_fpn"]},
        lambda: (("panoptic_fpn/evaluate.py", *data, "--checkpoint", last["panoptic_fpn"], "--output", out / "fpn_val"),),
        out / "fpn_val",
        lambda: (last["panoptic_fpn"],),
        lambda: load_panoptic_fpn(last["panoptic_fpn"]).panoptic,
        scores=out / "fpn_val" / "scores.json",
    )
    secb = System(
        "Pan-SECB",
        {name: trainings[name] for name in ("crops", "finetune")},
        lambda: (("pan_secb/test.py", *data, "--checkpoint", last["finetune"], "--output", out / "pan_secb_val"),),
        out / "pan_secb_val",
        lambda: (last["finetune"],),
        lambda: load_pan_secb(last["finetune"]).panoptic,
        scores=out / "pan_secb_val" / "scores.json",
        preparations=(("pan_secb/generate_crops.py", *data, "--output", out / "cut", "--splits", "train"),),
    )
    return (two_stage, original, floor, fpn, secb)
