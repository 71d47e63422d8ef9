"""Panoptic fusion of EfficientPS (Mohan & Valada, IJCV 2021, section 3.5): instance and semantic logits -> one panoptic map.

Differs: an instance counts only on its support, the pixels of its box where instance and semantic logit add up to more than
0 (the official code scores it 0 outside the box, so that it wins wherever every stuff logit is negative); instances need not
come from Mask R-CNN. `variant: official` restores the code's habits.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.files import InputError
from data.instance_dump import InstanceLogits
from data.panoptic_png import PanopticMap, Segment, describe_segments
from data.semantic_dump import SemanticLogits
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy

AREA_REFERENCE = 1024 * 2048
"""Area limits are given in pixels of an image of this size and scale with the image."""


@dataclass(frozen=True)
class FusionSettings:
    """How instances are chosen, fused and dropped."""

    min_score: float = 0.2
    """Instances below are ignored. EfficientPS takes 0.5 of its box scores; SOLOv2's are lower. Tune it on val."""
    max_overlap: float = 0.5
    """An instance of which more than this share is covered by better ones is dropped (intersection / own area)."""
    min_stuff_area: float = 2048
    """Smallest area that a stuff class may have, in pixels of a 1024x2048 image; smaller becomes void (EfficientPS tests)."""
    min_thing_area: float = 0
    """Smallest area of a thing, same unit; its pixels go back to the semantic prediction. The official code has no limit."""
    variant: str = "paper"
    """paper, or official: mask logits times 4, support is the whole box, and outside of it instances score 0, not -inf."""

    def __post_init__(self):
        if self.variant not in ("paper", "official"):
            raise InputError(f"fusion variant {self.variant!r} is unknown; choose paper or official")
        for name in ("min_score", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"fusion {name} is {getattr(self, name)}, but a share from 0 to 1 is needed")
        for name in ("min_stuff_area", "min_thing_area"):
            if not getattr(self, name) >= 0:
                raise InputError(f"fusion {name} is {getattr(self, name)}, but an area of 0 or more is needed")


def fuse(
    instances: InstanceLogits,
    semantic: SemanticLogits,
    taxonomy: Taxonomy,
    settings: FusionSettings = FusionSettings(),
    device: str | torch.device = "cpu",
) -> PanopticMap:
    """Fuse the two predictions of one image; the result does not depend on the order of the instances.

    Thing pixels of the semantic prediction that no instance claims become void. Segment ids are those of Taxonomy.segment_id,
    things numbered from the best score on.

    Raises:
        InputError: if the two are of different images, sizes or taxonomies, or hold NaN.
    """
    _check_pair(instances, semantic, taxonomy)
    best_stuff, semantic_argmax = _semantic_maps(semantic, taxonomy, device)
    claims = _Claims(best_stuff)
    for k in _best_first(instances, settings.min_score):
        area = _Box.of(instances, k)
        mask_logits = _enlarged_crop(instances, k, area, device)
        if claims.is_covered(mask_logits > 0, area, settings.max_overlap):
            continue
        train_id = int(instances.train_ids[k])
        semantic_logits = _enlarged_window(semantic, train_id, area, device)
        scale = 4 if settings.variant == "official" else 1
        claims.add(k, fuse_logits(scale * mask_logits, semantic_logits), area, is_zero_outside=settings.variant == "official")
    winner = claims.winner.cpu().numpy()
    claimed = [(k, int(instances.train_ids[k]), float(instances.scores[k])) for k in claims.accepted]
    return _compose(winner, claimed, semantic_argmax.cpu().numpy(), taxonomy, settings)


def fuse_logits(instance: Tensor, semantic: Tensor) -> Tensor:
    """(sigmoid(a) + sigmoid(b)) * (a + b) of EfficientPS, eq. 8; logits of any equal shape."""
    return (instance.sigmoid() + semantic.sigmoid()) * (instance + semantic)


def semantic_only(
    semantic: SemanticLogits, taxonomy: Taxonomy, settings: FusionSettings = FusionSettings(), device: str | torch.device = "cpu"
) -> PanopticMap:
    """The floor of the fusion: the semantic argmax alone, where each connected region of a thing class is one object."""
    argmax = _semantic_maps(semantic, taxonomy, device)[1].cpu().numpy()
    winner = np.full(argmax.shape, -1, dtype=np.int32)
    claimed = []
    for train_id in taxonomy.thing_ids:
        num_regions, regions = cv2.connectedComponents((argmax == train_id).astype(np.uint8))
        winner = np.where(regions > 0, regions - 1 + len(claimed), winner)
        claimed += [(len(claimed) + r, train_id, None) for r in range(num_regions - 1)]
    largest = np.argsort(-np.bincount(winner[winner >= 0], minlength=len(claimed)), kind="stable")
    claimed = [claimed[k] for k in largest[:MAX_INSTANCES_PER_IMAGE]]
    return _compose(winner, claimed, argmax, taxonomy, settings)


@dataclass(frozen=True)
class _Box:
    """A rectangle of image pixels, ends exclusive."""

    y1: int
    x1: int
    y2: int
    x2: int

    @classmethod
    def of(cls, instances: InstanceLogits, k: int) -> "_Box":
        x1, y1, x2, y2 = instances.boxes[k]
        y1, x1 = max(int(np.floor(y1)), 0), max(int(np.floor(x1)), 0)
        return cls(y1, x1, min(int(np.ceil(y2)), instances.height), min(int(np.ceil(x2)), instances.width))

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y1, self.y2), slice(self.x1, self.x2)

    def intersection(self, other: "_Box") -> "_Box":
        y1, x1 = max(self.y1, other.y1), max(self.x1, other.x1)
        return _Box(y1, x1, max(y1, min(self.y2, other.y2)), max(x1, min(self.x2, other.x2)))


@dataclass
class _Claims:
    """The best score of every pixel so far, whose it is (-1: stuff), and what accepted masks cover."""

    best: Tensor  # (H, W) float32
    winner: Tensor = field(init=False)  # (H, W) int32
    covered: Tensor = field(init=False)  # (H, W) bool
    accepted: list[int] = field(default_factory=list)
    # Outside the intersection of the accepted boxes nothing is below 0 any more once absent instances score 0.
    maybe_negative: _Box = field(init=False)

    def __post_init__(self):
        self.winner = torch.full(self.best.shape, -1, dtype=torch.int32, device=self.best.device)
        self.covered = torch.zeros(self.best.shape, dtype=torch.bool, device=self.best.device)
        self.maybe_negative = _Box(0, 0, *self.best.shape)

    def is_covered(self, mask: Tensor, box: _Box, max_overlap: float) -> bool:
        """Whether the mask is empty or too much of it is taken; if not, it now covers its pixels."""
        area = int(mask.sum())
        covered = self.covered[box.slices]
        if area == 0 or int((mask & covered).sum()) > max_overlap * area:
            return True
        covered |= mask
        return False

    def add(self, k: int, fused: Tensor, box: _Box, is_zero_outside: bool) -> None:
        """Give instance k the pixels of its support where it beats all before it; ties stay with the earlier."""
        self.accepted.append(k)
        best, winner = self.best[box.slices], self.winner[box.slices]
        # The equation lifts a sum far below 0 to just below 0, above any stuff logit that is negative: two clear denials would
        # win. So the support ends where the sum does, except in the official rule.
        wins = fused > best if is_zero_outside else (fused > best) & (fused > 0)
        best[wins] = fused[wins]
        winner[wins] = k
        if is_zero_outside:
            self._claim_negative_outside(k, box)

    def _claim_negative_outside(self, k: int, box: _Box) -> None:
        region = self.maybe_negative
        best, winner = self.best[region.slices], self.winner[region.slices]
        loses = best < 0
        inside = region.intersection(box)
        loses[inside.y1 - region.y1 : inside.y2 - region.y1, inside.x1 - region.x1 : inside.x2 - region.x1] = False
        best[loses] = 0
        winner[loses] = k
        self.maybe_negative = inside


def _check_pair(instances: InstanceLogits, semantic: SemanticLogits, taxonomy: Taxonomy) -> None:
    for name in ("image_id", "height", "width", "taxonomy"):
        ours, theirs = getattr(instances, name), getattr(semantic, name)
        if ours != theirs:
            raise InputError(f"instances have {name} {ours!r}, semantics {theirs!r}; fuse predictions of the same image")
    if semantic.taxonomy != taxonomy.name or len(semantic.logits) != taxonomy.num_classes:
        found = f"{len(semantic.logits)} classes of {semantic.taxonomy!r}"
        raise InputError(f"{semantic.image_id}: {found}, but {taxonomy.num_classes} of {taxonomy.name!r} were needed")
    if not np.isfinite(semantic.logits).all() or not all(np.isfinite(crop).all() for crop in instances.crops):
        raise InputError(f"{semantic.image_id}: NaN or infinite logits; predict again with a model that works")


def _best_first(instances: InstanceLogits, min_score: float) -> list[int]:
    """Indices by score; ties are broken by content, so that the order of the file does not matter."""

    def key(k: int) -> tuple:
        crop = instances.crops[k]
        return -instances.scores[k], instances.train_ids[k], tuple(instances.crop_boxes[k]), crop.tobytes()

    chosen = sorted((k for k in range(len(instances)) if instances.scores[k] >= min_score), key=key)
    return chosen[:MAX_INSTANCES_PER_IMAGE]


def _semantic_maps(semantic: SemanticLogits, taxonomy: Taxonomy, device: str | torch.device) -> tuple[Tensor, Tensor]:
    """Largest stuff logit and train id of the largest logit of all, (H, W) each; one class is enlarged at a time."""
    full = _Box(0, 0, semantic.height, semantic.width)
    shape = (semantic.height, semantic.width)
    best_stuff, best = (torch.full(shape, -torch.inf, device=device) for _ in range(2))
    argmax = torch.zeros(shape, dtype=torch.int64, device=device)
    for train_id in range(taxonomy.num_classes):
        logits = _enlarged_window(semantic, train_id, full, device)
        argmax[logits > best] = train_id
        torch.maximum(best, logits, out=best)
        if not taxonomy.is_thing[train_id]:
            torch.maximum(best_stuff, logits, out=best_stuff)
    return best_stuff, argmax


def _enlarged_crop(instances: InstanceLogits, k: int, box: _Box, device: str | torch.device) -> Tensor:
    """Mask logits of instance k at full resolution, on its box."""
    crop = torch.from_numpy(instances.crops[k].astype(np.float32)).to(device)
    y1, x1 = (int(c) * instances.stride for c in instances.crop_boxes[k, :2])
    enlarged = _enlarge(crop, instances.stride)
    return enlarged[box.y1 - y1 : box.y2 - y1, box.x1 - x1 : box.x2 - x1]


def _enlarged_window(semantic: SemanticLogits, train_id: int, box: _Box, device: str | torch.device) -> Tensor:
    """One class's logits at full resolution, on a box; a halo of one cell makes it equal to enlarging the whole map."""
    s = semantic.stride
    row, column = max(box.y1 // s - 1, 0), max(box.x1 // s - 1, 0)
    window = semantic.logits[train_id, row : -(-box.y2 // s) + 1, column : -(-box.x2 // s) + 1]
    enlarged = _enlarge(torch.from_numpy(window.astype(np.float32)).to(device), s)
    return enlarged[box.y1 - row * s : box.y2 - row * s, box.x1 - column * s : box.x2 - column * s]


def _enlarge(cells: Tensor, stride: int) -> Tensor:
    return F.interpolate(cells[None, None], scale_factor=stride, mode="bilinear", align_corners=False)[0, 0]


def _compose(
    winner: np.ndarray,
    claimed: list[tuple[int, int, float | None]],
    semantic_argmax: np.ndarray,
    taxonomy: Taxonomy,
    settings: FusionSettings,
) -> PanopticMap:
    """Write things, fill the rest with stuff, drop what is too small.

    Args:
        winner: (H, W), index of the instance that a pixel belongs to, -1 for none.
        claimed: (index in `winner`, train id, score) of each instance, best first.
        semantic_argmax: (H, W) train ids.
    """
    unit = winner.size / AREA_REFERENCE
    areas = np.bincount(winner[winner >= 0], minlength=1)
    segment_of = np.zeros(max(len(areas), 1) + 1, dtype=np.uint32)  # the last entry serves winner == -1
    train_id_of, score_of = {}, {}
    for k, train_id, score in claimed:
        if k < len(areas) and areas[k] > 0 and areas[k] >= settings.min_thing_area * unit:
            segment_id = taxonomy.segment_id(train_id, len(train_id_of) + 1)
            segment_of[k], train_id_of[segment_id], score_of[segment_id] = segment_id, train_id, score
    segment_ids = segment_of[winner]

    stuff = np.where((segment_ids == 0) & ~taxonomy.is_thing[semantic_argmax], semantic_argmax, taxonomy.num_classes)
    stuff_areas = np.bincount(stuff.ravel(), minlength=taxonomy.num_classes + 1)
    is_kept = (stuff_areas > 0) & (stuff_areas >= settings.min_stuff_area * unit)
    is_kept[-1] = False
    stuff_segment_of = np.zeros(taxonomy.num_classes + 1, dtype=np.uint32)
    for train_id in np.flatnonzero(is_kept).tolist():
        stuff_segment_of[train_id] = taxonomy.segment_id(train_id)
        train_id_of[taxonomy.segment_id(train_id)] = train_id
    segment_ids = np.where(segment_ids == 0, stuff_segment_of[stuff], segment_ids)

    segments = describe_segments(segment_ids, lambda s: int(taxonomy.dataset_ids[train_id_of[s]]))
    scored = tuple(Segment(s.segment_id, s.category_id, s.area, s.bbox, s.is_crowd, score_of.get(s.segment_id)) for s in segments)
    return PanopticMap(segment_ids, scored)
