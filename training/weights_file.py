"""Weights to start from: checkpoints of other projects read without executing pickled code, matched with a network by name,
and kept as safetensors with a JSON header that says what they are, from which file, for which network."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from backbones.packaged_weights import find_lite
from runtime.checkpoint_file import check_plain, read_checkpoint_file
from runtime.files import InputError, atomic_path, parse_json, remove_partial_files, shorten

KIND = "imported-weights"
VERSION = 1
HEADER_FIELDS = ("format", "version", "source", "file", "sha256", "network", "left_out", "missing")
CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Under which of these keys a checkpoint may hold its tensors, if not at the top."""
MIN_SHARE = 0.9
"""Share of a family's tensors that must be there; below it, the checkpoint is of another model."""
COUNTER = "num_batches_tracked"
"""Of a norm's running statistics; older checkpoints lack it, and it means nothing for another training."""


@dataclass(frozen=True)
class Source:
    """A family of checkpoints, and where its tensors belong in one network."""

    name: str
    marker: str
    """A tensor that all checkpoints of the family hold and no other family's do."""
    names: Mapping[str, str]
    """Name in our network -> name in the checkpoint."""
    class_layers: tuple[str, ...] = ()
    """Our names of tensors whose length is the number of classes: of another length, they are left out."""
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """Applied to the matched tensors, under our names."""
    has_squeeze: bool | None = None
    """Of an EfficientNet, whether its checkpoints hold squeeze-and-excitation: a Lite's, of the same names and shapes, do not."""


@dataclass(frozen=True)
class Match:
    """tensors: under our names; left_out: names of the checkpoint; missing: our names, which stay as initialised."""

    tensors: dict[str, Tensor]
    left_out: list[str]
    missing: list[str]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch checkpoint by name, on the CPU, floating ones as float32.

    Raises:
        InputError: if it is missing, truncated, holds no tensors, pickled code, or NaN.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a .pth, .pt, .bin or .safetensors file")
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        content = read_checkpoint_file(path, "save the model's state_dict() only")
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    found = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name).removeprefix("module."): value for name, value in found if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name; save the model's state_dict()")
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor = tensor.float()
            if not tensor.isfinite().all():
                raise InputError(f"{path}: NaN or infinite weights in {name}; use an earlier checkpoint")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        content = load_file(path)
        check_plain(content)
        return content
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: broken safetensors ({shorten(error)}); copy it again") from None


def match(state: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor], source: Source) -> Match:
    """Pair a network's tensors with a checkpoint's.

    Raises:
        InputError: if the checkpoint is of another model: fewer than MIN_SHARE of its tensors are there, or one that is no
            class layer has another shape.
    """
    tensors = {ours: checkpoint[theirs] for ours, theirs in source.names.items() if theirs in checkpoint}
    wanted = [ours for ours in source.names if not ours.endswith(COUNTER)]
    absent = [source.names[ours] for ours in wanted if ours not in tensors]
    if len(absent) > (1 - MIN_SHARE) * len(wanted):
        raise InputError(
            f"{source.name} checkpoint of another model: it lacks {len(absent)} of {len(wanted)} tensors, "
            f"first {absent[0]}; give the right --for"
        )
    for ours in list(tensors):
        found, needed = tuple(tensors[ours].shape), tuple(state[ours].shape)
        if found != needed and ours in source.class_layers and found[1:] == needed[1:]:
            del tensors[ours]
        elif found != needed:
            raise InputError(f"{source.names[ours]} is {found}, but {needed} was needed for {ours}; give the right --for")
    used = {source.names[ours] for ours in tensors}
    return Match(
        source.convert(tensors),
        left_out=sorted(set(checkpoint) - used),
        missing=[ours for ours in state if ours not in tensors and not ours.endswith(COUNTER)],
    )


def find_source(sources: Iterable[Source], names: Iterable[str]) -> Source | None:
    """The family that a checkpoint with these names is of.

    Raises:
        InputError: if it is an EfficientNet-Lite for an EfficientNet, or the reverse, which compute different functions.
    """
    names = set(names)
    source = next((source for source in sources if source.marker in names), None)
    if source is not None and source.has_squeeze is not None:
        has_squeeze = any("se_reduce" in name or ".se." in name for name in names)
        if has_squeeze != source.has_squeeze:
            kinds = ("EfficientNet-Lite, without", "EfficientNet, with")
            variants = ("lite0, lite1 or lite2", "b0 .. b7")
            raise InputError(
                f"it is an {kinds[has_squeeze]} squeeze-and-excitation, whose activations and pixel values are others; "
                f"give a --for of {variants[has_squeeze]}"
            )
    return source


def lite_sources(network: nn.Module) -> tuple[Source, ...]:
    """The checkpoints that can start an EfficientNet-Lite within a network; none where it has no such backbone."""
    if (found := find_lite(network)) is None:
        return ()
    prefix, backbone = found
    names = {f"{prefix}.lite.{name}": name for name in backbone.lite.state_dict()}
    return (Source("EfficientNet-Lite", marker="_conv_stem.weight", names=names, has_squeeze=False),)


def count_names(names: list[str], limit: int = 8) -> str:
    """How many names there are, in which parts, and the first of them, in one line."""
    if not names:
        return "none"
    parts = Counter(name.split(".")[0] for name in names)
    groups = ", ".join(f"{part} {count}" for part, count in parts.items()) if len(parts) <= limit else f"{len(parts)} parts"
    rest = f", and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)} ({groups}): {', '.join(names[:limit])}{rest}"


def write_weights(path: Path, found: Match, *, source: str, checkpoint: Path, network: str) -> None:
    """Write matched tensors atomically; the same content gives the same bytes.

    Raises:
        OSError: if it cannot be written, such as on a full disk.
    """
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    values = (KIND, VERSION, source, checkpoint.name, digest, network, found.left_out, found.missing)
    header = dict(zip(HEADER_FIELDS, values, strict=True))
    remove_partial_files(path.parent)
    with atomic_path(path) as partial:
        # Not save_file, which hides the system's reason, such as a full disk.
        partial.write_bytes(save({k: v.contiguous() for k, v in found.tensors.items()}, {"header": json.dumps(header)}))


def read_weights(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Header and tensors of a file of write_weights.

    Raises:
        InputError: if it is missing, truncated, or anything else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; make one with scripts/import_weights.py")
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {}).get("header", "{}"))
            if not isinstance(header, dict) or header.get("format") != KIND or header.get("version") != VERSION:
                raise InputError(f"{path}: no weights file of version {VERSION}; make one with scripts/import_weights.py")
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            check_plain(tensors)
            return header, tensors
    except InputError:
        raise
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        reason = shorten(error)
        raise InputError(f"{path}: no whole weights file ({reason}); make one with scripts/import_weights.py") from None


def load_weights_file(network: nn.Module, path: str | Path) -> tuple[str, set[str]]:
    """Copy all tensors of a weights file into a network, by name.

    Returns:
        A line that says what came and what stays as initialised, and the names of what came.

    Raises:
        InputError: if it cannot be read, or the network lacks one of its tensors or has it in another shape.
    """
    path = Path(path).expanduser()
    header, tensors = read_weights(path)
    state = network.state_dict()
    for name, tensor in tensors.items():
        if name not in state or state[name].shape != tensor.shape:
            here = f"is {tuple(state[name].shape)} here" if name in state else "is not in this network"
            raise InputError(
                f"{path}: {name} {tuple(tensor.shape)} {here}; the file is for {header['network']}, set the same or import again"
            )
    network.load_state_dict(tensors, strict=False)
    stays = [name for name in state if name not in tensors and not name.endswith(COUNTER)]
    line = f"weights {path}: {len(tensors)} tensors of {header['source']} loaded; as initialised: {count_names(stays, 4)}"
    return line, set(tensors)
