"""A panoptic PNG against the segments that are listed for it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import id2label

from data.images import existing_spelling, open_image, upright
from data.label_checks.findings import Box, Finding, count_of, list_ids, name_segment
from data.panoptic_png import rgb_to_ids
from data.png_file import GREY16, RGB8, read_depths, read_plain_png
from runtime.files import InputError, shorten

Report = Callable[[str, str], None]
"""Called with a kind and a text."""


def read_png(path: Path | None, report: Report) -> np.ndarray | None:
    """A panoptic PNG as (H, W) uint32 segment ids, also of one with alpha; None where no ids can be had."""
    image = _open(path, "PNG", report)
    if isinstance(image, np.ndarray):
        return image
    if image is None:
        return None
    pixels, mode, form, depths = image
    bits = " and ".join(map(str, depths))
    if form != "PNG":
        report("png-mode", f"{path.name}: is a {form}, not a PNG")
    elif mode not in ("RGB", "RGBA") or depths != [8]:
        report("png-mode", f"{path.name}: mode {mode}, {bits} bits, not 8-bit RGB")
        return None
    elif mode == "RGBA":
        report("png-mode", f"{path.name}: has alpha, not 8-bit RGB")
    return rgb_to_ids(pixels) if pixels.ndim == 3 and pixels.shape[2] >= 3 and pixels.dtype == np.uint8 else None


def read_label_image(path: Path | None, report: Report, *, has_instances: bool = False) -> np.ndarray | None:
    """A grey label image as (H, W) int32; None where it is none.

    Args:
        has_instances: whether it holds instance ids, which need 16 bits; of 8 bits all numbers of instances are lost.
    """
    image = _open(path, "label image", report, GREY16)
    if isinstance(image, np.ndarray):
        return image
    if image is None:
        return None
    pixels, mode, form, _ = image
    if form != "PNG" or mode not in ("L", "I", "I;16", "I;16B"):
        report("png-mode", f"{path.name}: {form} of mode {mode}, but a grey PNG is needed")
        return None
    if has_instances and mode == "L" and np.isin(pixels, [k for k, label in id2label.items() if label.hasInstances]).any():
        report("png-mode", f"{path.name}: 8-bit grey, so that the numbers of instances are lost; 16 bits are needed")
    return pixels.astype(np.int32)


def _open(path: Path | None, what: str, report: Report, kind: tuple[int, int] = RGB8) -> "np.ndarray | tuple | None":
    """Ids of a plain PNG, or (pixels, mode, format, bits) of any other image; None where it does not read."""
    if path is None:
        return None
    path = existing_spelling(path)
    if not path.is_file():
        report("png-missing", f"its {what} {path.name} is not in {path.parent}")
        return None
    try:
        if plain := read_plain_png(path, kind):
            return plain[0]
        with open_image(path) as image:
            form, mode = image.format, image.mode
            depths = read_depths(path) if form == "PNG" else [8]
            return np.asarray(upright(image)), mode, form, depths
    except (InputError, OSError) as error:
        report("png-unreadable", f"{path.name}: {shorten(str(error).removeprefix(f'{path}: '), 160)}")
        return None


def compare_ids(
    drawn: Mapping[int, tuple[int, Box]],
    listed: Sequence[int],
    name_of: Callable[[int], str | None],
    report: Callable[..., None],
) -> None:
    """The ids of a PNG against those that its image lists.

    Args:
        drawn: id -> (pixels, box); a 0 that is not listed is void.
        name_of: segment id -> name of its class.
        report: of finding_reporter.
    """
    known, there = set(listed), set(drawn)
    there -= {0} - known
    unlisted, undrawn = sorted(there - known), sorted(known - there)
    if unlisted and {_swap(k) for k in there} == known:
        report("channels-swapped", f"ids {list_ids(unlisted)} of the PNG are those listed with red and blue swapped", unlisted)
        return
    for segment_id in unlisted:
        area, box = drawn[segment_id]
        text = f"segment {segment_id} has {count_of(area, 'pixel')}, but is not listed"
        report("id-unlisted", text, [segment_id], area, box=box)
    for segment_id in undrawn:
        report("id-undrawn", f"{name_segment(segment_id, name_of(segment_id))} is listed, but has no pixel", [segment_id])


def _swap(segment_id: int) -> int:
    return segment_id >> 16 | segment_id & 0xFF00 | (segment_id & 0xFF) << 16


def finding_reporter(found: list[Finding], image_id: object, side: str) -> Callable[..., None]:
    """A `report` that appends to a list."""

    def report(kind: str, text: str, segment_ids: Sequence[int] = (), weight: float = 1.0, **further: object) -> None:
        found.append(Finding(kind, image_id, side, tuple(segment_ids), text=text, weight=weight, **further))

    return report
