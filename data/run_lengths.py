"""Masks in COCO's JSON files, whoever wrote them: run lengths, as a list or compressed text, and polygons.

pycocotools believes what it is given: run lengths that end before the image leave the rest of the mask as the memory was, and
text that ends inside a number is read past its end. Here the lengths are checked before a pixel is made.
"""

import numpy as np
from pycocotools import mask as coco_mask

from data.segment_runs import Runs
from runtime.compiled import kernel
from runtime.files import InputError, shorten

FIRST_DIGIT, LAST_DIGIT = 48, 111
"""Character codes of compressed run lengths: 5 bits of a number and one that says whether it goes on."""
MOST_DIGITS = 7
"""Of one number in compressed text: 35 bits, more than the pixels of any image."""


def decode_mask(segmentation: object, size: tuple[int, int]) -> np.ndarray:
    """The (H, W) bool mask of a `segmentation`.

    Args:
        segmentation: {"size": [H, W], "counts": list or text}, or a list of polygons [x1, y1, x2, y2, ...] in pixels.
        size: (height, width) of the image.

    Raises:
        InputError: if it is of another size or form, or its lengths do not add up to the image's pixels.
    """
    mask = np.zeros(size, dtype=bool)
    found = decode_crop(segmentation, size)
    if found is not None:
        (y, x), crop = found
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return mask


def decode_crop(
    segmentation: object, size: tuple[int, int], margin: int = 0, *, may_be_shares: bool = True
) -> tuple[tuple[int, int], np.ndarray] | None:
    """What decode_mask gives, cut out: of a large image with many small objects this is much less than all their pixels.

    Args:
        margin: pixels around the object that are kept, as far as the image goes.
        may_be_shares: whether polygons within the first pixel are refused, since they will be in shares of 1.

    Returns:
        (y, x) of its first pixel in the image, and the (h, w) bool mask; None where the mask is empty.

    Raises:
        InputError: as decode_mask.
    """
    counts = read_segmentation(segmentation, size, may_be_shares=may_be_shares)
    ends = np.cumsum(counts)
    is_run = counts[1::2] > 0
    starts, ends = ends[:-1:2][is_run], ends[1::2][is_run]
    if not len(starts):
        return None
    x, y, width, height = Runs(size, starts, ends, np.ones(1, np.int64), np.zeros(1, np.int64)).boxes()[0].tolist()
    y1, x1 = max(y - margin, 0), max(x - margin, 0)
    y2, x2 = min(y + height + margin, size[0]), min(x + width + margin, size[1])
    columns = np.zeros((x2 - x1, y2 - y1), dtype=np.bool_)
    _paint(starts, ends, size[0], x1, y1, columns)
    return (y1, x1), np.ascontiguousarray(columns.T)


@kernel
def _paint(starts, ends, height, x1, y1, columns):
    """Set the pixels of runs down the columns of an image in a part of it, which holds them all."""
    for k in range(len(starts)):
        position = starts[k]
        while position < ends[k]:
            x = position // height
            end = min(ends[k], (x + 1) * height)
            first = position - x * height - y1
            columns[x - x1, first : first + end - position] = True
            position = end


def read_segmentation(segmentation: object, size: tuple[int, int] | None, *, may_be_shares: bool = True) -> np.ndarray:
    """The (R,) int64 run lengths of an RLE or of polygons, background first, down the columns.

    Args:
        size: (height, width) of the image; None believes an RLE, and looks at polygons no closer than that they are a list.
        may_be_shares: see decode_crop.

    Raises:
        InputError: as decode_mask.
    """
    if isinstance(segmentation, dict):
        return read_counts(segmentation, size)
    if not isinstance(segmentation, list):
        raise InputError(f"mask is {shorten(repr(segmentation), 40)}, but an RLE or polygons were needed; export with masks")
    if size is None:
        return np.zeros(0, np.int64)
    filled = check_polygons(segmentation, size, may_be_shares=may_be_shares)
    if not filled:
        return np.array([size[0] * size[1]])
    return read_counts(coco_mask.merge(coco_mask.frPyObjects(filled, *size)), size)


def read_counts(rle: dict, size: tuple[int, int] | None = None) -> np.ndarray:
    """The (R,) int64 run lengths of an RLE, background first, down the columns.

    Args:
        size: (height, width) that it must have; None believes the RLE.

    Raises:
        InputError: as decode_mask.
    """
    found, counts = rle.get("size"), rle.get("counts")
    if not isinstance(found, list) or len(found) != 2 or not all(type(side) is int and side > 0 for side in found):
        raise InputError(f"RLE has size {shorten(found, 40)}, but [height, width] in whole pixels was needed; export it again")
    if size is not None and found != list(size):
        raise InputError(f"RLE has size {found}, but its image is {list(size)}; export it at the image's size")
    if isinstance(counts, list):
        lengths = _check_whole(counts)
    elif isinstance(counts, str | bytes):
        lengths = _decompress(counts.encode("utf-8", "replace") if isinstance(counts, str) else counts)
    else:
        raise InputError(f"RLE has counts {shorten(counts, 40)}, but a list or text was needed; export it again")
    num_pixels = found[0] * found[1]
    if (lengths < 0).any() or int(lengths.sum()) != num_pixels:
        what = "a length below 0" if (lengths < 0).any() else f"lengths of {int(lengths.sum())} pixels in all"
        raise InputError(f"RLE has {what}, but {found[0]}x{found[1]} has {num_pixels}; it is cut off or broken, export it again")
    return lengths


def _check_whole(counts: list) -> np.ndarray:
    strangers = [count for count in counts if type(count) is not int or not 0 <= count < 2**32]
    if strangers:
        raise InputError(f"RLE has count {shorten(strangers[0], 40)}, but whole numbers from 0 on were needed; export it again")
    return np.array(counts, dtype=np.int64)


def _decompress(text: bytes) -> np.ndarray:
    """maskApi's rleFrString: digits of 5 bits, lowest first, the last with the sign; from the fourth number on differences."""
    digits = np.frombuffer(text, np.uint8).astype(np.int64)
    if len(digits) == 0:
        return digits
    if digits.min() < FIRST_DIGIT or digits.max() > LAST_DIGIT:
        raise InputError("RLE text holds characters that no RLE has; export it again")
    digits -= FIRST_DIGIT
    ends = np.flatnonzero(digits & 32 == 0)
    if len(ends) == 0 or ends[-1] != len(digits) - 1:
        raise InputError("RLE text ends inside a number; it is cut off, export it again")
    starts = np.append(0, ends[:-1] + 1)
    num_digits = ends - starts + 1
    if num_digits.max() > MOST_DIGITS:
        raise InputError("RLE text holds a number of more than 35 bits; export it again")
    place = np.arange(len(digits)) - np.repeat(starts, num_digits)
    numbers = np.add.reduceat((digits & 31) << (5 * place), starts)
    numbers -= np.where(digits[ends] & 16, 1 << (5 * num_digits), 0)
    for first in (1, 2):  # each number but the first three is the difference to the second last
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def check_polygons(polygons: list, size: tuple[int, int], *, may_be_shares: bool = True) -> list[list[float]]:
    """The polygons [x1, y1, x2, y2, ...] of three points or more, as mmdet takes them; of two, pycocotools would make a box.

    Args:
        size: (height, width) of the image; the time and memory of pycocotools grow with the coordinates.
        may_be_shares: see decode_crop.

    Raises:
        InputError: if one is no list of coordinates, or lies more than an image's side outside.
    """
    reach = max(size)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise InputError(f"polygon {shorten(polygon, 40)}, but [x1, y1, x2, y2, x3, y3, ...] was needed; export it again")
        try:
            points = np.array(polygon)
            is_near = points.dtype.kind in "iuf" and bool(((points >= -reach) & (points <= 2 * reach)).all())
        except (TypeError, ValueError, OverflowError):
            is_near = False
        is_fractional = is_near and points.dtype.kind == "f" and bool((points % 1).any())
        if len(polygon) and is_fractional and may_be_shares and reach > 2 and points.max() <= 1:
            raise InputError(f"polygon {shorten(polygon, 40)} is in shares of 1, but pixels were needed; multiply it by the size")
        if len(polygon) and not is_near:
            raise InputError(f"polygon {shorten(polygon, 40)} lies outside of its {size[0]}x{size[1]} image; export it again")
    return [polygon for polygon in polygons if len(polygon) >= 6]
