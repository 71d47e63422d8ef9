"""An exported model: a folder of `model.onnx`, the network, and `model.yaml`, all that one must know to use it.

format: panoptic-exported-model         # with `version`, what this program reads
system: efficientps                     # whose networks have OUTPUTS
producer: efficientps-lite0-0123...     # changes with the weights
taxonomy: cityscapes                    # with `categories`, as in a COCO panoptic JSON, by train id
opset: 18                               # of the ONNX file, with standard operators alone
precision: float32                      # or float16: what is computed in; inputs and outputs are float32
batch: 1                                # or any
input:
  size: null                            # any, in multiples of `multiple`; or [height, width], to which images are padded
  multiple: 32
  stride: 4                             # pixels of the smallest image that it takes
  resize: {rule: shorter_side, ...}     # or box: see resized_size
  mean: [123.675, 116.28, 103.53]       # of RGB pixels of 0 to 255
  std: [58.395, 57.12, 57.375]
min_score: null                         # of the instances that are worth fusing
settings: {...}                         # of what follows the network, by system: see prediction/exported/predictor.py

The network takes `image`, (1, 3, H, W) float32, RGB, resized, normalised, padded at the bottom and on the right; where it finds
boxes also `size`, (2,) int64, the image's height and width without that padding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.input_size import InputSize, check_enlarged
from data.normalization import Normalization
from data.taxonomy import Taxonomy
from runtime.files import InputError, atomic_path, digest_of, file_digest, read_yaml, shorten

MODEL, SETTINGS = "model.onnx", "model.yaml"
FORMAT, VERSION = "panoptic-exported-model", 1
OUTPUTS = {
    "solov2": ("masks", "scores", "labels", "smallest_areas"),
    "efficientps": ("semantic_logits",),
    "efficientps-maskrcnn": ("semantic_logits", "boxes", "scores", "labels", "masks"),
    "panoptic_fpn": ("semantic_logits", "boxes", "scores", "labels", "masks"),
    "pan_secb": ("offsets", "sigmas", "seeds", "semantic"),
}
"""System -> names of the network's outputs.

semantic_logits: (1, C, h, w) at `settings.logit_stride`. boxes (N, 4), scores (N,), labels (N,) train ids and masks (N, 28, 28)
logits: as detection.instance_head.Detections. SOLOv2's are those above its score limit, before matrix NMS: masks (N, h, w) logits
at `settings.mask_stride`, scores (N,), labels (N,) places among the things, smallest_areas (N,) in cells. offsets (1, 2, H, W),
sigmas (1, S, H, W), seeds (1, T, H, W), semantic (1, C, H, W): as pan_secb.network.EmbeddingOutput.
"""
ADVICE = "export it again: scripts/export.py"


@dataclass(frozen=True)
class InputForm:
    """How an image becomes the network's input; see the head of this file."""

    size: tuple[int, int] | None
    multiple: int
    stride: int
    resize: Mapping[str, Any]
    normalization: Normalization

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "InputForm":
        """Read the YAML's `input`.

        Raises:
            KeyError, TypeError, ValueError: if something is absent or impossible.
        """
        size, sides = plain["size"], (plain["multiple"], plain["stride"])
        if not all(type(side) is int and 0 < side < 2**15 for side in (*sides, *(size or sides))):
            raise ValueError("sizes must be whole numbers above 0")
        if size is not None and (len(size) != 2 or any(side % plain["multiple"] for side in size)):
            raise ValueError(f"size must be a height and a width in multiples of {plain['multiple']}")
        values = [tuple(float(v) for v in plain[name]) for name in ("mean", "std")]
        if any(len(three) != 3 for three in values) or not min(values[1]) > 0:
            raise ValueError("mean and std must be three numbers each, std above 0")
        form = cls(None if size is None else tuple(size), *sides, dict(plain["resize"]), Normalization(*values))
        form.seen_size((64, 64))
        return form

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image -> what the network sees of it, without padding.

        Where the network's input has one size, an image that would not fit into it is shrunk until it does.

        Raises:
            ItemError: if the image would be enlarged beyond all measure.
        """
        seen = resized_size(size, self.resize)
        if self.size is not None:
            factor = min(1.0, *(most / side for most, side in zip(self.size, seen, strict=True)))
            if factor < 1:
                fitting = zip(self.size, seen, strict=True)
                seen = tuple(min(most, max(1, int(side * factor + 0.5))) for most, side in fitting)
        check_enlarged(size, seen)
        return seen


def resized_size(size: tuple[int, int], resize: Mapping[str, Any]) -> tuple[int, int]:
    """To what size a network's training brought images.

    Args:
        resize: `rule` shorter_side with the fields of data.input_size.InputSize, or box: as large as fits into `longer` and
            `shorter` pixels, whichever way the image lies, as mmdet's Resize with keep_ratio.

    Raises:
        KeyError, TypeError, ValueError: if a field is absent or unknown.
    """
    fields = {name: value for name, value in resize.items() if name != "rule"}
    if resize["rule"] == "shorter_side":
        return InputSize(**fields).of(size)
    if resize["rule"] != "box":
        raise ValueError(f"resize rule {resize['rule']!r} is unknown; shorter_side and box are known")
    factor = min(fields["longer"] / max(size), fields["shorter"] / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


@dataclass(frozen=True)
class ModelFolder:
    """What the YAML of an exported model says; `name` changes with every byte of both files."""

    path: Path
    system: str
    name: str
    producer: str
    taxonomy: Taxonomy
    precision: str
    input: InputForm
    min_score: float | None
    settings: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs."""
        return OUTPUTS[self.system]

    def digest(self) -> str:
        """Of system and classes, as the ONNX file holds it; see `classes_digest`."""
        return classes_digest(self.system, self.taxonomy)


def classes_digest(system: str, taxonomy: Taxonomy) -> str:
    """What an ONNX file and its YAML must have in common: digits of the system and the classes, in their order."""
    return digest_of(system, [(c.dataset_id, c.name, c.is_thing) for c in taxonomy.categories])


def find_folder(path: Path) -> Path:
    """The folder of an exported model that a path names: itself, or one of its two files."""
    path = Path(path).expanduser()
    return path.parent if path.name in (MODEL, SETTINGS) else path


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the YAML atomically."""
    with atomic_path(Path(folder) / SETTINGS) as partial:
        text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        partial.write_text(text, encoding="utf-8")


def read_folder(path: Path) -> ModelFolder:
    """Read an exported model's YAML.

    Args:
        path: of the folder, or of one of its two files.

    Raises:
        InputError: if one of both is missing, or the YAML is of something else, of another version, or impossible.
    """
    folder = find_folder(path)
    settings = folder / SETTINGS
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; export a model first: scripts/export.py --checkpoint FILE --to onnx")
    for name, other in ((SETTINGS, MODEL), (MODEL, SETTINGS)):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: has no {name}, which stands beside {other}; copy the whole folder, or {ADVICE}")
    plain = read_yaml(settings)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise InputError(f"{settings}: is of no exported model of this project; {ADVICE}")
    if plain.get("version") != VERSION:
        raise InputError(f"{settings}: version {shorten(plain.get('version'), 20)}, but this program reads {VERSION}; {ADVICE}")
    try:
        if plain["system"] not in OUTPUTS:
            raise ValueError(f"system {shorten(plain['system'], 30)} is unknown; {', '.join(OUTPUTS)} are known")
        if plain["precision"] not in ("float32", "float16", "int8"):
            raise ValueError("precision must be float32, float16 or int8")
        min_score = plain["min_score"]
        if min_score is not None and not 0 <= float(min_score) <= 1:
            raise ValueError("min_score must be a share from 0 to 1, or null")
        return ModelFolder(
            folder,
            plain["system"],
            f"{plain['producer']}-onnx-{digest_of(file_digest(folder / MODEL), file_digest(settings))}",
            str(plain["producer"]),
            Taxonomy.from_coco_categories(plain["taxonomy"], plain["categories"]),
            plain["precision"],
            InputForm.from_plain(plain["input"]),
            min_score,
            dict(plain["settings"]),
        )
    except KeyError as error:
        raise InputError(f"{settings}: has no {shorten(error, 40)}; {ADVICE}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{settings}: cannot be used ({shorten(error)}); correct it, or {ADVICE}") from None
