"""What a check of labels finds: one problem, and a log of many."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from data.label_checks.kinds import BROKEN, KINDS
from data.panoptic_file import ImageId
from runtime.files import shorten

Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels."""
MOST_KEPT = 1000
"""Findings of one kind that FindingLog keeps; all are counted."""


@dataclass(frozen=True)
class Finding:
    """One problem.

    Args:
        kind: one of KINDS.
        image_id: None where it is about a file or a split as a whole.
        side: whose labels they are.
        segment_ids: those concerned, as the labels number them; none where it is about the image.
        box: where it is, None where that is not known.
        text: what was found, in words; begins with the segment where there is one.
        weight: for ranking within the kind, the largest first; only the order of the numbers means something.
        numbers: what was measured, by name.
    """

    kind: str
    image_id: ImageId | None
    side: Literal["truth", "prediction"] = "truth"
    segment_ids: tuple[int, ...] = ()
    box: Box | None = None
    text: str = ""
    weight: float = 1.0
    numbers: Mapping[str, float] = field(default_factory=dict)

    def in_words(self) -> str:
        """`image: segment 24003 (car): what`, in one line."""
        place = self.text if self.image_id is None else f"{shorten(self.image_id, 80)}: {self.text}"
        return f"prediction, {place}" if self.side == "prediction" else place


class FindingLog:
    """Counts all findings and keeps the heaviest MOST_KEPT of each kind, so that memory does not grow with their number."""

    def __init__(self, most_kept: int = MOST_KEPT):
        self.counts: Counter[str] = Counter()
        self.images: dict[str, int] = {}
        """Kind -> how many images have it."""
        self._most_kept, self._num = most_kept, 0
        self._kept: dict[str, list[tuple[float, int, Finding]]] = {}
        self._last: dict[str, ImageId | None] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Count findings; those of one image should come one after the other, for `images` to be right."""
        for finding in findings:
            kept = self._kept.setdefault(finding.kind, [])
            self.counts[finding.kind] += 1
            key = (finding.side, finding.image_id)
            if finding.image_id is not None and self._last.get(finding.kind) != key:
                self.images[finding.kind] = self.images.get(finding.kind, 0) + 1
                self._last[finding.kind] = key
            self._num += 1
            entry = (finding.weight, -self._num, finding)
            (heapq.heappush if len(kept) < self._most_kept else heapq.heappushpop)(kept, entry)

    def kinds(self) -> list[str]:
        """Those that were found, in the order of KINDS."""
        return [name for name in KINDS if self.counts[name]]

    def of(self, kind: str) -> list[Finding]:
        """What was kept of a kind, the heaviest first, then in the order in which it was found."""
        return [finding for _, _, finding in sorted(self._kept.get(kind, []), key=lambda e: (-e[0], -e[1]))]

    @property
    def num_broken(self) -> int:
        """Findings of the level `broken`."""
        return sum(count for name, count in self.counts.items() if KINDS[name].level == BROKEN)

    def to_json(self) -> list[dict]:
        """One entry a kind that was found, with what was kept of it."""
        return [self._kind_to_json(name) for name in self.kinds()]

    def _kind_to_json(self, name: str) -> dict:
        kind, kept = KINDS[name], self.of(name)
        entry = {"kind": name, "level": kind.level, "count": self.counts[name], "images": self.images.get(name, 0)}
        entry |= {"definition": kind.definition, "effect": kind.effect, "remedy": kind.remedy}
        entry["left_out"] = self.counts[name] - len(kept)
        return entry | {"findings": [_to_json(finding) for finding in kept]}


def _to_json(finding: Finding) -> dict:
    entry = {"image": finding.image_id, "side": finding.side, "segments": list(finding.segment_ids)}
    entry |= {"box": None if finding.box is None else list(finding.box), "text": finding.text}
    return entry | {"weight": finding.weight, "numbers": dict(finding.numbers)}


def name_segment(segment_id: int, class_name: str | None) -> str:
    """`segment 24003 (car)`."""
    return f"segment {segment_id}" + (f" ({shorten(class_name, 40)})" if class_name else "")


def list_ids(ids: Sequence[int]) -> str:
    """A few of them, for a text."""
    shown = ", ".join(str(k) for k in ids[:6])
    return shown if len(ids) <= 6 else f"{shown} and {len(ids) - 6} more"


def count_of(number: int, noun: str) -> str:
    """`1 pixel`, `2 pixels`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
