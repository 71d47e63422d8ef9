"""Any picture or video to panoptic PNG, JSON and an overlay with legend, by a trained Panoptic FPN.

    $ python panoptic_fpn/inference.py --image-path street.png
    $ python panoptic_fpn/inference.py --image-path 'photos/*.jpg' --output outputs/photos
    $ python panoptic_fpn/inference.py --image-path drive.mp4 --device cuda

--image-path is a picture, a video, a folder of both (searched recursively), or a quoted glob; pictures may have any sizes.
Writes panoptic.json (COCO panoptic form) with panoptic/*.png, and overlay/*.png and *.mp4. A picture is done when its PNG is:
the same command again does only what is missing. A broken file is named, and the others are done.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from data.images import read_image, write_image
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, read_panoptic_png, write_panoptic_png
from data.taxonomy import Taxonomy
from data.videos import Footage, check_outside, find_footage, open_video, video_writer
from evaluation.render import draw_legend, overlay
from panoptic_fpn.arguments import OUTPUTS, make_parser, predictor_of
from panoptic_fpn.predictor import PanopticFPNPredictor
from runtime.files import InputError, one_line_errors, remove_partial_files

LEGEND_SHARE = 8
"""A video's legend has this part of the picture's width as its height: frames must be of one size, whatever they show."""


class Done(NamedTuple):
    """What is kept of a picture or frame for the JSON; `size` is (height, width)."""

    name: str
    file_name: str
    size: tuple[int, int]
    segments: tuple[Segment, ...]


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("inference.py", __doc__, OUTPUTS / "inference")
    parser.add_argument("--image-path", required=True, help="a picture, a video, a folder of them, or a quoted glob")
    parser.add_argument("--frame-pngs", action="store_true", help="also write the panoptic PNG of each frame of a video")
    return parser


def predict_picture(predictor: PanopticFPNPredictor, footage: Footage, output: Path) -> Done:
    """Write one picture's PNG and overlay, unless both are there.

    Raises:
        InputError: if the picture is broken.
    """
    png, drawn = png_path(output, footage.name), output / "overlay" / f"{footage.name}.png"
    producer = predictor.producer_of(footage.path)
    panoptic = read_panoptic_png(png, producer) if drawn.is_file() else None
    if panoptic is None:
        picture = read_image(footage.path)
        panoptic = predictor.panoptic(footage.name, picture)
        write_image(drawn, overlay(picture, panoptic, predictor.taxonomy))
        write_panoptic_png(png, panoptic, producer)  # last: it says that the overlay is of the same weights
    return Done(footage.name, footage.path.name, panoptic.segment_ids.shape, panoptic.segments)


def predict_video(predictor: PanopticFPNPredictor, footage: Footage, output: Path, has_pngs: bool) -> Iterator[Done]:
    """Write one video's overlay, frame by frame; yield frames of which there is a PNG.

    Raises:
        InputError: if the video is broken; what could be decoded is written, if anything could.
    """
    producer, num_frames = predictor.producer_of(footage.path), 0
    with open_video(footage.path) as video:
        with video_writer(output / "overlay" / f"{footage.name}.mp4", video.rate) as write:
            for frame in track(video.frames(), footage.path.name, video.num_frames or None, console=Console(stderr=True)):
                name = f"{footage.name}/{num_frames:06d}"
                panoptic = predictor.panoptic(name, frame)
                write(frame_overlay(frame, panoptic, predictor.taxonomy))
                num_frames += 1
                if has_pngs:
                    write_panoptic_png(png_path(output, name), panoptic, producer)
                    yield Done(name, f"{name}.png", frame.shape[:2], panoptic.segments)
        video.check_length(num_frames)  # after the overlay is there: what could be decoded is worth keeping


def frame_overlay(frame: np.ndarray, panoptic: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """As evaluation.render.overlay, with a legend of the same height below each frame."""
    drawn = overlay(frame, panoptic, taxonomy, legend=False)
    width = drawn.shape[1]
    strip = np.full((width // LEGEND_SHARE, width, 3), 255, dtype=np.uint8)
    legend = draw_legend(panoptic, taxonomy, width)[: len(strip)]
    strip[: len(legend)] = legend
    return np.concatenate([drawn, strip])


def png_path(output: Path, name: str) -> Path:
    """Where the panoptic PNG of a picture or frame lies."""
    return output / "panoptic" / f"{name}_panoptic.png"


def predict_all(
    predictor: PanopticFPNPredictor, found: list[Footage], output: Path, has_pngs: bool
) -> tuple[list[Done], list[str]]:
    """Everything that can be read, and one line for each file that cannot."""
    done, problems = [], []
    for footage in progress(found):
        try:
            if footage.is_video:
                # Not a list: what came before a video's broken end counts.
                for frame in predict_video(predictor, footage, output, has_pngs):
                    done.append(frame)
            else:
                done.append(predict_picture(predictor, footage, output))
        except InputError as error:
            problems.append(str(error))
            print(f"left out: {error}", file=sys.stderr, flush=True)
    return done, problems


def progress(found: list[Footage]) -> Iterable[Footage]:
    """A bar where there are many pictures; a video has its own."""
    if len(found) == 1 or any(footage.is_video for footage in found):
        return found
    return track(found, "predicting", console=Console(stderr=True))


def run(args: Namespace) -> None:
    """Predict, draw, and write one JSON of all."""
    found, output = find_footage(args.image_path), args.output.expanduser()
    check_outside(args.image_path, [footage.path for footage in found], output)
    predictor = predictor_of(args)
    num_videos = sum(footage.is_video for footage in found)
    what = f"{len(found) - num_videos} pictures and {num_videos} videos of {args.image_path}"
    classes = f"{predictor.taxonomy.num_classes} classes of {predictor.taxonomy.name}"
    print(f"checkpoint {args.checkpoint} ({predictor.producer}, {classes}), {what}", flush=True)
    for folder in {(output / kind / footage.name).parent for kind in ("panoptic", "overlay") for footage in found}:
        remove_partial_files(folder)
    done, problems = predict_all(predictor, found, output, args.frame_pngs)
    if done:
        entries = [
            (d.name, d.file_name, png_path(output, d.name).relative_to(output / "panoptic").as_posix(), *d[2:]) for d in done
        ]
        write_panoptic_json(output / "panoptic.json", predictor.taxonomy, entries)
        print(f"wrote {len(done)} panoptic PNGs to {output / 'panoptic'}\nwrote {output / 'panoptic.json'}")
    if len(problems) < len(found):
        print(f"wrote overlays to {output / 'overlay'}")
    if problems:
        raise InputError(f"{len(problems)} of {len(found)} files were left out, the first one: {problems[0]}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args())


if __name__ == "__main__":
    main()
