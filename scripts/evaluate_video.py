"""Score predictions of films whose ids stay: VPQ (Kim et al., CVPR 2020) and STQ (Weber et al., 2021).

    $ python scripts/evaluate_video.py --truth drive/gtFine/tracks_val.json --prediction outputs/drive
    $ python scripts/evaluate_video.py --truth /path/to/kitti-step --split val --prediction outputs/kitti/tracks.json
    $ python scripts/evaluate_video.py --truth /path/to/cityscapes-vps --prediction outputs/vps

The truth is a folder of KITTI-STEP (panoptic_maps/) or Cityscapes-VPS, or a panoptic JSON whose ids are tracks. The prediction is
a run folder with tracks.json, which the predicting commands write of films, and of numbered images with --sequences.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import OUTPUTS, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, check_outputs, one_line_errors, write_json

if TYPE_CHECKING:
    from data.panoptic_file import PanopticFile
    from data.panoptic_png import PanopticMap
    from data.taxonomy import Taxonomy

OUTPUT = OUTPUTS / "evaluate_video" / "scores.json"
TRACKS = "tracks.json"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("evaluate_video.py", __doc__, has_config=False)
    parser.add_argument("--truth", type=Path | None, metavar="DIR|A.json", help="the films, with ids that stay")
    parser.add_argument("--split", default="val", help="of a folder (default: val)")
    parser.add_argument(
        "--prediction", type=Path | None, metavar="DIR|B.json", help="a run folder with tracks.json, or that file"
    )
    help_output = f"scores as JSON; default: {relative_to_repository(OUTPUT)}"
    parser.add_argument("--output", type=Path | None, metavar="FILE", help=help_output)
    return parser


def open_truth(path: Path, split: str) -> "tuple[Taxonomy, Iterator[tuple[str, Iterator[tuple[str, PanopticMap]]]]]":
    """Classes and sequences of the truth, whose frames are read one at a time.

    Raises:
        InputError: if it is of no known form.
    """
    from data.layouts import cityscapes_vps, kitti_step
    from data.panoptic_file import read_panoptic_json, read_panoptic_map
    from data.split import numbered_frames

    if path.suffix == ".json":
        file = read_panoptic_json(path)
        films = numbered_frames((str(image_id), image_id) for image_id in file.annotations)
        sequences = ((film, ((str(k), read_panoptic_map(file, k)) for k in frames)) for film, frames in films.items())
        return file.taxonomy, sequences
    if (path / kitti_step.FOLDER).is_dir():
        return kitti_step.KITTI_STEP, kitti_step.read_sequences(path, split)
    if (path / cityscapes_vps.JSON_NAME.format(split=split)).is_file():
        file = cityscapes_vps.read_truth(path, split)
        return file.taxonomy, cityscapes_vps.read_sequences(file)
    needed = f"{kitti_step.FOLDER}/ of KITTI-STEP, or {cityscapes_vps.JSON_NAME.format(split=split)} of Cityscapes-VPS"
    raise InputError(f"{path}: holds neither {needed}; give one of these folders, or a panoptic JSON")


def open_prediction(path: Path, taxonomy: "Taxonomy") -> "PanopticFile":
    """The tracks of a run.

    Raises:
        InputError: if there are none, or of other classes than the truth's.
    """
    from data.panoptic_file import read_panoptic_json

    if path.is_dir():
        path = path / TRACKS
        if not path.is_file():
            raise InputError(f"{path}: not there; predict a film, or numbered images with --sequences, and all frames of it")
    file = read_panoptic_json(path, taxonomy=taxonomy, is_prediction=True)
    if difference := file.taxonomy.difference(taxonomy):
        raise InputError(f"{path}: of other classes than the truth, {difference}; bring one to the other's by a class map")
    return file


def run(args: Namespace) -> None:
    """Score, print, write."""
    from data.image_names import ImageNames
    from data.panoptic_file import read_panoptic_map
    from evaluation.provenance import describe_file, provenance
    from evaluation.video_quality import format_table, pair_frames, score_videos

    if args.truth is None or args.prediction is None:
        raise InputError("--truth and --prediction are needed; see --help for the forms")
    output = args.output or OUTPUT
    check_outputs({"--output": output}, {"--truth": args.truth, "--prediction": args.prediction})
    taxonomy, sequences = open_truth(args.truth, args.split)
    prediction = open_prediction(args.prediction, taxonomy)
    names = ImageNames({k: (k, prediction.image_files.get(k, k)) for k in prediction.annotations})

    def prediction_of(name: str) -> "PanopticMap":
        image_id = names.find(name)
        if image_id is None:
            raise InputError(f"{prediction.json_path}: no prediction of frame {name!r}; predict every frame that has a truth")
        return read_panoptic_map(prediction, image_id)

    scores = score_videos(pair_frames(sequences, prediction_of), taxonomy)
    print(format_table(scores))
    command = " ".join(["python scripts/evaluate_video.py", *sys.argv[1:]])
    files = {"truth": {"path": str(args.truth), "split": args.split}}
    files["prediction"] = describe_file(prediction, prediction.annotations)
    scores["stq"]["sequences"] = [vars(entry) | {"stq": entry.stq} for entry in scores["stq"]["sequences"]]
    write_json(output, scores | {"provenance": provenance(command, files)})
    print(f"\nwrote {output}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
