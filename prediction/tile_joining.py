"""How what is said of the tiles of an image becomes one prediction: logits are blended, objects joined across the seams.

A joiner takes the tiles one after the other with `add` and gives the whole with `result`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.dump_file import to_float16
from data.instance_dump import InstanceLogits, from_crops
from data.panoptic_png import PanopticMap
from data.semantic_dump import SemanticLogits, SemanticMap
from data.targets import panoptic_to_scored_instances, panoptic_to_semantic
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy
from fusion.compose import Claimant, compose
from prediction.tile_plan import Tile, TilePlan
from runtime.files import InputError
from runtime.progress import note

MIN_OVERLAP = 0.5
"""Two objects of neighbouring tiles are one if, of what the two tiles share, their masks have at least this part of the smaller
mask in common. Of the smaller, since the tile that an object just reaches into often sees but a part of that."""
ROWS_AT_ONCE = 256
"""Rows of a joined mask that are averaged at once, in cells."""


class Piece(NamedTuple):
    """One object of one tile, on the whole image's grid. box: (y1, x1, y2, x2) of the crop in cells, inside of tile and image."""

    tile: int
    train_id: int
    score: float
    box: tuple[int, int, int, int]
    crop: np.ndarray

    def window(self, box: Sequence[int]) -> np.ndarray:
        """Its logits in a box that lies inside of its own."""
        y, x = self.box[:2]
        return self.crop[box[0] - y : box[2] - y, box[1] - x : box[3] - x]

    @property
    def area(self) -> int:
        """Of its mask, in cells."""
        return int(np.count_nonzero(self.crop > 0))


class SemanticBlender:
    """Logits as the mean of the tiles' by linear ramps, in float16 at their stride; class maps each pixel of the nearest tile."""

    def __init__(self, plan: TilePlan, taxonomy: Taxonomy, image_id: str):
        self.plan, self.taxonomy, self.image_id = plan, taxonomy, image_id
        self._logits: np.ndarray | None = None
        self._stride, self._train_ids = 0, None

    def add(self, tile: Tile, found: SemanticLogits | SemanticMap) -> None:
        """Take what is said of a tile.

        Raises:
            InputError: if it is of another size, or its stride is not the other tiles' or does not fit them.
        """
        if isinstance(found, SemanticMap):
            check_size(found.train_ids.shape, tile, self.image_id)
            if self._train_ids is None:
                self._train_ids = np.empty(self.plan.size, dtype=np.uint8)
            paste_core(self.plan, tile, found.train_ids, self._train_ids)
            return
        check_size((found.height, found.width), tile, self.image_id)
        rows, columns = self.plan.cells(tile, found.stride)
        if self._logits is None:
            self._stride = found.stride
            self._logits = np.zeros((len(found.logits), *self.plan.grid(found.stride)), dtype=np.float16)
            self._weights = self.plan.rows.weights(found.stride), self.plan.columns.weights(found.stride)
        check_stride(found.stride, self._stride, self.image_id)
        weights = np.outer(self._weights[0][tile.row, rows], self._weights[1][tile.column, columns])
        for blended, logits in zip(self._logits, found.logits, strict=True):
            window = blended[rows, columns]
            window[:] = to_float16(window + weights * logits[: weights.shape[0], : weights.shape[1]])

    def result(self) -> SemanticLogits | SemanticMap:
        """What is said of the image."""
        if self._train_ids is not None:
            return SemanticMap(self.image_id, self.taxonomy.name, "", self._train_ids)
        return SemanticLogits(self.image_id, *self.plan.size, self._stride, self.taxonomy.name, "", self._logits)


class InstanceJoiner:
    """The tiles' objects, those that are one across a seam joined: see join_pieces and merge_pieces."""

    def __init__(self, plan: TilePlan, taxonomy: Taxonomy, image_id: str):
        self.plan, self.taxonomy, self.image_id = plan, taxonomy, image_id
        self.pieces: list[Piece] = []
        self._stride: int | None = None

    def add(self, tile: Tile, found: InstanceLogits) -> None:
        """Take what is said of a tile.

        Raises:
            InputError: as SemanticBlender.add.
        """
        check_size((found.height, found.width), tile, self.image_id)
        if not len(found):
            return  # without objects some tools name any stride
        rows, columns = self.plan.cells(tile, found.stride)
        self._stride = found.stride if self._stride is None else self._stride
        check_stride(found.stride, self._stride, self.image_id)
        place = tile.row * len(self.plan.columns.starts) + tile.column
        about = zip(found.train_ids.tolist(), found.scores.tolist(), found.crop_boxes.tolist(), found.crops, strict=True)
        for train_id, score, (y1, x1, y2, x2), crop in about:
            y1, x1 = y1 + rows.start, x1 + columns.start
            y2, x2 = min(y2 + rows.start, rows.stop), min(x2 + columns.start, columns.stop)
            if y1 < y2 and x1 < x2:  # else it lies beyond the image
                self.pieces.append(Piece(place, train_id, score, (y1, x1, y2, x2), crop[: y2 - y1, : x2 - x1]))

    def groups(self) -> list[list[Piece]]:
        """The pieces of each object; releases them here."""
        pieces, self.pieces = self.pieces, []
        return [[pieces[k] for k in group] for group in join_pieces(pieces, self.plan, self._stride or 1)]

    def result(self) -> InstanceLogits:
        """The objects of the image."""
        stride, groups = self._stride or 1, self.groups()
        weights = self.plan.rows.weights(stride), self.plan.columns.weights(stride)
        return from_crops(
            (merge_pieces(group, self.plan, stride, weights) for group in groups),
            [group[0].train_id for group in groups],
            [joined_score(group) for group in groups],
            image_id=self.image_id,
            size=self.plan.size,
            stride=stride,
            taxonomy=self.taxonomy,
            producer="",
        )


class PanopticJoiner:
    """Panoptic maps, whose things are joined as instances are; then each pixel is what the nearest tile says of it.

    A thing numbers from the best score on, as in the fusion.
    """

    def __init__(self, plan: TilePlan, taxonomy: Taxonomy, image_id: str):
        self.plan, self.taxonomy, self.image_id = plan, taxonomy, image_id
        self._things = InstanceJoiner(plan, taxonomy, image_id)
        self._train_ids = np.empty(plan.size, dtype=np.uint8)
        self._has_scores = False

    def add(self, tile: Tile, found: PanopticMap) -> None:
        """Take what is said of a tile.

        Raises:
            InputError: as SemanticBlender.add.
        """
        check_size(found.segment_ids.shape, tile, self.image_id)
        paste_core(self.plan, tile, panoptic_to_semantic(found, self.taxonomy), self._train_ids)
        self._has_scores |= any(segment.score is not None for segment in found.segments)
        about = {"image_id": self.image_id, "producer": ""}
        self._things.add(tile, panoptic_to_scored_instances(found, self.taxonomy, **about))

    def result(self) -> PanopticMap:
        """The map of the image."""
        groups, owners = self._things.groups(), np.zeros(self.plan.size, dtype=np.int32)  # 0: none
        for number, group in enumerate(groups, start=1):
            for piece in group:
                core = _box_of(self.plan.core(self.plan.tiles[piece.tile]))
                if (box := _common(piece.box, core)) is not None:
                    owners[box[0] : box[2], box[1] : box[3]][piece.window(box) > 0] = number
        areas = sum(np.bincount(row, minlength=len(groups) + 1) for row in owners)[1:]  # of all at once it makes 64-bit numbers
        scores = [joined_score(group) for group in groups]
        kept = sorted(np.flatnonzero(areas).tolist(), key=lambda k: (-scores[k], -areas[k], k))
        if len(kept) > MAX_INSTANCES_PER_IMAGE:
            cut = f"segment ids number {MAX_INSTANCES_PER_IMAGE} of {len(kept)} objects, the others are left out"
            note(f"image {self.image_id!r}: {cut}")
        kept = kept[:MAX_INSTANCES_PER_IMAGE]
        place = np.full(len(groups) + 1, -1, dtype=np.int16)
        place[[k + 1 for k in kept]] = np.arange(len(kept))
        claimants = [Claimant(groups[k][0].train_id, scores[k] if self._has_scores else None) for k in kept]
        winner = place[owners]
        del owners
        return compose(winner, claimants, self._train_ids, self.taxonomy, min_stuff_area=0)


JOINERS = {"panoptic": PanopticJoiner, "instances": InstanceJoiner, "semantic": SemanticBlender}
"""By the parts of a Prediction."""


def join_pieces(pieces: Sequence[Piece], plan: TilePlan, stride: int) -> list[list[int]]:
    """Which pieces are one object: indices of each group, in the order of the groups' first ones.

    Pieces of two tiles that overlap are candidates where they are of one class and have MIN_OVERLAP in common. The clearest
    pair is joined first, and a pair never if its groups hold two pieces of one tile: what a network tells apart stays apart.
    A pair is as clear as its IoU in the shared cells times the lower score, so that an object finds itself and not the
    doubtful double that a network may give beside it.
    """
    by_tile: dict[int, list[int]] = {}
    for k, piece in enumerate(pieces):
        by_tile.setdefault(piece.tile, []).append(k)
    covered = {place: _box_of(plan.cells(plan.tiles[place], stride)) for place in by_tile}
    pairs = []
    for place in by_tile:
        for other in by_tile:
            if place < other and (shared := _common(covered[place], covered[other])) is not None:
                pairs += _candidates(pieces, by_tile[place], by_tile[other], shared)
    group_of, groups = list(range(len(pieces))), {k: [k] for k in range(len(pieces))}
    tiles = {k: {piece.tile} for k, piece in enumerate(pieces)}
    for _, first, second in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        kept, gone = sorted((group_of[first], group_of[second]))
        if kept == gone or tiles[kept] & tiles[gone]:
            continue
        for k in groups[gone]:
            group_of[k] = kept
        groups[kept] += groups.pop(gone)
        tiles[kept] |= tiles.pop(gone)
    return [sorted(group) for group in groups.values()]


def _candidates(
    pieces: Sequence[Piece], first: Sequence[int], second: Sequence[int], shared: tuple[int, int, int, int]
) -> Iterator[tuple[float, int, int]]:
    """(clearness, piece, piece) of the pairs of two tiles that may be one, `shared` being the cells of both."""
    seen = [_seen_in(pieces, of_tile, shared) for of_tile in (first, second)]
    for a in seen[0]:
        for b in seen[1]:
            if pieces[a.piece].train_id != pieces[b.piece].train_id or (box := _common(a.box, b.box)) is None:
                continue
            common = np.count_nonzero((pieces[a.piece].window(box) > 0) & (pieces[b.piece].window(box) > 0))
            if common >= MIN_OVERLAP * min(a.area, b.area):
                score = min(pieces[a.piece].score, pieces[b.piece].score)
                yield common / (a.area + b.area - common) * score, a.piece, b.piece


@dataclass(frozen=True)
class _Seen:
    """What a piece has in the cells that two tiles share."""

    piece: int
    box: tuple[int, int, int, int]
    area: int


def _seen_in(pieces: Sequence[Piece], indices: Sequence[int], shared: tuple[int, int, int, int]) -> list[_Seen]:
    seen = []
    for k in indices:
        if (box := _common(pieces[k].box, shared)) is not None:
            area = int(np.count_nonzero(pieces[k].window(box) > 0))
            if area:
                seen.append(_Seen(k, box, area))
    return seen


def merge_pieces(
    group: Sequence[Piece], plan: TilePlan, stride: int, weights: tuple[np.ndarray, np.ndarray]
) -> tuple[tuple[int, int], np.ndarray]:
    """One object's pieces as one crop: the mean of the logits by the weights of those tiles that have the object.

    Where a tile does not say anything, outside of its crop, it denies the object as surely as it affirms or denies it anywhere;
    where no tile of the group lies, the object is denied as surely as any of them does. A piece alone stays as it is.

    Args:
        weights: of the rows' and columns' tiles, as Axis.weights gives them.

    Returns:
        (row, column) of the first cell, and float16 logits, with a margin of one cell where there are several pieces.
    """
    if len(group) == 1:
        return group[0].box[:2], group[0].crop
    rows, columns = plan.grid(stride)
    y1, x1 = (max(min(piece.box[k] for piece in group) - 1, 0) for k in (0, 1))
    y2, x2 = (min(max(piece.box[k] for piece in group) + 1, side) for k, side in ((2, rows), (3, columns)))
    denials = [-float(np.abs(piece.crop).max()) for piece in group]
    merged = np.empty((y2 - y1, x2 - x1), dtype=np.float16)
    for top in range(y1, y2, ROWS_AT_ONCE):
        band = (top, x1, min(top + ROWS_AT_ONCE, y2), x2)
        total, weight = np.zeros((2, band[2] - top, x2 - x1), dtype=np.float32)
        for piece, denial in zip(group, denials, strict=True):
            tile = plan.tiles[piece.tile]
            if (box := _common(_box_of(plan.cells(tile, stride)), band)) is None:
                continue
            logits = np.full((box[2] - box[0], box[3] - box[1]), denial, dtype=np.float32)
            if (own := _common(piece.box, box)) is not None:
                logits[own[0] - box[0] : own[2] - box[0], own[1] - box[1] : own[3] - box[1]] = piece.window(own)
            counts = np.outer(weights[0][tile.row, box[0] : box[2]], weights[1][tile.column, box[1] : box[3]])
            place = slice(box[0] - top, box[2] - top), slice(box[1] - x1, box[3] - x1)
            total[place] += counts * logits
            weight[place] += counts
        mean = np.full(total.shape, min(denials), dtype=np.float32)
        np.divide(total, weight, out=mean, where=weight > 0)
        merged[top - y1 : band[2] - y1] = to_float16(mean)
    return (y1, x1), merged


def joined_score(group: Sequence[Piece]) -> float:
    """The mean of the pieces' scores by their areas: a tile that sees a corner of an object knows less of it than one that sees
    the whole, and the score of the surest piece would put every object that a seam cuts above its equals."""
    areas = [piece.area for piece in group] if len(group) > 1 else [0]
    if not any(areas):
        return group[0].score
    return float(np.average([piece.score for piece in group], weights=areas))


def paste_core(plan: TilePlan, tile: Tile, found: np.ndarray, canvas: np.ndarray) -> None:
    """Write the pixels of which the tile is the nearest one."""
    rows, columns = plan.core(tile)
    canvas[rows, columns] = found[rows.start - tile.y : rows.stop - tile.y, columns.start - tile.x : columns.stop - tile.x]


def check_size(found: tuple[int, int], tile: Tile, image_id: str) -> None:
    """Refuse a prediction that is not of the tile that was given.

    Raises:
        InputError: if it is not.
    """
    if tuple(found) != (tile.height, tile.width):
        sizes = f"{found[0]}x{found[1]}, but the tile is {tile.height}x{tile.width}"
        raise InputError(f"{image_id}: a prediction is of {sizes}; tiles are for live models, leave --tile out")


def check_stride(found: int, needed: int, image_id: str) -> None:
    """Refuse tiles of different strides.

    Raises:
        InputError: if they differ.
    """
    if found != needed:
        raise InputError(f"{image_id}: one tile has logits at stride {needed}, another at {found}; leave --tile out")


def _box_of(slices: tuple[slice, slice]) -> tuple[int, int, int, int]:
    rows, columns = slices
    return rows.start, columns.start, rows.stop, columns.stop


def _common(first: Sequence[int], second: Sequence[int]) -> tuple[int, int, int, int] | None:
    """The cells that two boxes (y1, x1, y2, x2) have in common; None where there are none."""
    y1, x1 = max(first[0], second[0]), max(first[1], second[1])
    y2, x2 = min(first[2], second[2]), min(first[3], second[3])
    return (y1, x1, y2, x2) if y1 < y2 and x1 < x2 else None
