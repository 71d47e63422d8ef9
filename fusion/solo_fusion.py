"""Fuse any instances with any semantics into panoptic PNGs and a COCO panoptic JSON, and score them where there is truth.

    $ python fusion/solo_fusion.py
    $ python fusion/solo_fusion.py --data-root /path/to/cityscapes --instances dumps/val --checkpoint best.ckpt
    $ python fusion/solo_fusion.py --images images/ --instances dumps/images --output outputs/images --keep panoptic overlay
    $ python fusion/solo_fusion.py --instances model --checkpoint maskrcnn.ckpt
    $ python fusion/solo_fusion.py --tta.scales 0.75 1 1.25 --tta.flip

Run the same command again after a kill, and only what is missing is fused.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from fusion.settings import RULES
from prediction.arguments import (
    add_input_arguments,
    add_model_arguments,
    add_run_arguments,
    device_of,
    predict_and_score,
    split_of,
    views_of,
)
from runtime.command_line import OUTPUTS, add_settings, current_spelling, given_settings, make_parser
from runtime.files import InputError, one_line_errors
from runtime.progress import note

if TYPE_CHECKING:
    from data.split import Split
    from prediction.predictor import Predictor

CHECKPOINT = OUTPUTS / "efficientps" / "streets_lite0" / "best.ckpt"
MODEL_SUFFIXES = (".ckpt", ".pth")
DUMPS = OUTPUTS / "solov2" / "streets_lite0" / "dumps" / "val"


def build_parser() -> ArgumentParser:
    """The command's arguments; every one can stand in the YAML of --config too."""
    parser = make_parser("solo_fusion.py", __doc__)
    add_input_arguments(parser)
    add_model_arguments(parser, CHECKPOINT, "what `model` means below, of any training here")
    group = parser.add_argument_group("halves")
    group.add_argument(
        "--instances",
        default=str(DUMPS),
        help="a folder of instance dumps, such as solov2/eval.py writes, a COCO result JSON (RLE or polygons), "
        "a checkpoint of any training here, `model` (that of --checkpoint), `truth`, or `none` "
        "(things are regions of the semantic argmax); "
        "default: outputs/solov2/streets_lite0/dumps/val",
    )
    help_images = "annotation JSON that tells which image a number in a result JSON is"
    group.add_argument("--instances-images", type=str | None, default=None, metavar="FILE", help=help_images)
    help_semantics = "`model`, a folder of semantic dumps, a checkpoint, or `truth`; default: model"
    group.add_argument("--semantics", default="model", help=help_semantics)
    add_run_arguments(parser, OUTPUTS / "fusion" / "streets", ("panoptic",))
    for kind in ("semantics", "instances"):
        help_save = f"also keep the {kind}, in this folder"
        group.add_argument(f"--save-{kind}", type=str | None, default=None, metavar="DIR", help=help_save)
    help_rule = "that joins the halves; each has its own settings, see below"
    group.add_argument("--rule", choices=tuple(RULES), default="logits", help=help_rule)
    for name, (prefix, settings) in RULES.items():
        short = {"min_score": "--min-score"} if name == "logits" else {}
        add_settings(parser, prefix, settings, f"--rule {name}", short)
    return parser


def predictor_of(args: Namespace, split: "Split") -> "Predictor":
    """What the arguments say is to be fused, and how.

    Raises:
        InputError: if something is missing, or does not fit.
    """
    from prediction.fused import RULES as MAKERS
    from prediction.fused import FusedPredictor

    sources = _Sources(args, split)
    semantics, instances = sources.find(args.semantics, "semantics"), sources.find(args.instances, "instances")
    if semantics is None:
        raise InputError("--semantics none leaves nothing to fuse; give `model`, `truth` or a folder of dumps")
    if not sources.has_model and not views_of(args).is_plain:
        raise InputError("--tta is of a live model, but neither half is one; leave it out")
    prefix, settings = RULES[args.rule]
    rule = MAKERS[args.rule](settings(**given_settings(args[prefix])), device_of(args))
    return FusedPredictor(instances, semantics, rule)


class _Sources:
    """Loads each model once: an object that is given for both halves runs once an image."""

    def __init__(self, args: Namespace, split: "Split"):
        self.args, self.split = args, split
        self.loaded: dict[Path, Predictor] = {}

    @property
    def has_model(self) -> bool:
        """Whether a half is a live model."""
        return bool(self.loaded)

    def find(self, given: str, half: str) -> "Predictor | None":
        """The predictor that --instances or --semantics names; None for `none`."""
        from prediction.sources import DumpedInstances, DumpedSemantics, Truth

        if given == "none":
            return None
        if given == "truth":
            return Truth(self.split)
        path = Path(self.args.checkpoint if given == "model" else given).expanduser()
        if given == "model" or path.suffix in MODEL_SUFFIXES:
            return self._load(path)
        if path.is_dir():
            dumped = DumpedInstances if half == "instances" else DumpedSemantics
            return dumped(path, self._taxonomy(path))
        if half == "instances" and path.suffix == ".json" and path.is_file():
            images = self.args.instances_images
            known = Path(images).expanduser() if images else getattr(self.split, "instances_json", None)
            if images and not known.is_file():
                raise InputError(f"--instances-images {images}: no such file; give a COCO annotation JSON")
            return self._read_results(path, known)
        needed = "a folder of dumps, a checkpoint, `model`, `truth`"
        needed += ", a COCO result JSON or `none`; solov2/eval.py writes dumps" if half == "instances" else ""
        raise InputError(f"--{half} {given}: is not there; give {needed}")

    def _read_results(self, path: Path, images_json: Path | None) -> "Predictor":
        from prediction.sources import CocoResultInstances

        results = CocoResultInstances(path, self._taxonomy(path), self.split, images_json)
        for text in results.notes:
            note(text)
        return results

    def _load(self, path: Path) -> "Predictor":
        from prediction.models import load_predictor

        if path not in self.loaded:
            self.loaded[path] = load_predictor(path, device_of(self.args), views_of(self.args))
        return self.loaded[path]

    def _taxonomy(self, path: Path):
        """The classes of a folder or file that does not say them: the split's, else a live model's, else a run folder's."""
        from data.taxonomy import CITYSCAPES
        from prediction.run import Run

        if self.split.taxonomy is not None:
            return self.split.taxonomy
        for given in (self.args.semantics, self.args.instances):
            model = Path(self.args.checkpoint if given == "model" else given).expanduser()
            if given == "model" or model.suffix in MODEL_SUFFIXES:
                return self._load(model).taxonomy
        return Run.open(path).taxonomy if (path / "run.json").is_file() else CITYSCAPES


def run(args: Namespace) -> None:
    """Fuse all images, write the run folder, score where there is truth."""
    split = split_of(args)
    predictor = predictor_of(args, split)
    places = {}
    for kind, folder in (("semantic", args.save_semantics), ("instances", args.save_instances)):
        if folder:
            args.keep = [*args.keep, kind]
            places[kind] = Path(folder).expanduser()
    if args.instances == "none" and "instances" in args.keep and args.save_instances:
        raise InputError("--save-instances has nothing to write with --instances none; leave one of them out")
    facts = {"instances": args.instances, "semantics": args.semantics, "checkpoint": args.checkpoint}
    facts["fusion"] = predictor.rule.settings
    output = Path(args.output or OUTPUTS / "fusion" / "streets").expanduser()
    predict_and_score(args, split, predictor, output, facts, places)


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
