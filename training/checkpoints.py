"""Checkpoints of a training: gone on from, started from, and read for use, without executing pickled code."""

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from runtime.files import InputError, shorten
from training.weights_file import load_weights_file

REPOSITORY = Path(__file__).resolve().parents[1]
BROKEN = (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError, TypeError)
"""What torch.load raises on a file that is none of its own, or is cut off."""


@dataclass(frozen=True)
class Trained:
    """A checkpoint for use: the module's hyper-parameters, the network's tensors, and digits that change with the file."""

    path: Path
    settings: dict
    weights: dict[str, Tensor]
    digest: str


def find_last(output: Path, network: dict, is_averaged: bool) -> tuple[Path | None, int]:
    """The checkpoint to go on from and how many epochs it has behind it.

    Args:
        network: settings of the network that is to be trained.
        is_averaged: whether an average of its weights is to be kept.

    Raises:
        InputError: if it cannot be read, or is of another network.
    """
    last = output / "last.ckpt"
    if not last.exists():
        return None, 0
    try:
        checkpoint = torch.load(last, map_location="cpu", weights_only=True)
        done, trained = checkpoint["epoch"] + 1, checkpoint["hyper_parameters"]["network"]
    except BROKEN as error:
        raise InputError(f"{last}: cannot be read ({shorten(error, 80)}); --resume false starts anew") from None
    if trained != network:
        different = {name: (trained.get(name), value) for name, value in network.items() if trained.get(name) != value}
        raise InputError(f"{last}: is of another model, (there, here): {different}; give another --output or --resume false")
    if "averaging_state" in checkpoint and not is_averaged:
        raise InputError(f"{last}: holds averaged weights, which cannot be trained on; give --ema-decay or --resume false")
    return last, done


def load_start(network: nn.Module, path: str | Path) -> str:
    """Give a fresh network the weights of a file of scripts/import_weights.py, or of a checkpoint of the same network.

    Returns:
        A line that says what was loaded.

    Raises:
        InputError: if the file is broken or of another network.
    """
    path = Path(path).expanduser()
    if not path.is_absolute() and not path.exists():
        path = REPOSITORY / path  # as in a configuration, whatever folder the command is run from
    if path.suffix != ".ckpt":
        return load_weights_file(network, path)
    trained = read_trained(path, "give a checkpoint of this training command")
    load_weights(network, trained)
    return f"starting from {path}: all {len(trained.weights)} tensors"


def read_trained(path: Path, advice: str) -> Trained:
    """Read a checkpoint for use.

    Args:
        advice: what to do where there is none, or one that is of no use.

    Raises:
        InputError: if the file is missing, truncated, or of another program.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; {advice}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise InputError(f"{path}: broken checkpoint ({_reason(error)}); train again or copy it again") from None
    try:
        settings = dict(checkpoint["hyper_parameters"])
        weights = {k.removeprefix("network."): v for k, v in checkpoint["state_dict"].items() if k.startswith("network.")}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no checkpoint of a training of this project ({_reason(error)}); {advice}") from None
    # NaN would not crash anything: no score is above its threshold, so all images would look empty.
    broken = [key for key, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise InputError(f"{path}: NaN or infinite weights in {broken[0]} ({len(broken)} in all); use an earlier checkpoint")
    return Trained(path, settings, weights, hashlib.sha256(path.read_bytes()).hexdigest()[:16])


def load_weights(network: nn.Module, trained: Trained) -> None:
    """Put a checkpoint's tensors into the network that it is of.

    Raises:
        InputError: if it is of another one.
    """
    try:
        network.load_state_dict(trained.weights)
    except RuntimeError as error:
        raise InputError(f"{trained.path}: is of another network ({_reason(error)}); give one that fits") from None


def _reason(error: Exception) -> str:
    # torch adds paragraphs on how to load what cannot be trusted; nothing that a user of ours should do.
    return shorten(str(error).partition("This file can still be loaded")[0].partition("In PyTorch 2.6")[0])
