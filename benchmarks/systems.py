"""The systems that scripts/compare.py trains and scores: the commands that train each, and the predictor of what was trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import solov2  # noqa: F401, before torch: it sets what torch reads when it is loaded

# isort: split
from prediction.fused import FusedPredictor, LogitRule, with_panoptic
from prediction.models import load_predictor
from prediction.predictor import Predictor
from solov2.checkpoints import find_last


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

    trainings: {name: command}. run: folder of its predictions. checkpoints: the files that hold what was trained; load: a
    predictor of them, which may be called once they are there.
    """

    name: str
    trainings: dict[str, tuple]
    run: Path
    checkpoints: Callable[[], tuple[Path, ...]]
    load: Callable[[], Predictor]
    keep: tuple[str, ...] = ("panoptic", "instances", "semantic")
    preparations: tuple[tuple, ...] = ()
    """Commands before the training, whose time does not count: they only write what is read again and again."""


def all_systems(
    root: Path,
    out: Path,
    configs: Configs,
    train_split: str = "train",
    data: tuple = (),
    seed: int | None = None,
    names: Sequence[str] = (),
) -> tuple[System, ...]:
    """What is compared, for a data set at `root`, with all results under `out`.

    Args:
        data: options of every command, besides the root.
        seed: of every training; None: that of its configuration.
        names: of the functions below, of those that take part; all where there are none.
    """
    plan = Plan(root, out, configs, train_split, data, () if seed is None else ("--seed", str(seed)))
    known = (two_stages, original, semantics_alone, panoptic_fpn, pan_secb)
    return tuple(describe(plan) for describe in known if describe.__name__ in names or not names)


@dataclass(frozen=True)
class Plan:
    """What all systems share: the data set's folder, the folder of all results, and how each training is called."""

    root: Path
    out: Path
    configs: Configs
    train_split: str
    more_data: tuple = ()
    seed: tuple = ()

    @property
    def data(self) -> tuple:
        """The options of every command that name the data set."""
        return ("--data-root", self.root, *self.more_data)

    def last(self, name: str) -> Path:
        """What a training ends with; nothing is chosen on val."""
        return find_last(self.out / name) if name == "stage1" else self.out / name / "last.ckpt"

    def training(self, name: str, script: str, *more: object) -> dict[str, tuple]:
        """A training by name, which is also the field of its config."""
        places = ("--config", getattr(self.configs, name), *self.data, "--output", self.out / name)
        length = ("--epochs", str(self.configs.epochs[name]))
        return {name: (script, *places, *length, *self.seed, *more, *self.configs.more.get(name, ()))}

    def lightning(self, name: str, script: str, *more: object) -> dict[str, tuple]:
        """The same of a Lightning training, without its bar."""
        return self.training(name, script, "--trainer.enable_progress_bar", "false", *more)


def two_stages(plan: Plan) -> System:
    """Location-based EfficientPS: SOLOv2's instances and EfficientPS's semantics, fused."""

    def checkpoints() -> tuple[Path, ...]:
        return plan.last("stage1"), plan.last("stage2")

    return System(
        "SOLOv2 + EfficientPS semantics",
        plan.training("stage1", "solov2/train.py") | plan.lightning("stage2", "efficientps/train_net.py"),
        plan.out / "two_stage",
        checkpoints,
        lambda: FusedPredictor(*map(load_predictor, checkpoints()), LogitRule()),
    )


def original(plan: Plan) -> System:
    """EfficientPS as published, with its Mask R-CNN head."""
    trainings = plan.lightning("joint", "efficientps/train_net.py")
    return _single("original EfficientPS (Mask R-CNN)", trainings, plan.out / "original", plan.last("joint"))


def semantics_alone(plan: Plan) -> System:
    """The floor: the class of each pixel, and one object a thing region."""
    return System(
        "semantic argmax only",
        plan.lightning("stage2", "efficientps/train_net.py"),
        plan.out / "floor",
        lambda: (plan.last("stage2"),),
        lambda: FusedPredictor(None, load_predictor(plan.last("stage2")), LogitRule()),
        keep=("panoptic", "semantic"),
    )


def panoptic_fpn(plan: Plan) -> System:
    """Panoptic FPN."""
    trainings = plan.lightning("panoptic_fpn", "panoptic_fpn/train.py")
    return _single("Panoptic FPN", trainings, plan.out / "fpn_val", plan.last("panoptic_fpn"))


def pan_secb(plan: Plan) -> System:
    """Pan-SECB."""
    cut = plan.out / "cut"
    script, crops = "pan_secb/train.py", ("--data.crops", cut)
    trainings = plan.lightning("crops", script, *crops)
    trainings |= plan.lightning("finetune", script, *crops, "--weights", plan.last("crops"))
    preparations = (("pan_secb/generate_crops.py", *plan.data, "--output", cut, "--split", plan.train_split),)
    return _single("Pan-SECB", trainings, plan.out / "pan_secb_val", plan.last("finetune"), preparations)


def _single(name: str, trainings: dict, run: Path, checkpoint: Path, preparations: tuple = ()) -> System:
    """A system of one checkpoint that gives everything."""
    load = lambda: with_panoptic(load_predictor(checkpoint), LogitRule())  # noqa: E731
    return System(name, trainings, run, lambda: (checkpoint,), load, preparations=preparations)
