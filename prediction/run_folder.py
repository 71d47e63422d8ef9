"""A run folder: what a predicting command has written, and where it lies; see prediction/run.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.instance_dump import InstanceLogits, read_instances
from data.panoptic_file import PANOPTIC_ENDING
from data.panoptic_png import PanopticMap, read_panoptic_png
from data.semantic_dump import SemanticLogits, SemanticMap, read_semantics
from data.taxonomy import Taxonomy
from runtime.files import InputError, read_json

FORMAT, VERSION = "panoptic-run", 1


@dataclass(frozen=True)
class Run:
    """A run folder, as predict_split writes it."""

    folder: Path
    taxonomy: Taxonomy
    kept: tuple[str, ...]
    min_score: float | None = None
    places: Mapping[str, Path] = field(default_factory=dict)
    """Folders of some kinds that lie outside of the run folder."""

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Read a folder's run.json.

        Raises:
            InputError: if no run of this program is there.
        """
        path = Path(folder) / "run.json"
        content = read_json(path)
        try:
            if (content["format"], content["version"]) != (FORMAT, VERSION):
                raise KeyError("format")
            taxonomy = Taxonomy.from_coco_categories(content["taxonomy"], content["categories"])
            return cls(Path(folder), taxonomy, tuple(content["kept"]), content["min_score"])
        except (KeyError, TypeError):
            raise InputError(f"{path}: no run of this program; predict again") from None

    @property
    def panoptic_json(self) -> Path:
        """The COCO panoptic JSON."""
        return self.folder / "panoptic.json"

    def place(self, kind: str) -> Path:
        """The folder of what is kept of a kind."""
        return self.places.get(kind, self.folder / kind)

    def png(self, image_id: str) -> Path:
        """The panoptic PNG of an image."""
        return self.place("panoptic") / f"{image_id}{PANOPTIC_ENDING}.png"

    def drawing(self, image_id: str) -> Path:
        """The overlay of an image."""
        return self.place("overlay") / f"{image_id}.png"

    def panoptic(self, image_id: str) -> PanopticMap:
        """Read the panoptic map of an image, with its segments' scores.

        Raises:
            InputError: if it is missing or broken.
        """
        found = read_panoptic_png(self.png(image_id))
        if found is None:
            raise InputError(f"{self.png(image_id)}: is missing or broken; run the same command again")
        return found

    def instances(self, image_id: str, size: tuple[int, int] | None = None) -> InstanceLogits:
        """Read the instances of an image; errors as read_instances."""
        return read_instances(self.place("instances"), image_id, self.taxonomy, size)

    def semantic(self, image_id: str, size: tuple[int, int] | None = None) -> SemanticLogits | SemanticMap:
        """Read the semantics of an image; errors as read_semantics."""
        return read_semantics(self.place("semantic"), image_id, self.taxonomy, size)
