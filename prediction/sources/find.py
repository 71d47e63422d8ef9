"""What --instances and --semantics can name, and the predictor of it: the one place that knows all forms.

none, truth, model, a checkpoint or exported model of this project, a folder of dumps; a model of another library, as
LIBRARY:NAME; and what other tools write: see INSTANCE_FOLDERS and SEMANTIC_FOLDERS. A new form is a file beside this one and a
line here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path

from data.class_map import ClassMap, read_class_map
from data.class_matching import NAMES, NUMBERINGS, ForeignClasses, joint_taxonomy, read_matching
from data.split import Split
from data.taxonomy import CITYSCAPES, Taxonomy
from prediction.models import find_checkpoint, is_exported, load_predictor
from prediction.predictor import Predictor
from prediction.run import Run
from prediction.sources import cityscapes_masks, class_maps, logit_arrays, yolo_polygons
from prediction.sources.coco_results import CocoResults
from prediction.sources.dumps import DumpedInstances, DumpedSemantics, holds_dumps, taxonomy_of_dumps
from prediction.sources.foreign import ForeignInstances, ForeignSemantics, MappedInstances, MappedSemantics
from prediction.sources.own import OwnInstances, OwnSemantics
from prediction.sources.panoptic_results import PanopticInstances, PanopticSemantics
from prediction.sources.truth import Truth
from prediction.views import PLAIN, ViewSettings
from runtime.device import need_torch
from runtime.files import InputError, read_json, shorten, walk_files
from runtime.progress import note

LIBRARIES = {"torchvision": "torchvision_models", "hf": "huggingface", "onnx": "onnx_model"}
"""Prefix -> the file here that opens what follows it: open_instances(name, device) and open_semantics(name, device)."""
LIBRARIES_OF_TORCH = ("torchvision", "hf")
PARTS = {"instances": "instances", "semantics": "semantic"}
"""Half -> its name among the parts of a Prediction."""
CHECKPOINT_SUFFIXES = (".ckpt", ".pth")


@dataclass(frozen=True)
class HalvesSettings:
    """How the halves are read.

    Args:
        checkpoint: what `model` means.
        device, views: of networks.
        images_json: the annotation file that numbers of images and classes in a result file are of.
        names_yaml: a YAML with `names`, of classes that are places in a list.
        instances_classes, semantics_classes: class maps, as data.class_matching.read_matching takes them.
        instances_confidence: logit inside a binary mask, and minus that outside.
    """

    checkpoint: Path | None = None
    device: str = "cpu"
    views: ViewSettings = PLAIN
    images_json: Path | None = None
    names_yaml: Path | None = None
    instances_classes: str | None = None
    semantics_classes: str | None = None
    instances_confidence: float = 10.0

    def __post_init__(self):
        for name in ("checkpoint", "images_json", "names_yaml"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)).expanduser())
        if not 0.01 <= self.instances_confidence <= 100:
            needed = "a logit of 0.01 to 100 is needed"
            raise InputError(f"instances_confidence is {self.instances_confidence}, but {needed}")


@dataclass
class Halves:
    """Finds both halves; a model that is given for both is loaded once, and runs once an image.

    Args:
        instances, semantics: what the user gave.
    """

    split: Split
    instances: str
    semantics: str
    settings: HalvesSettings = field(default_factory=HalvesSettings)

    def __post_init__(self):
        self._loaded: dict[Path, Predictor] = {}
        self._opened: dict[str, ForeignInstances | ForeignSemantics] = {}
        self._used: set[str] = set()

    @property
    def has_model(self) -> bool:
        """Whether a half is a live model of this project."""
        return bool(self._loaded)

    def find(self) -> tuple[Predictor | None, Predictor]:
        """The predictors of the instances, None for `none`, and of the semantics.

        Raises:
            InputError: if something is missing, or does not fit.
        """
        if self.semantics == "none":
            raise InputError("--semantics none leaves nothing to fuse; give `model`, `truth`, a folder or a model")
        semantics = self._find(self.semantics, "semantics")
        instances = None if self.instances == "none" else self._find(self.instances, "instances")
        if instances is None and self.settings.instances_classes is not None:
            raise InputError("--instances-classes is of instances, but there are none; leave it out")
        for name, flag in (("images_json", "--instances-images"), ("names_yaml", "--class-names")):
            if getattr(self.settings, name) is not None and name not in self._used:
                raise InputError(f"{flag} {getattr(self.settings, name)}: neither half reads it; leave it out")
        return instances, semantics

    def _find(self, given: str, half: str) -> Predictor:
        is_mapped = getattr(self.settings, f"{half}_classes") is not None
        if given == "truth":
            if is_mapped:
                raise InputError(f"--{half}-classes is for predictions; the truth goes through --truth-classes")
            return Truth(self.split)
        if (path := self._checkpoint_of(given)) is not None:
            own = self._load(path)
        elif _library_of(given) is None and holds_dumps(path := Path(given).expanduser(), PARTS[half]):
            dumped = DumpedInstances if half == "instances" else DumpedSemantics
            own = dumped(path, taxonomy_of_dumps(path, PARTS[half]) if is_mapped else self.taxonomy)
        else:
            return self._mapped(self._open(given, half), half)
        if not is_mapped:
            return own
        if PARTS[half] not in own.gives:
            raise InputError(f"--{half} {given}: gives none; give a model of {half}, or its dumps")
        return self._mapped((OwnInstances if half == "instances" else OwnSemantics)(own, given), half)

    def _mapped(self, source: ForeignInstances | ForeignSemantics, half: str) -> Predictor:
        """A foreign half in the classes of the result; its notes are printed."""
        if half == "instances":
            matching = read_matching(self.settings.instances_classes or self._own_matching, self.taxonomy)
            mapped = MappedInstances(source, self.taxonomy, matching, self.settings.instances_confidence)
        else:
            matching = read_matching(self.settings.semantics_classes or self._own_matching, self.taxonomy)
            mapped = MappedSemantics(source, self.taxonomy, matching)
        for text in mapped.notes:
            note(text)
        return mapped

    def _checkpoint_of(self, given: str) -> Path | None:
        if given == "model":
            if self.settings.checkpoint is None:
                raise InputError("`model` needs --checkpoint; give one, or another half")
            return self.settings.checkpoint
        if _library_of(given) is not None:
            return None
        path = find_checkpoint(given)
        return path if path.suffix in CHECKPOINT_SUFFIXES or is_exported(path) else None

    def _load(self, path: Path) -> Predictor:
        if path not in self._loaded:
            self._loaded[path] = load_predictor(path, self.settings.device, self.settings.views)
        return self._loaded[path]

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The classes of the result: the split's, a checkpoint's, a class map's, a run folder's, or what the halves name."""
        if self.split.taxonomy is not None:
            return self.split.taxonomy
        halves = ((self.semantics, self.settings.semantics_classes), (self.instances, self.settings.instances_classes))
        both = [given for given, classes in halves if given not in ("none", "truth") and classes is None]
        for given in both:
            if (path := self._checkpoint_of(given)) is not None:
                return self._load(path).taxonomy
        for given in (self.settings.semantics_classes, self.settings.instances_classes):
            if given not in (None, NAMES, *NUMBERINGS):
                return read_class_map(given).target
        for given in both:
            if (Path(given).expanduser() / "run.json").is_file():
                return Run.open(Path(given).expanduser()).taxonomy
        named = self._named_classes
        return CITYSCAPES if named is None else joint_taxonomy(*named)

    @cached_property
    def _named_classes(self) -> tuple[ForeignClasses, ForeignClasses | None] | None:
        """The classes of two live models, or of one for the semantics alone; None where something else is given."""
        if _library_of(self.semantics) is None or not (_library_of(self.instances) or self.instances == "none"):
            return None
        instances = None if self.instances == "none" else self._open(self.instances, "instances").classes
        return self._open(self.semantics, "semantics").classes, instances

    @property
    def _own_matching(self) -> str | None:
        """Where the classes of the result are the models' own, what only one of both knows is left out."""
        return NAMES if self.split.taxonomy is None and self._named_classes is not None else None

    def _open(self, given: str, half: str) -> ForeignInstances | ForeignSemantics:
        key = f"{half} {given}"
        if key not in self._opened:
            self._opened[key] = self._open_anew(given, half)
        return self._opened[key]

    def _open_anew(self, given: str, half: str) -> ForeignInstances | ForeignSemantics:
        if (library := _library_of(given)) is not None:
            if library in LIBRARIES_OF_TORCH:
                need_torch(f"--{half} {given}")
            module = import_module(f"prediction.sources.{LIBRARIES[library]}")
            return getattr(module, f"open_{half}")(given.partition(":")[2], self.settings.device)
        path = Path(given).expanduser()
        forms = INSTANCE_FOLDERS if half == "instances" else SEMANTIC_FOLDERS
        if path.is_dir():
            for suffixes, opens in forms:
                if walk_files(path, suffixes):
                    return opens(self, path)
            known = ", ".join(suffix for suffixes, _ in forms for suffix in suffixes)
            dumps = "solov2/eval.py writes dumps" if half == "instances" else "solo_fusion.py --keep semantic writes dumps"
            raise InputError(f"--{half} {given}: holds neither dumps nor {known} files; {dumps}")
        if path.suffix == ".json" and path.is_file():
            return self._open_json(path, half)
        needed = f"a folder, a checkpoint, `model`, `truth`, a JSON of results, or {', '.join(f'{k}:NAME' for k in LIBRARIES)}"
        raise InputError(f"--{half} {given}: is not there; give {needed}" + (", or `none`" if half == "instances" else ""))

    def _open_json(self, path: Path, half: str) -> ForeignInstances | ForeignSemantics:
        images = self.settings.images_json
        if images is not None and not images.is_file():
            raise InputError(f"--instances-images {images}: no such file; give a COCO annotation JSON")
        with path.open("rb") as file:
            begins = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if begins == b"{":
            if not isinstance(content := read_json(path), dict) or "annotations" not in content:
                raise InputError(f"{path}: is neither a list of results nor a panoptic JSON; give one of both")
            opens = PanopticInstances if half == "instances" else PanopticSemantics
            return opens(path, self.split, None if content.get("categories") else self.taxonomy)
        if half == "semantics":
            raise InputError(f"--semantics {shorten(path)}: a list of results has no class of each pixel; give it as --instances")
        self._used.add("images_json")
        if images is not None:
            return CocoResults(path, self.split, images)
        return CocoResults(path, self.split, getattr(self.split, "instances_json", None), has_classes=False)

    def _open_text(self, folder: Path) -> ForeignInstances:
        """Both forms of txt files; a line of Cityscapes' begins with the name of a PNG."""
        files = (folder / file for file in walk_files(folder, (cityscapes_masks.SUFFIX,)))
        if cityscapes_masks.is_one(next((path for path in files if path.stat().st_size), None)):
            return cityscapes_masks.CityscapesMasks(folder, self.split)
        self._used.add("names_yaml")
        return yolo_polygons.YoloPolygons(folder, self.split, self.settings.names_yaml)

    def _open_maps(self, folder: Path) -> ForeignSemantics:
        return class_maps.ClassMapFiles(folder, self.split, self.taxonomy, self._semantics_matching)

    def _open_arrays(self, folder: Path) -> ForeignSemantics:
        self._used.add("names_yaml")
        names = None if self.settings.names_yaml is None else yolo_polygons.read_names(self.settings.names_yaml)
        return logit_arrays.LogitArrays(folder, self.split, self.taxonomy, self._semantics_matching, names)

    @property
    def _semantics_matching(self) -> ClassMap | str | None:
        return read_matching(self.settings.semantics_classes, self.taxonomy)


INSTANCE_FOLDERS: list[tuple[tuple[str, ...], Callable]] = [
    ((".txt",), Halves._open_text),
]
"""Suffixes of the files in a folder of instances, and who opens it: a function of these Halves and the folder."""
SEMANTIC_FOLDERS: list[tuple[tuple[str, ...], Callable]] = [
    (logit_arrays.SUFFIXES, Halves._open_arrays),
    (class_maps.SUFFIXES, Halves._open_maps),
]


def _library_of(given: str) -> str | None:
    """The prefix, of a model of another library."""
    prefix, colon, _ = given.partition(":")
    return prefix if colon and prefix in LIBRARIES else None
