"""Dump stage 1's soft masks, one file an image, and report mask AP where there is truth.

    $ cd solov2 && python eval.py
    $ python solov2/eval.py --config configs/solov2/cityscapes_r50.py --data-root /path/to/cityscapes --checkpoint epoch_12.pth
    $ python solov2/eval.py --images photos/ --output dumps/photos
    $ python solov2/eval.py --tta-scales 0.75 1 1.25 --tta-flip

Without arguments it takes the last checkpoint of `python train.py` and the val split of the embedded data set. An image that the
same checkpoint has already dumped is skipped: run the same command again after a kill, and only what is missing is done.
"""

import argparse
import hashlib
import warnings
from functools import cache, partial
from pathlib import Path

import solov2  # noqa: F401, first: it sets what torch reads when it is loaded

# isort: split
from mmengine import Config

from data.images import find_images, path_to_image_id, read_image
from data.instance_dump import is_dumped_by, write_instances
from data.layouts.cityscapes import Frame, data_root, ensure_instances_json, find_frames, instances_json_path
from evaluation.instance_ap import read_detections, score_instances
from prediction.views import PLAIN, ViewSettings
from runtime.device import DEFAULT_DEVICE, check_device
from runtime.files import InputError, one_line_errors, remove_partial_files, write_json
from solov2.checkpoints import find_last
from solov2.predictor import TAXONOMY, load_predictor, producer_name
from solov2.progress_display import track
from solov2.settings import add_arguments, find_config, load_config, output_folder, shown


def parse_arguments() -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(prog="eval.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--checkpoint", help="default: the last one that train.py wrote for this config")
    parser.add_argument("--split", default="val", help="split of the data set (default: val)")
    parser.add_argument("--images", help="instead of a data set: a picture, a folder or a quoted glob; any sizes, no truth")
    parser.add_argument("--output", help="folder of the dumps (default: outputs/solov2/<config name>/dumps/<split or folder>)")
    parser.add_argument("--device", default=DEFAULT_DEVICE, help="default: cuda if there is one")
    help_scales = "test-time augmentation: factors of the config's test size, whose candidates meet in one NMS (default: 1)"
    parser.add_argument("--tta-scales", type=float, nargs="+", default=[1.0], help=help_scales)
    parser.add_argument("--tta-flip", action="store_true", help="see each scale also flipped left to right")
    return parser.parse_args()


def find_checkpoint(given: str | None, work_dir: Path) -> Path:
    """Raises InputError where there is none."""
    if given:
        return Path(given).expanduser()
    found = find_last(work_dir)
    if found is None:
        raise InputError(f"{shown(work_dir)}: no checkpoint there; train stage 1 first: cd solov2 && python train.py")
    return found


def dump_frames(
    frames: list[Frame], folder: Path, config: Config, checkpoint: Path, device: str, views: ViewSettings = PLAIN
) -> int:
    """Write the dumps that are missing; return how many those were."""
    name = producer_name(config, checkpoint, views)
    predictor = cache(lambda: load_predictor(config, checkpoint, device, views))  # not at all where everything is dumped
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    num_written = 0
    for frame in track(frames, description="dumping"):
        # The picture's digest, so that another picture of the same name is not taken for done.
        producer = f"{name}-{hashlib.sha256(frame.image_path.read_bytes()).hexdigest()[:8]}"
        if not is_dumped_by(folder, frame.image_id, producer):
            picture = read_image(frame.image_path)
            write_instances(folder, predictor().predict(frame.image_id, picture, producer))
            num_written += 1
    return num_written


def report_mask_ap(frames: list[Frame], folder: Path, root: Path, split: str) -> None:
    """Print mask AP and write it beside the dumps."""
    ensure_instances_json(root, split, track=partial(track, description=f"converting {split} labels"))
    image_ids = (frame.image_id for frame in track(frames, description="scoring"))
    scores = score_instances(instances_json_path(root, split), read_detections(folder, image_ids, TAXONOMY))
    write_json(folder / "mask_ap.json", scores)
    percent = {name: "n/a" if value is None else f"{100 * value:.1f}" for name, value in scores.items() if name != "per_class"}
    print("mask " + ", ".join(f"{name} {value}" for name, value in percent.items()))
    per_class = {name: "n/a" if value is None else f"{100 * value:.1f}" for name, value in scores["per_class"].items()}
    print("AP by class: " + ", ".join(f"{name} {value}" for name, value in per_class.items()))
    print(f"wrote {shown(folder / 'mask_ap.json')}")


def evaluate(args: argparse.Namespace) -> None:
    """Everything that the command does."""
    config_path, views = find_config(args.config), ViewSettings(tuple(args.tta_scales), args.tta_flip)
    if args.images:
        root, frames = None, [Frame(path_to_image_id(path), path, None) for path in find_images(args.images)]
        place = Path(args.images).expanduser().resolve()
        # Under a name of its own, so that a folder called val is not taken for the split.
        default_name = Path("images", place.name if place.is_dir() else place.parent.name)
        source = args.images
    else:
        root = data_root(args.data_root).resolve()
        frames = find_frames(root, args.split, need_labels=False)
        default_name, source = args.split, f"{args.split} of {shown(root)}"
    work_dir = output_folder(config_path)
    folder = Path(args.output).expanduser().resolve() if args.output else work_dir / "dumps" / default_name
    checkpoint = find_checkpoint(args.checkpoint, work_dir)
    print(f"dumping SOLOv2 instances: {shown(config_path)}, {shown(checkpoint)} on {source} ({args.device})", flush=True)

    config = load_config(config_path, args.cfg_options, needed=("model", "test_dataloader"))
    num_written = dump_frames(frames, folder, config, checkpoint, check_device(args.device), views)
    if root is not None and all(frame.label_path for frame in frames):
        report_mask_ap(frames, folder, root, args.split)
    print(f"wrote {num_written} dumps, {len(frames) - num_written} were there: {shown(folder)}")


def main() -> None:
    """The command; see above."""
    args = parse_arguments()
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    with one_line_errors():
        evaluate(args)


if __name__ == "__main__":
    main()
