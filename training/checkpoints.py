"""Checkpoints of a training: gone on from, started from, and read for use."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from backbones.packaged_weights import PACKAGES, load_packaged
from data.taxonomy import Taxonomy
from runtime.checkpoint_file import broken_reason, check_finite, read_checkpoint_file
from runtime.files import InputError, file_digest, first_few, shorten
from training.schedule import OptimizerSettings
from training.weights_file import load_weights_file

FIXED_ON_RESUME = ("network", "input_size", "normalization", "optimizer")
"""Hyper-parameters with which a training must go on as it began."""
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Trained:
    """A checkpoint for use: its classes, the module's hyper-parameters, the network's tensors, and digits of the file."""

    path: Path
    taxonomy: Taxonomy
    settings: dict
    weights: dict[str, Tensor]
    digest: str


def find_last(output: Path, settings: dict, taxonomy: Taxonomy, is_averaged: bool) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it.

    Args:
        settings: hyper-parameters of the module that is to be trained, as its checkpoints have them.
        taxonomy: its classes.
        is_averaged: whether an average of its weights is to be kept.

    Raises:
        InputError: if it cannot be read, or is of another network, of other classes or of another input.
    """
    last = output / "last.ckpt"
    if not last.exists():
        return None, 0
    checkpoint = read_checkpoint_file(last, "give --no-resume to start anew")
    try:
        done, before = checkpoint["epoch"] + 1, checkpoint["hyper_parameters"]
        known, trained = _taxonomy(before), {name: before[name] for name in FIXED_ON_RESUME}
        trained["optimizer"] = asdict(OptimizerSettings()) | dict(trained["optimizer"])  # an older checkpoint knows fewer
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{last}: is no checkpoint of this training ({shorten(error)}); give --no-resume") from None
    if difference := known.difference(taxonomy):
        raise InputError(f"{last}: was trained on other classes, {difference}; give another --output, or --no-resume")
    if different := [_describe(name, trained[name], settings[name]) for name in trained if trained[name] != settings[name]]:
        advice = f"give --no-resume, or another --output, where --weights {last} starts from it"
        kinds = {"network": "another model", "optimizer": "another schedule"}
        what = next((kind for name, kind in kinds.items() if trained[name] != settings[name]), "another input")
        raise InputError(f"{last}: is of {what}, {', '.join(different)}; {advice}")
    if "averaging_state" in checkpoint and not is_averaged:
        raise InputError(f"{last}: holds averaged weights, which cannot be trained on; give --ema-decay, or --no-resume")
    return last, done


def _describe(name: str, before: object, now: object) -> str:
    """How a setting differs; of settings within it those that do."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return f"{name} {shorten(before, 60)} there and {shorten(now, 60)} here"
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    shown = [_describe(f"{name}.{key}", before.get(key), now.get(key)) for key in differ[:3]]
    return ", ".join(shown) + (f" and {len(differ) - 3} more" if len(differ) > 3 else "")


def load_start(network: nn.Module, path: str | Path) -> tuple[str, set[str]]:
    """Give a fresh network packaged weights, or those of a file of scripts/import_weights.py or of a checkpoint of the same.

    Args:
        path: of the file, or the name of packaged weights, such as lite0.

    Returns:
        A line that says what was loaded, and the names of the tensors.

    Raises:
        InputError: if the file is broken or of another network.
    """
    if str(path) in PACKAGES:
        return load_packaged(network, str(path))
    path = Path(path).expanduser()
    if not path.is_absolute() and not path.exists():
        path = REPOSITORY / path  # as in a configuration, whatever folder the command is run from
    if path.suffix != ".ckpt":
        return load_weights_file(network, path)
    trained = read_trained(path, "give a checkpoint of this training command")
    load_weights(network, trained)
    return f"starting from {path}: all {len(trained.weights)} tensors", set(trained.weights)


def check_learns(network: nn.Module, loaded: set[str], from_scratch: str) -> None:
    """Refuse a training in which a part of the network stays as it was drawn at random.

    Args:
        loaded: names of the tensors that were loaded.
        from_scratch: the flags with which all parts learn, for the message.

    Raises:
        InputError: if there is such a part.
    """
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    for name, module in network.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            frozen += [f"{name}.{buffer}" for buffer, _ in module.named_buffers()]
    if absent := [name for name in frozen if name not in loaded]:
        found = f"parts of the network stay as they are, {first_few(absent)}, but no weights were loaded for them"
        needed = "give --weights, the name of packaged ones or a FILE, which scripts/import_weights.py makes"
        raise InputError(f"{found}; {needed}" + (f", or let all learn: {from_scratch}" if from_scratch else ""))


def read_trained(path: Path, advice: str, system: str | None = None) -> Trained:
    """Read a checkpoint for use.

    Args:
        advice: what to do where there is none, or one that is of no use.
        system: that it must be of; None: any.

    Raises:
        InputError: if the file is missing, truncated, or of another program or system.
    """
    path = Path(path)
    checkpoint = read_checkpoint_file(path, advice)
    try:
        settings = dict(checkpoint["hyper_parameters"])
        weights = {k.removeprefix("network."): v for k, v in checkpoint["state_dict"].items() if k.startswith("network.")}
        found = settings["system"]
        taxonomy = _taxonomy(settings)
    except InputError as error:
        raise InputError(f"{path}: no checkpoint of a training of this project ({error}); {advice}") from None
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: no checkpoint of a training of this project ({shorten(error)}); {advice}") from None
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path}: holds weights that are no tensors; {advice}")
    if system not in (None, found):
        raise InputError(f"{path}: is a checkpoint of {found}, but one of {system} is needed; {advice}")
    check_finite(path, weights)
    return Trained(path, taxonomy, settings, weights, file_digest(path))


def load_weights(network: nn.Module, trained: Trained) -> None:
    """Put a checkpoint's tensors into the network that it is of.

    Raises:
        InputError: if it is of another one.
    """
    try:
        network.load_state_dict(trained.weights)
    except RuntimeError as error:
        raise InputError(f"{trained.path}: is of another network ({broken_reason(error)}); give one that fits") from None


def _taxonomy(settings: dict) -> Taxonomy:
    return Taxonomy.from_coco_categories(settings["taxonomy"], settings["categories"])
