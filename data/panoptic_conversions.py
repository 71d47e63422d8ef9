"""Panoptic maps to COCO instance annotations, COCO results and class maps, and back: what panopticapi's converters do.

Equal to them where they work (github.com/cocodataset/panopticapi, converters/, commit 7bb4655): masks, boxes and areas of
panoptic2detection_coco_format and the class maps of panoptic2semantic_segmentation. Differs:
- One image is in memory at a time, and annotations are written as they come; theirs holds those of the whole set.
- A class map whose ids exceed 255 is written with 16 bits; theirs has eight.
- The classes are those of the file; theirs are those of a second JSON, which is COCO's unless one is given.
- A PNG that does not fit its JSON is refused; in theirs a segment without pixels becomes an empty mask. File names may hold
  dots; of `a.b.png` theirs looks for `a.png`.
- The way back (detection2panoptic_coco_format, which under Python 3 ends in an error, since its image ids are NumPy's) takes
  objects that overlap, which theirs refuses: the one with the higher score is in front. It takes results, which list no images,
  and class maps, and the same input gives the same ids, which theirs draws at random. Ids of images may be texts.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.images import open_image, upright
from data.panoptic_png import PanopticMap, describe_segments
from data.run_lengths import decode_mask
from data.segment_runs import look_up
from data.targets import panoptic_to_annotations
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, VOID_TRAIN_ID, Taxonomy
from runtime.files import InputError, atomic_path, first_few

CATEGORY, TRAIN = "category", "train"
"""What the pixels of a class map hold: ids as in the data set's files, or train ids."""
HIGHEST_8_BIT, HIGHEST_16_BIT = 2**8 - 1, 2**16 - 1


@dataclass(frozen=True)
class PixelValues:
    """What each class is in the PNG of a class map; 8 bits where all values fit them, else 16.

    by_train_id: (256,) uint8 or uint16; of VOID_TRAIN_ID and of train ids that no class has it is `void`.
    void: 0 for category ids, as panopticapi writes it, unless a class has that id: then the highest value. 255 for train ids.
    """

    taxonomy: Taxonomy
    by_train_id: np.ndarray
    void: int

    @classmethod
    def of(cls, taxonomy: Taxonomy, kind: str = CATEGORY) -> "PixelValues":
        """The values of a taxonomy's classes.

        Args:
            kind: CATEGORY or TRAIN.

        Raises:
            InputError: if a category id is negative or needs more than 16 bits.
        """
        assert kind in (CATEGORY, TRAIN), kind
        values = taxonomy.dataset_ids if kind == CATEGORY else np.arange(taxonomy.num_classes)
        strangers = values[(values < 0) | (values > HIGHEST_16_BIT)].tolist()
        if strangers:
            found = f"category ids {first_few(strangers)}, but the pixels of a class map hold 0..{HIGHEST_16_BIT}"
            raise InputError(f"taxonomy {taxonomy.name}: {found}; write train ids instead")
        if kind == TRAIN:
            void = VOID_TRAIN_ID
        elif values.min() > 0:
            void = 0
        else:
            void = HIGHEST_8_BIT if values.max() < HIGHEST_8_BIT else HIGHEST_16_BIT
        if void in values:
            found = f"has both id 0 and id {void}, so that none is left for void"
            raise InputError(f"taxonomy {taxonomy.name}: {found}; write train ids instead")
        table = np.full(VOID_TRAIN_ID + 1, void, np.uint8 if max(values.max(), void) <= HIGHEST_8_BIT else np.uint16)
        table[: taxonomy.num_classes] = values
        return cls(taxonomy, table, void)

    def encode(self, train_ids: np.ndarray) -> np.ndarray:
        """(H, W) uint8 train ids -> (H, W) uint8 or uint16 pixels."""
        return look_up(self.by_train_id, train_ids)

    def decode(self, pixels: np.ndarray, place: str | Path) -> np.ndarray:
        """(H, W) pixels -> (H, W) uint8 train ids, VOID_TRAIN_ID for void.

        Args:
            place: the file, for the message.

        Raises:
            InputError: if a pixel is of no class.
        """
        used = np.unique(pixels)
        train_id_of = {int(self.by_train_id[k]): k for k in range(self.taxonomy.num_classes)} | {self.void: VOID_TRAIN_ID}
        strangers = [value for value in used.tolist() if value not in train_id_of]
        if strangers:
            known = first_few([self.void, *self.by_train_id[: self.taxonomy.num_classes].tolist()])
            found = f"pixels {first_few(strangers)}, but those of {self.taxonomy.name} are {known}, the first of them void"
            raise InputError(f"{place}: {found}; give the class maps of these classes, and say whether they hold train ids")
        table = np.full(HIGHEST_16_BIT + 1, VOID_TRAIN_ID, dtype=np.uint8)
        for value in used.tolist():
            table[value] = train_id_of[value]
        return look_up(table, pixels)


def read_class_map_png(path: Path, values: PixelValues, size: tuple[int, int]) -> np.ndarray:
    """Read the class map of an image as (H, W) uint8 train ids; 8-bit grey, 8-bit with a palette, or 16-bit grey.

    Raises:
        InputError: if the file is missing, broken, of another mode or size (height, width), or a pixel is of no class.
    """
    with open_image(path) as image:
        if image.mode not in ("L", "P", "I;16", "I"):
            raise InputError(f"{path}: PNG mode {image.mode}, but the pixels of a class map are class ids; write it as grey")
        pixels = np.asarray(upright(image)).astype(np.int32)
    if pixels.shape != tuple(size):
        found, needed = (f"{h}x{w}" for h, w in (pixels.shape, size))
        raise InputError(f"{path}: {found} pixels, but its image has {needed}; use the class map of the same image")
    return values.decode(pixels, path)


def as_things(taxonomy: Taxonomy) -> Taxonomy:
    """The same classes, all of them things: so stuff goes where otherwise only things go."""
    return Taxonomy(taxonomy.name, tuple(replace(category, is_thing=True) for category in taxonomy.categories))


def panoptic_to_results(panoptic: PanopticMap, taxonomy: Taxonomy) -> list[dict]:
    """The things of one image as COCO results, without `image_id`, ascending by segment id; a crowd is no result.

    `score` is the segment's, 1 where it has none; masks are compressed run lengths. There is no `bbox`, as in COCO's own form:
    pycocotools would take its area for the mask's.
    """
    things = [s for s in panoptic.segments if taxonomy.is_thing[taxonomy.dataset_id_to_train_id[s.category_id]]]
    results = []
    for thing, found in zip(
        sorted(things, key=lambda thing: thing.segment_id), panoptic_to_annotations(panoptic, taxonomy), strict=True
    ):
        if not thing.is_crowd:
            score = 1.0 if thing.score is None else thing.score
            results.append({key: found[key] for key in ("category_id", "segmentation")} | {"score": score})
    return results


def annotations_to_panoptic(
    annotations: Sequence[dict], semantic: np.ndarray | None, size: tuple[int, int], taxonomy: Taxonomy
) -> PanopticMap:
    """COCO annotations or results of one image, and its class map for the rest, as one panoptic map.

    A pixel belongs to the thing with the highest score there, of equal ones (or without scores) to the one that comes first;
    else to a crowd; else to a stuff class that is annotated; else to the class of the map. Of that map a thing class is void
    where no object is. Things and crowds are numbered in each class in the given order, which is that of panoptic_to_results
    for maps numbered by class.

    Args:
        annotations: with `category_id` and `segmentation`, and where they have them `iscrowd` and `score`. One mask is decoded
            at a time.
        semantic: (H, W) uint8 train ids, VOID_TRAIN_ID for void.
        size: (height, width) of the image.

    Raises:
        InputError: if a category is not in the taxonomy, or a mask does not read or is of another size.
    """
    train_ids = [_check_category(entry, taxonomy) for entry in annotations]
    segment_ids = _number(train_ids, taxonomy)
    ids = _stuff_ids(semantic, size, taxonomy)
    train_id_of = {taxonomy.segment_id(k): k for k in taxonomy.stuff_ids}
    objects: dict[int, dict] = {}
    for k in _back_to_front(annotations, train_ids, taxonomy):
        ids[decode_mask(annotations[k]["segmentation"], size)] = segment_ids[k]
        train_id_of[segment_ids[k]] = train_ids[k]
        if taxonomy.is_thing[train_ids[k]]:
            objects[segment_ids[k]] = annotations[k]
    segments = []
    for segment in describe_segments(ids, category_of=lambda segment_id: int(taxonomy.dataset_ids[train_id_of[segment_id]])):
        entry = objects.get(segment.segment_id, {})
        score = None if entry.get("score") is None else float(entry["score"])
        segments.append(replace(segment, is_crowd=bool(entry.get("iscrowd", 0)), score=score))
    return PanopticMap(ids, tuple(segments))


def _check_category(entry: dict, taxonomy: Taxonomy) -> int:
    train_id = taxonomy.dataset_id_to_train_id.get(entry["category_id"])
    if train_id is None:
        known = first_few(taxonomy.dataset_ids.tolist())
        raise InputError(f"category id {entry['category_id']} is not in {taxonomy.name}, whose ids are {known}; give its classes")
    return train_id


def _number(train_ids: Sequence[int], taxonomy: Taxonomy) -> list[int]:
    """A segment id for each annotation; running numbers where an image has more objects of a class than the usual ids hold."""
    counts: Counter[int] = Counter()
    numbered = []
    for train_id in train_ids:
        counts[train_id] += 1
        numbered.append(taxonomy.segment_id(train_id, counts[train_id] if taxonomy.is_thing[train_id] else 0))
    if any(count > MAX_INSTANCES_PER_IMAGE for k, count in counts.items() if taxonomy.is_thing[k]):
        stuff = {taxonomy.segment_id(k) for k in taxonomy.stuff_ids}
        free = iter(number for number in range(1, len(train_ids) + len(stuff) + 1) if number not in stuff)
        return [next(free) if taxonomy.is_thing[k] else taxonomy.segment_id(k) for k in train_ids]
    return numbered


def _stuff_ids(semantic: np.ndarray | None, size: tuple[int, int], taxonomy: Taxonomy) -> np.ndarray:
    """(H, W) uint32: the segment ids of the stuff classes, 0 elsewhere."""
    if semantic is None:
        return np.zeros(size, dtype=np.uint32)
    table = np.zeros(VOID_TRAIN_ID + 1, dtype=np.uint32)
    for train_id in taxonomy.stuff_ids:
        table[train_id] = taxonomy.segment_id(train_id)
    return look_up(table, semantic)


def _back_to_front(annotations: Sequence[dict], train_ids: Sequence[int], taxonomy: Taxonomy) -> list[int]:
    """The places of the annotations in the order in which they are painted."""

    def depth(k: int) -> tuple[bool, bool, float, int]:
        score = annotations[k].get("score")
        is_crowd = bool(annotations[k].get("iscrowd", 0))
        return bool(taxonomy.is_thing[train_ids[k]]), not is_crowd, 1.0 if score is None else score, -k

    return sorted(range(len(annotations)), key=depth)


def write_entries(path: Path, entries: Iterable[dict], head: str = "[", tail: Callable[[], str] = lambda: "]") -> int:
    """Write a JSON list one entry a line, atomically, and none of it kept in memory; return how many there were.

    Args:
        head: what stands before the first entry.
        tail: gives what stands behind the last one, when that is written.
    """
    number = 0
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(head)
        for number, entry in enumerate(entries, start=1):
            file.write(f"{',' if number > 1 else ''}\n{json.dumps(entry)}")
        file.write(f"\n{tail()}\n")
    return number
