"""What a SOLOv2 checkpoint says of itself, so that prediction needs no configuration: model, input, classes, score limit."""

from dataclasses import dataclass, replace
from pathlib import Path

from mmengine import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from data.taxonomy import Taxonomy
from runtime.files import InputError, shorten
from solov2.checkpoints import ADVICE

KEY = "panoptic"
"""Of these settings in a checkpoint's `meta`."""
MIN_SCORE = 0.2
"""From which score SOLOv2's instances are worth fusing: class score times maskness is lower than Mask R-CNN's scores."""


@dataclass(frozen=True)
class TrainedSettings:
    """model and pipeline: plain values, as in the configuration; the pipeline is the test pipeline without what reads files."""

    taxonomy: Taxonomy
    config: str
    """The configuration's name."""
    model: dict
    pipeline: list[dict]
    data_root: str
    """The folder of the data set that it was trained on."""
    min_score: float = MIN_SCORE

    @classmethod
    def of_config(cls, config: Config, taxonomy: Taxonomy) -> "TrainedSettings":
        """From a configuration that is trained."""
        pipeline = [t.to_dict() for t in config.test_dataloader.dataset.pipeline if not t["type"].startswith("Load")]
        return cls(taxonomy, Path(config.filename).stem, config.model.to_dict(), pipeline, str(config.data_root))

    def to_plain(self) -> dict:
        """Plain values for a checkpoint."""
        return {
            "system": "solov2",
            "taxonomy": self.taxonomy.name,
            "categories": self.taxonomy.to_coco_categories(),
            "config": self.config,
            "model": self.model,
            "pipeline": self.pipeline,
            "data_root": self.data_root,
            "min_score": self.min_score,
        }

    def input_differences(self, other: "TrainedSettings") -> str:
        """What of the image's way to the network differs: its size and pixel values; empty where nothing does."""
        pairs = {
            "pipeline": (self.pipeline, other.pipeline),
            "model.data_preprocessor": (self.model.get("data_preprocessor"), other.model.get("data_preprocessor")),
        }
        return ", ".join(
            f"{name} {shorten(before)} there and {shorten(now)} here"
            for name, (before, now) in pairs.items()
            if _to_lists(before) != _to_lists(now)
        )

    def changed(self, options: dict) -> "TrainedSettings":
        """With settings of the model, `model.a.b`, that are to be others.

        Raises:
            InputError: if an option names anything else.
        """
        if not options:
            return self
        strangers = [name for name in options if not name.startswith("model.")]
        if strangers:
            raise InputError(f"--cfg-options {strangers[0]}: of a trained model only model.* can be changed, as model.test_cfg.*")
        try:
            config = Config({"model": self.model})
            config.merge_from_dict(options)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"--cfg-options {' '.join(options)}: does not fit ({shorten(error)}); correct the name") from None
        return replace(self, model=config.model.to_dict())


def _to_lists(value: object) -> object:
    """Nested settings without the difference between tuples and lists."""
    if isinstance(value, dict):
        return {name: _to_lists(inner) for name, inner in value.items()}
    return [_to_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


class TrainedSettingsHook(Hook):
    """Writes the settings into every checkpoint."""

    def __init__(self, settings: TrainedSettings):
        self.settings = settings

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint["meta"][KEY] = self.settings.to_plain()


def read_settings(checkpoint: dict, path: Path) -> TrainedSettings:
    """Read back what TrainedSettingsHook wrote.

    Raises:
        InputError: if the checkpoint has no such settings.
    """
    try:
        plain = dict(checkpoint["meta"][KEY])
        taxonomy = Taxonomy.from_coco_categories(plain.pop("taxonomy"), plain.pop("categories"))
        plain.pop("system")
        return TrainedSettings(taxonomy, **plain)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no checkpoint of solov2/train.py ({shorten(error)} is absent); {ADVICE}") from None
