"""The plan of a drawn street in metres: lanes, strips, side streets, and the list of what stands where."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data.drawn.street_scenes.drawing import Canvas, Color, random_color
from data.drawn.street_scenes.surroundings import Bend, Ground, Strip

Paint = Callable[[Canvas], None]
SKYLINE_DEPTH = 500.0
"""Metres; what is farther is painted before the ground."""


@dataclass
class Lane:
    """A lane or a row of parking bays: its offset, where its cars point (0 away, pi towards us), what is taken."""

    offset: float
    yaw: float
    is_parking: bool
    taken: list[tuple[float, float]] = field(default_factory=list)

    def take(self, start: float, length: float) -> bool:
        """Reserve `length` metres from `start` on, if they are free."""
        end = start + length
        if any(start < other_end and end > other_start for other_start, other_end in self.taken):
            return False
        self.taken.append((start, end))
        return True


@dataclass(frozen=True)
class Item:
    """Something to paint: its middle's offset and depth, half its length along the street, all in metres."""

    offset: float
    depth: float
    reach: float
    paint: Paint


@dataclass
class Layout:
    """A street and all that stands on it."""

    rng: np.random.Generator
    bend: Bend
    ground: Ground
    lanes: list[Lane]
    sidewalks: dict[int, tuple[float, float]]
    """Side (-1 left, 1 right) -> (smallest, largest) offset."""
    half_view: float
    """Metres to the side that are in view, a metre of depth."""
    items: list[Item] = field(default_factory=list)

    def add(self, offset: float, depth: float, paint: Callable, *arguments) -> None:
        """Queue `paint(canvas, *arguments)`."""
        self.items.append(Item(offset, depth, 0.0, lambda canvas: paint(canvas, *arguments)))

    def put(self, offset: float, z: float, paint: Callable, *arguments, reach: float = 0.0, depth: float | None = None) -> None:
        """Queue `paint(canvas, place, *arguments)` for something that stands there.

        Args:
            reach: how far it reaches before and behind that place. depth: in place of z, for what stands behind other things.
        """
        place = self.bend.at(offset, z)
        self.items.append(Item(offset, z if depth is None else depth, reach, lambda canvas: paint(canvas, place, *arguments)))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        """A random number between the two."""
        return float(self.rng.uniform(low, high))

    def depth(self, offset: float, near: float, far: float) -> float:
        """A random depth at which the offset is in view, nearer ones more often; every eighth far off, where things are tiny."""
        near = max(near, (abs(offset) + 0.3) / self.half_view)
        far *= 1.5 if self.rng.random() < 0.125 else 0.45
        return near + max(far - near, 4.0) * float(self.rng.random()) ** 2

    def is_side_street(self, side: int, z: float) -> bool:
        """Whether a side street leaves there; side is -1 or 1, z the depth in metres."""
        return any(s == side and start < z < end for s, start, end in self.ground.side_streets)


def keep_clear(layout: Layout) -> None:
    """Nobody parks across a side street, and traffic mostly stops before the zebra crossing."""
    ground, waits = layout.ground, layout.chance(0.7)
    for lane in layout.lanes:
        for side, start, end in ground.side_streets:
            if lane.is_parking and lane.offset * side > 0:
                lane.take(start - 0.5, end - start + 1)
        if ground.zebra is not None and waits:
            lane.take(ground.zebra - 0.5, 4.0)


def plan_ground(rng: np.random.Generator) -> tuple[Ground, list[Lane], dict[int, tuple[float, float]]]:
    """Lanes, parking bays, verges, sidewalks and yards across the street, then side streets and shadows along it."""
    lane = float(rng.uniform(3.1, 3.6))
    ahead, oncoming = 1 + int(rng.random() < 0.3), 1 + int(rng.random() < 0.35)
    has_rails = rng.random() < 0.46
    asphalt = random_color(rng, (0.05, 0.7), (0, 0.06), (0.24, 0.38))
    left, right = -lane / 2 - oncoming * lane, lane / 2 + (ahead - 1) * lane
    lanes = [Lane(k * lane, 0.0, False) for k in range(ahead)] + [Lane(-k * lane, np.pi, False) for k in range(1, oncoming + 1)]
    middle = [Strip("road", right, asphalt)]
    if has_rails:
        track = left - 3.2
        bed = random_color(rng, (0.05, 0.12), (0.05, 0.3), (0.3, 0.5)) if rng.random() < 0.5 else asphalt
        rails = Strip("rail track", left - 0.4, bed, "rails")
        middle = [Strip("road", left - 2.8, asphalt), rails, Strip("road", right, asphalt)]
        left = track
    edges, strips, sidewalks = {}, {}, {}
    for side, edge in ((-1, left), (1, right)):
        strips[side], sidewalks[side], bay = _plan_side(rng, side, edge, asphalt)
        edges[side] = edge
        if bay is not None:
            lanes.append(Lane(bay, 0.0 if side > 0 else np.pi, True))
    yard = strips[1][-1]
    all_strips = (*strips[-1], *middle, *strips[1][:-1], Strip(yard.label, 999.0, yard.color, yard.pattern))
    dashed = tuple((k + 0.5) * lane for k in range(ahead - 1)) + tuple(-(k + 0.5) * lane for k in range(1, oncoming))
    crossing = float(rng.uniform(14, 40)) if rng.random() < 0.5 else None
    sides = () if crossing is None else ((-1,), (1,), (-1, 1))[int(rng.integers(3))]
    width = float(rng.uniform(6, 10))
    ground = Ground(
        strips=all_strips,
        road=(left, right),
        dashed=(*dashed, -lane / 2) if rng.random() < 0.7 else dashed,
        solid=(edges[-1] + 0.2, right - 0.2) if rng.random() < 0.5 else (),
        side_streets=tuple((side, crossing, crossing + width) for side in sides),
        zebra=crossing - 4.5 if crossing is not None and rng.random() < 0.7 else None,
        shadow=(int(rng.choice((-1, 1))), float(rng.uniform(0.5, 5))) if rng.random() < 0.35 else None,
    )
    return ground, lanes, sidewalks


def _plan_side(rng: np.random.Generator, side: int, edge: float, asphalt: Color) -> tuple[list[Strip], tuple, float | None]:
    """One side from the road outwards; strips come in order from left to right."""
    grass = random_color(rng, (0.2, 0.3), (0.4, 0.65), (0.35, 0.55))
    paving = random_color(rng, (0.02, 0.12), (0.06, 0.25), (0.5, 0.72))
    widths: list[tuple[str, float, Color, str]] = []
    bay = None
    if rng.random() < 0.65:
        bay = edge + side * 1.15
        is_marked = rng.random() < 0.3
        bays = random_color(rng, (0.02, 0.12), (0, 0.2), (0.3, 0.5)) if is_marked else asphalt
        widths.append(("parking" if is_marked else "road", 2.3, bays, "paved" if is_marked else ""))
    if rng.random() < 0.45:
        widths.append(("terrain", float(rng.uniform(1.5, 3.5)), grass, ""))
    start = sum(width for _, width, *_ in widths)
    breadth = float(rng.uniform(3.0, 6.0))
    widths.append(("sidewalk", breadth, paving, "paved"))
    yard = int(rng.choice(4, p=(0.2, 0.55, 0.15, 0.1)))
    widths.append((("terrain", "sidewalk", "ground", "parking")[yard], 999.0, (grass, paving, paving, asphalt)[yard], ""))
    inner, outer = edge + side * start, edge + side * (start + breadth)
    reach, strips = edge, []
    for label, width, color, pattern in widths:
        beyond = reach + side * width
        strips.append(Strip(label, max(reach, beyond), color, pattern))
        reach = beyond
    return strips[::side], (min(inner, outer), max(inner, outer)), bay
