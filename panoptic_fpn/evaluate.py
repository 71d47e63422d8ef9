"""Score a trained Panoptic FPN on a split: the results table, with mask AP and mIoU, and the predictions that it is of.

    $ python panoptic_fpn/evaluate.py
    $ python panoptic_fpn/evaluate.py --checkpoint outputs/panoptic_fpn/cityscapes_r50/best.ckpt --data-root /path/to/cityscapes
    $ python panoptic_fpn/evaluate.py --checkpoint coco.ckpt --layout coco --data-root /path/to/coco --split val2017

Writes results.md and scores.json, panoptic.json with panoptic/*.png (any scorer of COCO panoptic files reads them), and for
mIoU and AP the maps of the semantic branch (semantic/*.png) and the instances before the merge (instances/*.json). The same
command again predicts only what is missing.
"""

import json
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle_codec
from rich.console import Console
from rich.progress import track

from data.instance_dump import InstanceLogits, full_masks
from data.layouts import cityscapes, coco_derived
from data.layouts.coco import VAL_SPLIT, CocoPictures, coco_root
from data.panoptic_file import ImageId, write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, describe_segments, read_panoptic_png, write_panoptic_png
from data.split import CityscapesPictures, LabelledPictures
from data.targets import panoptic_to_semantic
from data.taxonomy import VOID_TRAIN_ID, Taxonomy
from evaluation.instance_ap import Detection, score_instances
from evaluation.panoptic_quality import PanopticQuality
from evaluation.results_table import results_table, scores_line, write_results
from evaluation.semantic_iou import SemanticIoU
from fusion.heuristic_merge import merge
from panoptic_fpn.arguments import OUTPUTS, make_parser, predictor_of
from panoptic_fpn.predictor import PanopticFPNPredictor, fill_other
from runtime.files import InputError, atomic_path, one_line_errors, remove_partial_files

LAYOUTS = {"cityscapes": "val", "coco": VAL_SPLIT}
"""Layouts with the split that is scored by default."""


class Split(NamedTuple):
    """A split to score: pictures by index, their ids in the panoptic JSON, their files, and the truth that mask AP needs."""

    pictures: LabelledPictures
    keys: list[ImageId]
    paths: list[Path]
    instances_json: Path


class Found(NamedTuple):
    """What a network says of one image; `semantic` is (H, W) uint8 train ids, `detections` are those before the merge."""

    panoptic: PanopticMap
    semantic: np.ndarray
    detections: list[Detection]


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("evaluate.py", __doc__, OUTPUTS / "evaluation")
    help_root = "the data set's folder; else $CITYSCAPES_DATASET or $COCO_DATASET by layout, else the embedded one"
    parser.add_argument("--data-root", metavar="DIR", help=help_root)
    parser.add_argument("--layout", choices=tuple(LAYOUTS), default="cityscapes", help="default: %(default)s")
    default_splits = ", ".join(f"{split} ({layout})" for layout, split in LAYOUTS.items())
    parser.add_argument("--split", help=f"default: {default_splits}")
    return parser


def open_split(layout: str, data_root: str | None, split: str | None) -> Split:
    """The pictures of a split; what mask AP needs of the truth is made where it is absent.

    Raises:
        InputError: if the folder or the split does not fit, or an image is broken.
    """
    split, bar = split or LAYOUTS[layout], partial(track, console=Console(stderr=True))
    if layout == "cityscapes":
        root = cityscapes.data_root(data_root)
        pictures = CityscapesPictures(root, split)
        cityscapes.ensure_instances_json(root, split, track=lambda items, total: bar(items, "converting labels", total))
        paths = [frame.image_path for frame in pictures.frames]
        return Split(pictures, [frame.image_id for frame in pictures.frames], paths, cityscapes.instances_json_path(root, split))
    root = coco_root(data_root)
    pictures = CocoPictures(root, split)
    instances_json = coco_derived.instances_json_path(root, split)
    if not instances_json.exists():
        made = coco_derived.prepare_split(pictures, root, split, track=lambda items, total: bar(items, "converting truth", total))
        if made.problems:
            raise InputError(f"{made.problems[0]} ({len(made.problems)} images of {split} are broken)")
    return Split(pictures, pictures.keys, [pictures.picture_path(k) for k in range(len(pictures))], instances_json)


def check_classes(trained: Taxonomy, truth: Taxonomy) -> None:
    """Refuse to score a network on other classes than it has learned.

    Raises:
        InputError: if they differ in an id, a name, or in what is a thing.
    """
    own, wanted = ([(c.dataset_id, c.name, c.is_thing) for c in t.categories] for t in (trained, truth))
    if own != wanted:
        found = f"{len(own)} classes of {trained.name}, but the data has {len(wanted)} of {truth.name}"
        raise InputError(f"the checkpoint knows {found}; give --checkpoint, --layout and --data-root that belong together")


def find_or_predict(predictor: PanopticFPNPredictor, split: Split, index: int, picture: np.ndarray, output: Path) -> Found:
    """One image's result: from its files if they are by the same weights and settings, else predicted and written."""
    image_id, producer = split.pictures.image_id(index), predictor.producer_of(split.paths[index])
    taxonomy = predictor.taxonomy
    png, semantic_png, instances = (output / name for name in _file_names(image_id))
    panoptic, semantic_map = read_panoptic_png(png, producer), read_panoptic_png(semantic_png, producer)
    detections = read_detections(instances, producer)
    if panoptic is not None and semantic_map is not None and detections is not None:
        return Found(panoptic, panoptic_to_semantic(semantic_map, taxonomy), detections)
    found, semantic = predictor.predict(image_id, picture)
    panoptic = merge(found, semantic, taxonomy, predictor.merging)
    result = Found(panoptic, fill_other(semantic, panoptic, taxonomy), to_detections(found, taxonomy))
    write_panoptic_png(semantic_png, to_class_map(result.semantic, taxonomy), producer)
    write_detections(instances, result.detections, producer)
    write_panoptic_png(png, panoptic, producer)
    return result


def to_class_map(semantic: np.ndarray, taxonomy: Taxonomy) -> PanopticMap:
    """(H, W) train ids as a map with one segment a class, which the same PNG can hold."""
    train_id_of = {taxonomy.segment_id(k): k for k in range(taxonomy.num_classes)}
    table = np.zeros(VOID_TRAIN_ID + 1, dtype=np.uint32)
    table[list(train_id_of.values())] = list(train_id_of)
    ids = table[semantic]
    return PanopticMap(ids, describe_segments(ids, lambda segment_id: int(taxonomy.dataset_ids[train_id_of[segment_id]])))


def to_detections(instances: InstanceLogits, taxonomy: Taxonomy) -> list[Detection]:
    """Category id, score and run-length code of each instance, whose masks are held one at a time."""
    codes = (rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in full_masks(instances))
    return list(zip(taxonomy.dataset_ids[instances.train_ids].tolist(), instances.scores.tolist(), codes, strict=True))


def write_detections(path: Path, detections: list[Detection], producer: str) -> None:
    """Write one image's detections atomically, with the keys of a COCO result file."""
    entries = [
        {"category_id": category_id, "score": score, "segmentation": code | {"counts": code["counts"].decode()}}
        for category_id, score, code in detections
    ]
    with atomic_path(path) as partial_path:
        partial_path.write_text(json.dumps({"producer": producer, "detections": entries}))


def read_detections(path: Path, producer: str) -> list[Detection] | None:
    """Read back what write_detections wrote; None if there is no whole file of this producer."""
    try:
        content = json.loads(path.read_text())
        if content["producer"] != producer:
            return None
        return [(entry["category_id"], entry["score"], entry["segmentation"]) for entry in content["detections"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _file_names(image_id: str) -> tuple[str, str, str]:
    return f"panoptic/{image_id}_panoptic.png", f"semantic/{image_id}_semantic.png", f"instances/{image_id}.json"


class Scores:
    """Collects images one by one; of each only counts, segments and run-length codes stay."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        self.quality, self.iou = PanopticQuality(), SemanticIoU(taxonomy)
        self.entries: list[tuple[ImageId, str, str, tuple[int, int], tuple[Segment, ...]]] = []

    def collect(self, predictor: PanopticFPNPredictor, split: Split, output: Path) -> Iterator[tuple[str, list[Detection]]]:
        """Predict and count all images; yield what mask AP needs of each."""
        indices = range(len(split.pictures))
        for index in track(indices, "predicting", console=Console(stderr=True)):
            image_id = split.pictures.image_id(index)
            picture, truth = split.pictures.read(index)
            found = find_or_predict(predictor, split, index, picture, output)
            self.quality.add(truth, found.panoptic)
            self.iou.add(panoptic_to_semantic(truth, self.taxonomy), found.semantic)
            png = Path(_file_names(image_id)[0]).name
            self.entries.append((split.keys[index], split.paths[index].name, png, picture.shape[:2], found.panoptic.segments))
            yield image_id, found.detections


def run(args: Namespace) -> None:
    """Predict, score, and write everything."""
    predictor, output = predictor_of(args), args.output.expanduser()
    split = open_split(args.layout, args.data_root, args.split)
    taxonomy = split.pictures.taxonomy
    check_classes(predictor.taxonomy, taxonomy)
    name = args.split or LAYOUTS[args.layout]
    print(f"checkpoint {args.checkpoint} ({predictor.producer}), {len(split.pictures)} images of {name}", flush=True)
    for kind in ("", "panoptic", "semantic", "instances"):
        remove_partial_files(output / kind)
    scores = Scores(taxonomy)
    ap = score_instances(split.instances_json, scores.collect(predictor, split, output))
    write_panoptic_json(output / "panoptic.json", taxonomy, scores.entries)
    quality, iou = scores.quality.scores(taxonomy), scores.iou.scores()
    facts = {
        "weights": f"{args.checkpoint} ({predictor.producer})",
        "data": f"{len(split.pictures)} images, split {name} of {split.instances_json.parent.parent}",
        "input": predictor.input_size,
        "merge": predictor.merging,
        "command": shlex.join(["python", "panoptic_fpn/evaluate.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
    }
    written = write_results(output, quality, ap, iou, {key: str(value) for key, value in facts.items()})
    print(f"\n{results_table(quality)}\n\n{scores_line(ap, iou['miou'])}\n")
    print("\n".join(f"wrote {path}" for path in [*written, output / "panoptic.json"]))


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args())


if __name__ == "__main__":
    main()
