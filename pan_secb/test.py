"""Predict a split with a trained Pan-SECB, in the form of Cityscapes' labels and as panoptic PNG + JSON, and score it.

    $ python pan_secb/test.py
    $ python pan_secb/test.py --data-root /path/to/cityscapes --checkpoint outputs/pan_secb/cityscapes_finetune/best.ckpt

OUTPUT/gtFine/SPLIT/CITY/ gets *_gtFine_instanceIds.png (label id * 1000 + k for things, the label id for stuff, 0 for void) and
*_gtFine_labelIds.png, so that cityscapesscripts' createPanopticImgs and evaluators take OUTPUT as they take the truth:

    $ python -m cityscapesscripts.preparation.createPanopticImgs --dataset-folder OUTPUT/gtFine --set-names val

OUTPUT/panoptic.json and OUTPUT/panoptic/ are the same segments in COCO's form. Where the split has labels, results.md and
scores.json hold PQ, mIoU and the mask AP of the segments. The same command again predicts only what is missing.
"""

import shlex
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from data.images import open_image, read_image
from data.layouts.cityscapes import Frame, data_root, ensure_instances_json, find_frames, instances_json_path, read_truth
from data.panoptic_file import ImageId, write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, read_panoptic_png, write_panoptic_png
from data.segment_runs import encode_masks, find_runs
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES
from evaluation.instance_ap import Detection, score_instances
from evaluation.panoptic_quality import PanopticQuality
from evaluation.results_table import results_table, scores_line, write_results
from evaluation.semantic_iou import SemanticIoU
from fusion.embedding_clusters import ClusterSettings
from pan_secb.cityscapes_result import instance_ids_path, label_folder, label_ids_path, to_train_ids, write_labels
from pan_secb.predictor import ADVICE, DEFAULT_CHECKPOINT, PanSECBPredictor, load_predictor
from runtime.device import DEFAULT_DEVICE, check_device
from runtime.files import InputError, one_line_errors, remove_partial_files

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "outputs" / "pan_secb" / "test"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser(prog="test.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", metavar="DIR", help="Cityscapes folder; else $CITYSCAPES_DATASET, else Streets")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    help_checkpoint = f"of pan_secb/train.py; default: {DEFAULT_CHECKPOINT.relative_to(REPOSITORY)}"
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, metavar="FILE", help=help_checkpoint)
    help_output = f"folder; default: {OUTPUT.relative_to(REPOSITORY)}"
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help=help_output)
    parser.add_argument("--device", default=DEFAULT_DEVICE, help="cpu, cuda, cuda:1, ...; default: %(default)s")
    add_clustering(parser)
    return parser


def add_clustering(parser: ArgumentParser) -> None:
    """A flag for each field of ClusterSettings."""
    group = parser.add_argument_group("clustering", "default: as the checkpoint was validated; areas in pixels of 1024x2048")
    group.add_argument("--min-candidate-seed", type=float, metavar="SHARE", help="pixels below belong to no object")
    group.add_argument("--min-seed", type=float, metavar="SHARE", help="no object starts from a pixel below")
    group.add_argument("--min-pixels", type=float, metavar="AREA", help="an object needs more")
    group.add_argument("--vote", choices=("semantic", "seed"), help="what names an object: its pixels' classes, or its seed map")
    group.add_argument("--min-thing-area", type=float, metavar="AREA", help="smaller objects are dropped in the end")
    group.add_argument("--min-stuff-area", type=float, metavar="AREA", help="smaller stuff becomes void")


def predictor_of(args: Namespace) -> PanSECBPredictor:
    """The network that the arguments name, with the clustering that they change.

    Raises:
        InputError: if a setting is impossible, the device is absent, or the checkpoint is none of Cityscapes' classes.
    """
    predictor = load_predictor(args.checkpoint.expanduser(), check_device(args.device))
    if predictor.taxonomy != CITYSCAPES:
        found = f"{predictor.taxonomy.num_classes} classes of {predictor.taxonomy.name!r}"
        raise InputError(f"{args.checkpoint}: was trained on {found}, but Cityscapes' were needed; {ADVICE}")
    given = {field.name: getattr(args, field.name) for field in fields(ClusterSettings)}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(predictor, clustering=replace(predictor.clustering, **given))


def find_or_predict(predictor: PanSECBPredictor, frame: Frame, split: str, output: Path) -> tuple[PanopticMap, np.ndarray]:
    """A frame's panoptic map and the (H, W) uint8 train ids of its semantics, from its files if they are of the same model.

    Raises:
        InputError: if the picture is broken.
    """
    png, producer = output / "panoptic" / f"{frame.image_id}_panoptic.png", predictor.producer_of(frame.image_path)
    if instance_ids_path(output, split, frame).is_file() and label_ids_path(output, split, frame).is_file():
        panoptic = read_panoptic_png(png, producer)
        if panoptic is not None:
            with open_image(label_ids_path(output, split, frame)) as image:
                return panoptic, to_train_ids(np.asarray(image))
    maps = predictor.maps(frame.image_id, read_image(frame.image_path))
    panoptic, semantic = predictor.fuse(maps), maps.semantic_train_ids.cpu().numpy()
    write_labels(output, split, frame, panoptic, semantic)
    write_panoptic_png(png, panoptic, producer)  # last: it says that the labels are of the same model
    return panoptic, semantic


class Scores:
    """Collects frames one by one; of each only counts, segments and run-length codes stay."""

    def __init__(self):
        self.quality, self.iou = PanopticQuality(), SemanticIoU(CITYSCAPES)
        self.entries: list[tuple[ImageId, str, str, tuple[int, int], tuple[Segment, ...]]] = []

    def collect(
        self, predictor: PanSECBPredictor, frames: list[Frame], split: str, output: Path
    ) -> Iterator[tuple[str, list[Detection]]]:
        """Predict all frames, count those with a label; yield what mask AP needs of each."""
        for frame in track(frames, "predicting", console=Console(stderr=True)):
            panoptic, semantic = find_or_predict(predictor, frame, split, output)
            png = f"{frame.image_id}_panoptic.png"
            size = panoptic.segment_ids.shape
            self.entries.append((frame.image_id, frame.image_path.name, png, size, panoptic.segments))
            if frame.label_path is not None:
                truth = read_truth(frame)
                self.quality.add(truth, panoptic)
                self.iou.add(panoptic_to_semantic(truth, CITYSCAPES), semantic)
            yield frame.image_id, to_detections(panoptic)


def to_detections(panoptic: PanopticMap) -> list[Detection]:
    """The things of a map, each with its score."""
    runs = find_runs(panoptic.segment_ids)
    place = {segment_id: k for k, segment_id in enumerate(runs.ids.tolist())}
    things = [segment for segment in panoptic.segments if segment.score is not None]
    codes = encode_masks(panoptic.segment_ids, runs, [place[segment.segment_id] for segment in things])
    size = list(panoptic.segment_ids.shape)
    return [(s.category_id, s.score, {"size": size, "counts": code}) for s, code in zip(things, codes, strict=True)]


def run(args: Namespace) -> None:
    """Predict, score where there is truth, and write everything."""
    predictor, output = predictor_of(args), args.output.expanduser()
    root = data_root(args.data_root)
    frames = find_frames(root, args.split, need_labels=False)
    print(f"checkpoint {args.checkpoint} ({predictor.producer}), {len(frames)} images of {args.split} in {root}", flush=True)
    for folder in {output, output / "panoptic", *(label_folder(output, args.split, frame) for frame in frames)}:
        remove_partial_files(folder)
    scores, has_truth = Scores(), all(frame.label_path for frame in frames)
    found = scores.collect(predictor, frames, args.split, output)
    if has_truth:
        progress = Console(stderr=True)
        ensure_instances_json(root, args.split, track=lambda frames, n: track(frames, "converting labels", n, console=progress))
        ap = score_instances(instances_json_path(root, args.split), found)
    else:
        for _ in found:
            pass
    write_panoptic_json(output / "panoptic.json", CITYSCAPES, scores.entries)
    written = [output / "panoptic.json"]
    if has_truth:
        quality, iou = scores.quality.scores(CITYSCAPES), scores.iou.scores()
        facts = {
            "weights": f"{args.checkpoint} ({predictor.producer})",
            "data": f"{len(frames)} images, split {args.split} of {root}",
            "clustering": ", ".join(f"{name} {value}" for name, value in asdict(predictor.clustering).items()),
            "command": shlex.join(["python", "pan_secb/test.py", *sys.argv[1:]]),
            "date": date.today().isoformat(),
        }
        written = [*write_results(output, quality, ap, iou, facts), *written]
        print(f"\n{results_table(quality)}\n\n{scores_line(ap, iou['miou'])}\n")
    else:
        print(f"not scored: {sum(frame.label_path is None for frame in frames)} of {len(frames)} images have no label")
    print("\n".join(f"wrote {path}" for path in written))
    print(f"wrote {len(frames)} panoptic PNGs to {output / 'panoptic'}")
    print(f"wrote {2 * len(frames)} PNGs in the form of Cityscapes' labels to {output / 'gtFine' / args.split}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args())


if __name__ == "__main__":
    main()
