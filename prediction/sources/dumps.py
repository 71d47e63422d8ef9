"""Folders of dumps, ours or anybody's in the exchange formats."""

from pathlib import Path

import numpy as np

from data import instance_dump, semantic_dump
from data.dump_file import read_header
from data.instance_dump import read_instances
from data.semantic_dump import read_semantics
from data.taxonomy import TAXONOMIES, Taxonomy
from prediction.predictor import Prediction
from prediction.run import Run
from runtime.files import InputError, file_digest, read_json

SUFFIXES = {"instances": (instance_dump.SUFFIX,), "semantic": (semantic_dump.SUFFIX, semantic_dump.MAP_SUFFIX)}
"""Of the dumps of each kind."""
FORMATS = {"instances": instance_dump.KIND, "semantic": semantic_dump.KIND}
"""What their headers call them."""


class DumpedInstances:
    """A folder of instance dumps, or of a run that has kept instances.

    Raises:
        InputError: if it holds neither.
    """

    gives = ("instances",)
    needs_pixels = False

    def __init__(self, folder: Path, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.folder, self.min_score = _find_dumps(folder, "instances")

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        return file_digest(instance_dump.dump_path(self.folder, image_id))

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        return Prediction(instances=read_instances(self.folder, image_id, self.taxonomy, image.shape[:2]))


class DumpedSemantics:
    """A folder of semantic dumps or class maps, or of a run that has kept semantics.

    Raises:
        InputError: if it holds neither.
    """

    gives = ("semantic",)
    min_score = None
    needs_pixels = False

    def __init__(self, folder: Path, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.folder, _ = _find_dumps(folder, "semantic")

    def fingerprint(self, image_id: str) -> str:
        """See Predictor."""
        logits, map_ = semantic_dump.dump_path(self.folder, image_id), semantic_dump.map_path(self.folder, image_id)
        return file_digest(map_ if map_.exists() and not logits.exists() else logits)

    def predict(self, image_id: str, image: np.ndarray) -> Prediction:
        """See Predictor."""
        return Prediction(semantic=read_semantics(self.folder, image_id, self.taxonomy, image.shape[:2]))


def holds_dumps(folder: Path, kind: str) -> bool:
    """Whether a folder, or that of a run, holds dumps.

    Args:
        kind: instances or semantic.
    """
    if not folder.is_dir():
        return False
    place = folder / kind if (folder / kind).is_dir() else folder
    return any(next(place.rglob(f"*{suffix}"), None) for suffix in SUFFIXES[kind]) or (folder / "run.json").is_file()


def taxonomy_of_dumps(folder: Path, kind: str) -> Taxonomy:
    """The classes that dumps are of: those of the run that wrote them, else known ones by the name in their headers.

    Raises:
        InputError: if nothing says them.
    """
    place = folder / kind if (folder / kind).is_dir() else folder
    for path in (folder, place, place.parent):
        if (path / "run.json").is_file():
            return Run.open(path).taxonomy
    first = next(path for suffix in SUFFIXES[kind] for path in sorted(place.rglob(f"*{suffix}")))
    name = "a class map" if first.suffix == ".png" else read_header(first, FORMATS[kind])["taxonomy"]
    if name not in TAXONOMIES:
        raise InputError(f"{first}: is of {name!r}, whose classes nothing says; give the run folder with its run.json")
    return TAXONOMIES[name]


def _find_dumps(folder: Path, kind: str) -> tuple[Path, float | None]:
    """The folder that holds the dumps, and from which score on the instances of the run that wrote them are worth fusing."""
    folder = Path(folder)
    place = folder / kind if (folder / kind).is_dir() else folder
    if not any(next(place.rglob(f"*{suffix}"), None) for suffix in SUFFIXES[kind]):
        raise InputError(f"{folder}: no {kind} dumps there; predict them first, or give another folder")
    folders = (
        (place, place.parent) if place.name == kind else (place,)
    )  # a folder of another name is no part of the run around it
    run = next((path / "run.json" for path in folders if (path / "run.json").is_file()), None)
    content = read_json(run) if run else {}
    if not isinstance(content, dict) or kind not in content.get("kept", [kind]):
        raise InputError(f"{place}: is of an earlier run, as {run} says; predict with --keep {kind}, or give another folder")
    min_score = content.get("instances_min_score")
    return place, min_score if isinstance(min_score, int | float) else None
