"""Pictures that are there twice, in one split or two: byte for byte by their digest, and nearly by dHash and a thumbnail.

dHash (N. Krawetz, "Kind of Like That", 2013): the picture as 9x8 grey pixels, a bit for each that is brighter than its right
neighbour. It says little of pictures that are all sky above road, so that candidates are compared once more as 16x16 grey pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.images import open_image, read_image_size, upright
from data.label_checks.findings import Finding
from data.panoptic_file import ImageId
from runtime.files import InputError, file_digest, shorten

MOST_BITS = 3
"""By which the hashes of near duplicates differ at most, of 64."""
MOST_LEVELS = 6
"""By which their thumbnails differ at most on average, of 255."""
SIDE = 16
"""Of a thumbnail, in pixels."""
AT_ONCE = 256
"""Pictures that are compared with all of the other split at once."""


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a picture: size (height, width) upright, digest of its file, dHash, (SIDE, SIDE) uint8 thumbnail."""

    size: tuple[int, int]
    digest: str
    bits: int
    thumbnail: np.ndarray


def fingerprint(path: Path) -> Fingerprint:
    """Decode a picture, small where its format allows that.

    Raises:
        InputError: if it is missing or does not read.
    """
    size = read_image_size(path)
    with open_image(path) as image:
        grey = upright(image).convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(small[:, :-1] > small[:, 1:]).tobytes()
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Fingerprint(size, file_digest(path), int.from_bytes(bits, "big"), thumbnail)


class PictureIndex:
    """The fingerprints of a split, about 350 bytes a picture."""

    def __init__(self) -> None:
        self.image_ids: list[ImageId] = []
        self._bits: list[int] = []
        self._thumbnails: list[np.ndarray] = []
        self._digests: dict[str, ImageId] = {}

    def add(self, image_id: ImageId, found: Fingerprint) -> ImageId | None:
        """Add a picture; return the image that is the same file, if there is one."""
        other = self._digests.setdefault(found.digest, image_id)
        self.image_ids.append(image_id)
        self._bits.append(found.bits)
        self._thumbnails.append(found.thumbnail)
        return None if other == image_id else other

    def same_file(self, digest: str) -> ImageId | None:
        """The image with this digest."""
        return self._digests.get(digest)

    def digests(self) -> dict[str, ImageId]:
        """Digest of a file -> the first image with it."""
        return self._digests

    def near(self, other: "PictureIndex") -> Iterator[tuple[ImageId, ImageId, int, float]]:
        """Pairs that look the same: (own image, the other's, bits that differ, levels by which the thumbnails differ)."""
        if not self._bits or not other._bits:
            return
        own, others = np.array(self._bits, np.uint64), np.array(other._bits, np.uint64)
        for start in range(0, len(own), AT_ONCE):
            distances = np.bitwise_count(own[start : start + AT_ONCE, None] ^ others[None])
            for k, j in np.argwhere(distances <= MOST_BITS).tolist():
                mine, theirs = (t.astype(np.int16) for t in (self._thumbnails[start + k], other._thumbnails[j]))
                levels = float(np.abs(mine - theirs).mean())
                if levels <= MOST_LEVELS:
                    yield self.image_ids[start + k], other.image_ids[j], int(distances[k, j]), levels


def check_picture(
    path: Path, image_id: ImageId, sizes: Sequence[tuple[str, tuple[int, int]]], *, decode: bool
) -> tuple[Fingerprint | None, list[Finding]]:
    """A picture, and whether it has the size that others say.

    Args:
        sizes: (what says so, (height, width)).
        decode: whether it is to be decoded, without which only its header is read.
    """
    try:
        found = fingerprint(path) if decode else None
        size = found.size if found else read_image_size(path)
    except (InputError, OSError) as error:
        text = shorten(str(error).removeprefix(f"{path}: "), 160)
        return None, [Finding("picture-unreadable", image_id, text=f"{path.name}: {text}")]
    wrong = [f"{what} {h}x{w}" for what, (h, w) in sizes if (h, w) != size]
    text = f"the picture is {size[0]}x{size[1]} pixels, but {' and '.join(wrong)}"
    return found, [Finding("size-disagrees", image_id, text=text)] if wrong else []


def compare_splits(own: PictureIndex, other: PictureIndex, split: str) -> list[Finding]:
    """Pictures of this split that are also in the other one, whose name is given, or look as if they were."""
    found, same = [], set()
    for digest, image_id in own.digests().items():
        twin = other.same_file(digest)
        if twin is not None:
            same.add((image_id, twin))
            text = f"its picture is the same file as that of {shorten(twin, 60)} in {split}"
            found.append(Finding("picture-in-two-splits", image_id, text=text))
    for image_id, twin, bits, levels in own.near(other):
        if (image_id, twin) not in same:
            text = f"looks like {shorten(twin, 60)} of {split}: {bits} of 64 bits and {levels:.1f} of 255 levels differ"
            numbers = {"bits": bits, "levels": levels}
            found.append(Finding("near-duplicate", image_id, text=text, weight=1 / (1 + levels), numbers=numbers))
    return found
