"""Truth of Cityscapes-VPS: a COCO panoptic JSON whose segment ids stay through a film, and a folder of RGB PNGs.

The form is that of mcahny/vps at 138503e, prepare_data/create_panoptic_video_labels.py: panoptic_gt_val_city_vps.json beside
val/panoptic_video/, image ids FILM_NUMBER_CITY_SEQUENCE_FRAME such as 0000_0000_frankfurt_000000_001732, where NUMBER rises along
the film; every fifth frame is labelled. Images are named ID_newImg8bit.png or, for Cityscapes' own frame,
ID_leftImg8bit.png, and PNGs ID_final_mask.png or ID_gtFine_color.png. Segment ids are unique to a film, of things and stuff.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from data.panoptic_file import ImageId, PanopticFile, read_panoptic_json, read_panoptic_map
from data.panoptic_png import PanopticMap
from runtime.files import InputError

STEP_BETWEEN_LABELS = 5
"""Frames from one labelled frame to the next: a window of n labelled frames spans the paper's k = 5 (n - 1)."""
JSON_NAME = "panoptic_gt_{split}_city_vps.json"
PNG_FOLDER = "panoptic_video"
IMAGE_ID = re.compile(r"(?P<film>\d{4})_(?P<number>\d{4})_.+")
ENDINGS = ("_newImg8bit", "_leftImg8bit", "_final_mask", "_gtFine_color")
"""What follows the image id in the names of images and PNGs."""


def read_truth(root: Path, split: str = "val") -> PanopticFile:
    """The truth of a split.

    Raises:
        InputError: as data.panoptic_file.read_panoptic_json.
    """
    root = Path(root)
    return read_panoptic_json(root / JSON_NAME.format(split=split), root / split / PNG_FOLDER)


def find_sequences(file: PanopticFile) -> dict[str, list[ImageId]]:
    """The films of a panoptic file by their number, each with the ids of its labelled images in order of time.

    Raises:
        InputError: if an image id does not begin with the film's and the frame's number, or two are one frame.
    """
    sequences: dict[str, dict[int, ImageId]] = {}
    for image_id in file.annotations:
        found = IMAGE_ID.fullmatch(str(image_id))
        if found is None:
            needed = "Cityscapes-VPS has FILM_NUMBER_..., such as 0000_0000_frankfurt_000000_001732"
            raise InputError(f"{file.json_path}: image id {image_id!r}, but {needed}; give its JSON")
        frames = sequences.setdefault(found["film"], {})
        other = frames.setdefault(int(found["number"]), image_id)
        if other != image_id:
            raise InputError(f"{file.json_path}: {other!r} and {image_id!r} are the same frame of film {found['film']}; keep one")
    return {film: [frames[number] for number in sorted(frames)] for film, frames in sorted(sequences.items())}


def read_sequences(file: PanopticFile) -> Iterator[tuple[str, Iterator[tuple[str, PanopticMap]]]]:
    """(film, frames) of a panoptic file; frames are (image id, map with track ids), read one at a time.

    Raises:
        InputError: as find_sequences, at once; as data.panoptic_file.read_panoptic_map, when the frame is asked for.
    """
    for film, image_ids in find_sequences(file).items():
        yield film, ((str(image_id), read_panoptic_map(file, image_id)) for image_id in image_ids)


def image_id_of(file_name: str) -> str:
    """The image id that the name of an image or a PNG stands for: without folder, suffix and ending."""
    stem = Path(file_name).stem
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return stem
