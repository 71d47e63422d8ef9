"""Which device a command computes on, and whether torch is there for it: predicting on a CPU needs none."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from runtime.files import InputError, shorten


def default_device() -> str:
    """cuda where there is a GPU that torch, or without torch onnxruntime, can use; else cpu."""
    if has_torch():
        return "cuda" if import_module("torch").cuda.is_available() else "cpu"
    return "cuda" if _has_cuda_provider() else "cpu"


def check_device(name: str) -> str:
    """The name, if this machine has the device.

    Raises:
        InputError: if it has not.
    """
    if name == "cpu":
        return name
    if has_torch():
        try:
            import_module("torch").empty(1, device=name)
            return name
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = shorten(error, 80)
    elif name.partition(":")[0] == "cuda" and _has_cuda_provider():
        return name
    else:
        reason = "torch is not installed, and onnxruntime has no CUDA provider"
    raise InputError(f"device {name!r} cannot be used here ({reason}); take cpu or cuda")


def is_cpu(device: object) -> bool:
    """Whether a device, by its name or as torch.device, is the CPU."""
    return str(device).partition(":")[0] == "cpu"


@cache
def has_torch() -> bool:
    """Whether torch is installed; does not import it."""
    return find_spec("torch") is not None


def need_torch(what: str) -> None:
    """Refuse what only torch can do where it is not installed.

    Args:
        what: that needs it, for the message.

    Raises:
        InputError: if torch is not installed.
    """
    if not has_torch():
        advice = "install it by `pip install '.[train]'`, or give a model that scripts/export.py has written"
        raise InputError(f"{what}: needs torch, which is not installed; {advice}")


def _has_cuda_provider() -> bool:
    if find_spec("onnxruntime") is None:
        return False
    return "CUDAExecutionProvider" in import_module("onnxruntime").get_available_providers()
