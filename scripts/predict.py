"""Any picture to a panoptic PNG, its JSON and an overlay, with the trained two-stage pipeline.

    $ python scripts/predict.py --image-path street.png
    $ python scripts/predict.py --image-path 'photos/*.jpg' --output outputs/photos
    $ python scripts/predict.py --image-path street.png --tta-scales 0.75 1 1.25 --tta-flip

Runs stage 1 (solov2/eval.py), stage 2 and the fusion (fusion/solo_fusion.py), by default with the demo's checkpoints.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.progress import track

from data.images import find_images, path_to_image_id, read_image, write_image
from data.panoptic_file import read_panoptic_json, read_panoptic_map
from data.videos import check_outside
from evaluation.render import overlay
from prediction.views import ViewSettings
from runtime.files import one_line_errors

REPOSITORY = Path(__file__).resolve().parents[1]


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="predict.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-path", required=True, help="a picture, a folder of pictures, or a quoted glob; any sizes")
    parser.add_argument("--output", default=str(REPOSITORY / "outputs" / "predict"), help="default: outputs/predict")
    parser.add_argument("--stage1-config", help="config of solov2; default configs/solov2/streets_r18.py")
    parser.add_argument("--stage1-checkpoint", help="default: the last one that solov2/train.py wrote for that config")
    parser.add_argument("--stage2-checkpoint", help="default: outputs/efficientps/streets_b0/best.ckpt")
    parser.add_argument("--min-score", type=float, help="instances below are ignored (default: FusionSettings)")
    help_scales = "test-time augmentation of both stages: factors of the picture's size (default: 1)"
    parser.add_argument("--tta-scales", type=float, nargs="+", default=[1.0], help=help_scales)
    parser.add_argument("--tta-flip", action="store_true", help="see each scale also flipped left to right")
    return parser


def run_stage(script: str, *options: str | list[str] | None) -> None:
    """Run a public command; each flag is followed by its value, a list of values, or None, which leaves the flag out.

    Exits with the command's code if it fails: it has said why.
    """
    command = [sys.executable, str(REPOSITORY / script)]
    for flag, value in zip(options[::2], options[1::2], strict=True):
        if value is not None:
            command += [flag, *([value] if isinstance(value, str) else value)]
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)


def run(args: argparse.Namespace) -> None:
    """Both stages, the fusion, then one overlay for each picture."""
    views = ViewSettings(tuple(args.tta_scales), args.tta_flip)
    pictures = find_images(args.image_path)
    for picture in pictures:
        read_image(picture)  # a broken picture is named before minutes of work, not after
    output = Path(args.output).expanduser().resolve()
    check_outside(args.image_path, pictures, output)
    dumps = output / "instances"
    where = str(Path(args.image_path).expanduser().absolute())
    run_stage(
        "solov2/eval.py", "--images", where, "--output", str(dumps),
        "--config", args.stage1_config, "--checkpoint", args.stage1_checkpoint,
        "--tta-scales", list(map(str, views.scales)), "--tta-flip", [] if views.flip else None,
    )  # fmt: skip
    run_stage(
        "fusion/solo_fusion.py", "--images", where, "--instances", str(dumps), "--output", str(output),
        "--checkpoint", args.stage2_checkpoint, "--fusion.min_score", None if args.min_score is None else str(args.min_score),
        "--tta.scales", str(list(views.scales)), "--tta.flip", str(views.flip).lower(),
    )  # fmt: skip
    result = read_panoptic_json(output / "panoptic.json")
    for picture in track(pictures, description="drawing"):
        panoptic = read_panoptic_map(result, path_to_image_id(picture))
        drawn = overlay(read_image(picture), panoptic, result.taxonomy)
        write_image(output / "overlay" / f"{path_to_image_id(picture)}.png", drawn)
    print(f"wrote {len(pictures)} overlays to {output / 'overlay'}")


def main() -> None:
    """The command; see above."""
    args = build_parser().parse_args()
    with one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
