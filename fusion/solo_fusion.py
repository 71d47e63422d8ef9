"""Fuse instance dumps and semantic logits into panoptic PNGs and a COCO panoptic JSON, and score them where there is truth.

    $ python fusion/solo_fusion.py
    $ python fusion/solo_fusion.py --data-root /path/to/cityscapes --instances dumps/val --checkpoint best.ckpt
    $ python fusion/solo_fusion.py --images photos/ --instances dumps/photos --output outputs/photos
    $ python fusion/solo_fusion.py --instances model --checkpoint maskrcnn.ckpt --fusion.min_score 0.5
    $ python fusion/solo_fusion.py --tta.scales '[0.75, 1, 1.25]' --tta.flip true

An image is done when its PNG is: run the same command again after a kill, and only what is missing is fused.
"""

import hashlib
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from rich.progress import track

from data import instance_dump, semantic_dump
from data.images import find_images, path_to_image_id, read_image_size
from data.instance_dump import write_instances
from data.layouts.cityscapes import Frame, data_root, find_frames, instances_json_path, read_truth
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, read_panoptic_png, write_panoptic_png
from data.semantic_dump import write_semantic
from data.taxonomy import CITYSCAPES
from efficientps.panoptic_inference import load_panoptic_predictor
from efficientps.predictor import load_semantic_predictor
from evaluation.panoptic_quality import ImageMatches, PanopticQuality, format_table, match_segments
from fusion.logit_fusion import FusionSettings, fuse, semantic_only
from prediction.sources import (
    CocoResultInstances,
    DumpedInstances,
    DumpedSemantics,
    InstanceSource,
    LivePanoptic,
    LiveSemantics,
    SemanticSource,
    TruthInstances,
    TruthSemantics,
)
from prediction.views import PLAIN, ViewSettings
from runtime.device import DEFAULT_DEVICE, check_device
from runtime.files import InputError, one_line_errors, remove_partial_files, write_json
from runtime.threads import in_threads

REPOSITORY = Path(__file__).resolve().parents[1]
TAXONOMY = CITYSCAPES
RULE_VERSION = "2"
"""Raise it when `fuse` gives other pixels for the same input, so that old PNGs are not taken for new ones."""


def build_parser() -> ArgumentParser:
    """The command's arguments; every one can stand in the YAML of --config too."""
    parser = ArgumentParser(prog="solo_fusion.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", action=ActionConfigFile, help="YAML with any of the arguments below")
    parser.add_argument("--data-root", type=str | None, help="Cityscapes folder; else $CITYSCAPES_DATASET, else Streets")
    parser.add_argument("--split", default="val", help="split of the data set to fuse and score")
    parser.add_argument("--images", type=str | None, help="instead of a data set: a picture, folder or glob, any sizes, no truth")
    parser.add_argument(
        "--instances",
        default=str(REPOSITORY / "outputs/solov2/streets_r18/dumps/val"),
        help="folder of instance dumps, a COCO result JSON (RLE), `model` (the Mask R-CNN head of --checkpoint), `truth`, or "
        "`none` (things = regions of the semantic argmax)",
    )
    parser.add_argument("--instances-images", type=str | None, help="annotation JSON that tells a result JSON's image ids")
    parser.add_argument("--semantics", default="model", help="`model` runs --checkpoint; else a folder of dumps, or `truth`")
    checkpoint = str(REPOSITORY / "outputs/efficientps/streets_b0/best.ckpt")
    parser.add_argument("--checkpoint", default=checkpoint, help="of efficientps/train_net.py")
    parser.add_argument("--save-semantics", type=str | None, help="also write the semantic logits to this folder, as dumps")
    parser.add_argument("--save-instances", type=str | None, help="also write the instances to this folder, as dumps")
    output = str(REPOSITORY / "outputs/fusion/streets")
    parser.add_argument("--output", default=output, help="gets panoptic/, panoptic.json and, where there is truth, scores.json")
    parser.add_argument("--device", default=DEFAULT_DEVICE, help="cpu, cuda, cuda:1, ...")
    help_workers = "images that are read, fused, written and scored at once; the model itself takes one at a time"
    parser.add_argument("--workers", type=PositiveInt, default=2, help=help_workers)
    parser.add_argument("--fusion", type=FusionSettings, default=FusionSettings())
    # Of the semantic model; stage 1's dumps have been made with eval.py's own.
    parser.add_argument("--tta", type=ViewSettings, default=PLAIN)
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Arguments with their settings built and checked."""
    parser = build_parser()
    return parser.instantiate(parser.parse_args(arguments))


def find_inputs(args: Namespace) -> list[Frame]:
    """The frames to fuse: plain pictures, or a split with its truth where it has one."""
    if args.images:
        return [Frame(path_to_image_id(path), path, None) for path in find_images(args.images)]
    return find_frames(data_root(args.data_root), args.split, need_labels=False)


def find_sources(args: Namespace) -> tuple[InstanceSource | None, SemanticSource]:
    """What --instances and --semantics name; no instance source means no instances at all."""
    if args.instances == "none" and args.save_instances:
        raise InputError("--save-instances has nothing to write with --instances none; leave one of them out")
    if args.instances != "model":
        return instance_source(args), semantic_source(args)
    if not args.tta.is_plain:
        raise InputError("--tta is of the semantic model alone, but --instances is model; leave one of them out")
    is_shared = args.semantics == "model"
    both = LivePanoptic(load_panoptic_predictor(_path(args.checkpoint), args.device), is_shared)
    return both.instances, both.semantics if is_shared else semantic_source(args)


def instance_source(args: Namespace) -> InstanceSource | None:
    """What --instances names; None means no instances at all."""
    if args.instances == "none":
        return None
    if args.instances == "truth":
        return TruthInstances(TAXONOMY)
    path = _path(args.instances)
    if path.is_dir():
        return DumpedInstances(path, TAXONOMY)
    if path.suffix == ".json" and path.is_file():
        images = _path(args.instances_images) if args.instances_images else _default_images_json(args)
        return CocoResultInstances(path, TAXONOMY, images)
    raise InputError(f"{path}: no dumps there; run solov2/eval.py first, or give a COCO result JSON, `truth` or `none`")


def semantic_source(args: Namespace) -> SemanticSource:
    """What --semantics names."""
    if args.semantics == "model":
        return LiveSemantics(load_semantic_predictor(_path(args.checkpoint), args.device, args.tta))
    if not args.tta.is_plain:
        raise InputError(f"--tta is of the live model, but --semantics is {args.semantics}; leave one of them out")
    if args.semantics == "truth":
        return TruthSemantics(TAXONOMY)
    if _path(args.semantics).is_dir():
        return DumpedSemantics(_path(args.semantics), TAXONOMY)
    raise InputError(f"{args.semantics}: no such folder of semantic dumps; give one, `model` or `truth`")


class FusedFrame(NamedTuple):
    """What is kept of an image once its PNG is written; `size` is (height, width), `matches` None without truth."""

    png: Path
    size: tuple[int, int]
    segments: tuple[Segment, ...]
    matches: ImageMatches | None


def fuse_and_match(
    frame: Frame, instances: InstanceSource | None, semantics: SemanticSource, folder: Path, args: Namespace
) -> FusedFrame:
    """All the work on one image, so that workers can do several at once."""
    png = folder / f"{frame.image_id}_panoptic.png"
    panoptic = fuse_frame(frame, instances, semantics, png, args)
    matches = match_segments(read_truth(frame), panoptic) if frame.label_path else None
    return FusedFrame(png, panoptic.segment_ids.shape, panoptic.segments, matches)


def fuse_frame(
    frame: Frame, instances: InstanceSource | None, semantics: SemanticSource, png: Path, args: Namespace
) -> PanopticMap:
    """One image's panoptic map, from its PNG if that was made from the same inputs, else fused and written."""
    made_from = [RULE_VERSION, asdict(args.fusion), semantics.fingerprint(frame)]
    made_from.append(instances.fingerprint(frame) if instances else "none")
    producer = "solo_fusion-" + hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]
    size = read_image_size(frame.image_path)
    is_saved = _is_saved(frame, instances, semantics, args)
    if is_saved and (done := read_panoptic_png(png, producer)):
        return done
    semantic = semantics.read(frame, size)
    found = instances.read(frame, size) if instances else None
    if args.save_semantics:
        write_semantic(_path(args.save_semantics), semantic)
    if args.save_instances:
        write_instances(_path(args.save_instances), found)
    if found is None:
        panoptic = semantic_only(semantic, TAXONOMY, args.fusion, args.device)
    else:
        panoptic = fuse(found, semantic, TAXONOMY, args.fusion, args.device)
    write_panoptic_png(png, panoptic, producer)
    return panoptic


def _is_saved(frame: Frame, instances: InstanceSource | None, semantics: SemanticSource, args: Namespace) -> bool:
    """Whether the dumps that were asked for are there, by the same models. What is no model's is written each time."""
    asked = (
        (args.save_semantics, semantics, semantic_dump.is_dumped_by),
        (args.save_instances, instances, instance_dump.is_dumped_by),
    )
    for folder, source, is_dumped_by in asked:
        producer = getattr(getattr(source, "model", None), "producer", None)
        if folder and not (producer is not None and is_dumped_by(_path(folder), frame.image_id, producer)):
            return False
    return True


def run(args: Namespace) -> None:
    """Fuse all frames, write the JSON, score where there is truth."""
    output, args.device = _path(args.output), check_device(args.device)
    folder = output / "panoptic"
    frames = find_inputs(args)
    instances, semantics = find_sources(args)
    folder.mkdir(parents=True, exist_ok=True)
    for place in (output, folder):
        remove_partial_files(place)
    quality, entries = PanopticQuality(), []
    work = partial(fuse_and_match, instances=instances, semantics=semantics, folder=folder, args=args)
    for frame, fused in zip(frames, track(in_threads(work, frames, args.workers), "fusing", len(frames)), strict=True):
        entries.append((frame.image_id, frame.image_path.name, fused.png.name, fused.size, fused.segments))
        if fused.matches is not None:
            quality.add_matches(fused.matches)
    write_panoptic_json(output / "panoptic.json", TAXONOMY, entries)
    if any(frame.label_path for frame in frames):
        scores = quality.scores(TAXONOMY)
        write_json(output / "scores.json", scores)
        print(format_table(scores))
        print(f"wrote {output / 'scores.json'}")
    print(f"wrote {len(frames)} panoptic PNGs to {folder}\nwrote {output / 'panoptic.json'}")


def _path(given: str) -> Path:
    return Path(given).expanduser()


def _default_images_json(args: Namespace) -> Path | None:
    if args.images:
        return None
    return instances_json_path(data_root(args.data_root), args.split)


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(parse(sys.argv[1:]))


if __name__ == "__main__":
    main()
