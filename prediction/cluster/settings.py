"""What a job on a cluster is told: the model, how the work is done, and both together, as every task gets them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.taxonomy import Taxonomy
from prediction.fused import Rule
from prediction.models import is_exported
from prediction.pipeline import load_pipeline
from prediction.predictor import Predictor
from prediction.sources.find import CHECKPOINT_SUFFIXES, LIBRARIES
from runtime.files import InputError

FORMS = ("png", "tar")
"""Of the output."""


@dataclass(frozen=True)
class ClusterModel:
    """What each worker loads, in plain values: the arguments of prediction.pipeline.load_pipeline.

    Args:
        model, instances, semantics, rule, settings: as there; paths are those that every worker sees.
        classes: instances_classes and semantics_classes, where they are given.

    Raises:
        InputError: if a half is no live model.
    """

    model: str | None = None
    instances: str | None = None
    semantics: str | None = None
    rule: str = "logit"
    settings: Mapping[str, object] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for flag, given in (("--checkpoint", self.model), ("--instances", self.instances), ("--semantics", self.semantics)):
            is_live = given is None or given.partition(":")[0] in LIBRARIES or Path(given).suffix in CHECKPOINT_SUFFIXES
            if not (is_live or is_exported(Path(given))):
                live = f"a checkpoint, an exported model, or {', '.join(f'{name}:NAME' for name in LIBRARIES)}"
                advice = "fusion/solo_fusion.py with --shard takes it"
                raise InputError(f"{flag} {given}: a cluster predicts pixels, which only {live} does; for files {advice}")

    def load(self, device: str) -> Predictor:
        """The predictor; errors as load_pipeline."""
        halves = {"instances": self.instances, "semantics": self.semantics}
        joined = {"rule": self.rule, "settings": dict(self.settings), "device": device, **self.classes}
        return load_pipeline(self.model, **halves, **joined).predictor


@dataclass(frozen=True)
class ClusterSettings:
    """How the work is done; no bit of the result depends on it, except that of `batch_size` where a network's kernels do.

    Args:
        batch_size: images that a network gets at once.
        stage1_actors, stage2_actors: copies of each network; one that gives both halves has those of stage 2.
        gpus_per_stage: of an actor, also a part of one; 0: they compute on the CPU.
        cpus_per_actor: also the number of threads of its network.
        fusion_cpus: of a task that fuses and writes.
        max_failures: images that may be left out before the job stops.
        address: of a cluster that runs; None: one is started on this machine, for as long as the job takes.
        form: png, a file an image; tar, `images_per_tar` of them in a file.
    """

    batch_size: int = 1
    stage1_actors: int = 1
    stage2_actors: int = 1
    gpus_per_stage: float = 0.0
    cpus_per_actor: float = 1.0
    fusion_cpus: float = 1.0
    max_failures: int = 100
    address: str | None = None
    form: str = "png"
    images_per_tar: int = 10_000

    def __post_init__(self):
        if self.form not in FORMS:
            raise InputError(f"form {self.form!r} is unknown; choose one of {', '.join(FORMS)}")


@dataclass(frozen=True)
class Job:
    """What every task is given.

    Args:
        stages: names of the networks, in the order in which they run; see stages.stages_of.
        rule: that fuses; None where the one network gives the panoptic map.
        fingerprint: of the predictor, without that of an image.
        place: folder or URL of the PNGs or tars.
        launch: nanoseconds; of two records of an image, that of the later launch counts.
    """

    model: ClusterModel
    stages: tuple[str, ...]
    rule: Rule | None
    taxonomy: Taxonomy
    fingerprint: str
    place: str
    settings: ClusterSettings
    launch: int

    @property
    def device(self) -> str:
        """Of the networks."""
        return "cuda" if self.settings.gpus_per_stage else "cpu"
