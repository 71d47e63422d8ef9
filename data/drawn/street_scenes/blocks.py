"""Where the fixed things of a street stand: skyline, houses, barriers, trees, lamps, signs."""

import numpy as np

from data.drawn.street_scenes import surroundings
from data.drawn.street_scenes.drawing import CIRCLE, random_color, rectangle
from data.drawn.street_scenes.layout import SKYLINE_DEPTH, Layout


def add_surroundings(layout: Layout) -> None:
    """Everything but traffic."""
    _add_skyline(layout)
    for side in (-1, 1):
        _add_blocks(layout, side)
        _add_furniture(layout, side)


def _add_skyline(layout: Layout) -> None:
    """Two far layers over the whole width, so that the road ends before something."""
    rng = layout.rng
    for depth in (SKYLINE_DEPTH + 1, SKYLINE_DEPTH):
        label = "building" if rng.random() < 0.45 else "vegetation"
        tops = rng.uniform(0.006, 0.05, int(rng.integers(14, 40)))
        color = (
            random_color(rng, (0, 1), (0, 0.25), (0.35, 0.7))
            if label == "building"
            else random_color(rng, (0.2, 0.36), (0.2, 0.5), (0.2, 0.4))
        )
        layout.add(0.0, depth, surroundings.paint_skyline, tops, color, label)


def _add_blocks(layout: Layout, side: int) -> None:
    """Houses, walls, fences, hedges and gaps along one side, from near to far."""
    rng = layout.rng
    edge = layout.sidewalks[side][1 if side > 0 else 0]
    character = (  # house, wall, fence, hedge, open
        (0.62, 0.15, 0.15, 0.03, 0.05),
        (0.28, 0.28, 0.3, 0.08, 0.06),
        (0.06, 0.34, 0.4, 0.1, 0.1),
    )[int(rng.choice(3, p=(0.4, 0.35, 0.25)))]
    z = 2.5 + layout.uniform(0, 4)
    while z < 150:
        kind = ("house", "wall", "fence", "hedge", "open")[int(rng.choice(5, p=character))]
        if z > 50 and kind in ("wall", "fence"):
            kind = "hedge"  # a barrier that far is a line of pixels, and nobody could tell what it is
        length = layout.uniform(9, 24) if kind == "house" else layout.uniform(12, 36)
        gap = next(((a, b) for s, a, b in layout.ground.side_streets if s == side and z < b and z + length > a), None)
        if gap and z >= gap[0] - 4:
            z = gap[1] + 0.5
            continue
        length = min(length, gap[0] - z) if gap else length
        setback = layout.uniform(0.1, 0.5) if layout.chance(0.7) else layout.uniform(0.5, 3.5)
        offset = edge + side * setback
        if kind == "house":
            facade = surroundings.make_facade(rng, length, int(rng.integers(2, 7)))
            _add_house(layout, facade, offset, z, length)
        else:
            _add_barrier(layout, kind, side, edge, z, length)
        z += length + (layout.uniform(1, 5) if layout.chance(0.15) else 0.0)


def _add_house(layout: Layout, facade: surroundings.Facade, offset: float, z: float, length: float) -> None:
    """A house from z on; one that stands back is painted before what is between it and the street."""
    near, far = layout.bend.at(offset, z), layout.bend.at(offset, z + length)
    layout.add(offset, z + length + abs(offset), surroundings.paint_house, facade, near, far, 1 if offset > 0 else -1)


def _add_barrier(layout: Layout, kind: str, side: int, edge: float, z: float, length: float) -> None:
    """A wall, fence or hedge, and what rises behind it: trees, bushes or a house standing back."""
    rng, bend = layout.rng, layout.bend
    if kind != "open":
        color, top = {
            "wall": (random_color(rng, (0.08, 0.14), (0.05, 0.3), (0.55, 0.8)), layout.uniform(2.4, 4.0)),
            "fence": (random_color(rng, (0.3, 0.65), (0, 0.4), (0.1, 0.28)), layout.uniform(2.2, 3.2)),
            "hedge": (random_color(rng, (0.2, 0.35), (0.3, 0.6), (0.18, 0.4)), layout.uniform(0.8, 1.9)),
        }[kind]
        near, far = bend.at(edge + side * 0.2, z), bend.at(edge + side * 0.2, z + length)
        layout.add(near[0], z + length, surroundings.paint_barrier, kind, color, top, near, far)
    if layout.chance(0.3):
        facade = surroundings.make_facade(rng, length, int(rng.integers(1, 5)))
        offset = edge + side * layout.uniform(6, 12)
        _add_house(layout, facade, offset, z, length)
    for _ in range(int(rng.integers(0, 4))):
        offset = edge + side * layout.uniform(1.5, 7)
        _add_tree(layout, offset, z + layout.uniform(0.2, 1) * length, layout.chance(0.35), z + length + abs(offset))


def _add_tree(layout: Layout, offset: float, z: float, is_bush: bool = False, depth: float | None = None) -> None:
    """A crown of a dozen blobs, dark below, bright above; `depth` as in Layout.put."""
    rng = layout.rng
    size = layout.uniform(0.5, 1.1) if is_bush else layout.uniform(1.4, 3.0)
    middle = 0.7 * size if is_bush else 2.0 + 1.2 * size + layout.uniform(0, 1)
    count = 8 if is_bush else 18
    blobs = np.empty((count, 4))
    blobs[:, 0] = rng.uniform(-1, 1, count) * size * 0.75
    blobs[:, 1] = middle + np.sort(rng.uniform(-0.75, 0.9, count)) * size
    blobs[:, 2] = rng.uniform(0.3, 0.6, count) * size
    blobs[:, 3] = 0.65 + 0.5 * np.arange(count) / count + rng.uniform(-0.12, 0.12, count)
    color = random_color(rng, (0.14, 0.36), (0.3, 0.65), (0.24, 0.5))
    trunk = 0.0 if is_bush else layout.uniform(0.2, 0.45)
    layout.put(offset, z, surroundings.paint_tree, blobs, color, trunk, depth=depth)


def _add_furniture(layout: Layout, side: int) -> None:
    """Street trees, lamps, signs, lights, bollards, bins along one kerb."""
    rng = layout.rng
    inner, outer = sorted(layout.sidewalks[side], key=abs)
    kerb = inner + side * 0.4
    if layout.chance(0.45):
        step = layout.uniform(7, 14)
        for k in range(int(rng.integers(2, 8))):
            z = 9 + layout.uniform(0, 3) + k * step
            if not layout.is_side_street(side, z):
                _add_tree(layout, kerb, z)
    step = layout.uniform(12, 26)
    grey = random_color(rng, (0.1, 0.6), (0, 0.15), (0.25, 0.65))
    height, arm = layout.uniform(5, 8.5), -side * layout.uniform(0.8, 2.2)
    for k in range(6):
        z = 6 + layout.uniform(0, 4) + k * step
        if not layout.is_side_street(side, z):
            layout.put(kerb, z, surroundings.paint_pole, height, 0.3, grey, arm)
    for _ in range(int(rng.integers(1, 4))):
        _add_sign(layout, kerb, layout.depth(kerb, 7, 45))
    crossing = layout.ground.side_streets[0][1] if layout.ground.side_streets else layout.depth(kerb, 12, 50)
    if layout.chance(0.7 if layout.ground.side_streets else 0.2):
        _add_traffic_light(layout, kerb, crossing - 2.0, side)
    if layout.chance(0.25):
        start, gap = layout.depth(kerb, 7, 25), layout.uniform(1.2, 2.2)
        for k in range(int(rng.integers(2, 7))):
            layout.put(kerb, start + k * gap, surroundings.paint_pole, 0.95, 0.2, grey)
    if layout.chance(0.15):
        width, height = layout.uniform(0.3, 0.5), layout.uniform(2.0, 5.0)
        layout.put(kerb, layout.depth(kerb, 8, 40), surroundings.paint_pole, height, width, grey, 0.0, "polegroup")
    if layout.chance(0.4):
        z = layout.depth(outer, 7, 40)
        label = "dynamic" if layout.chance(0.35) else "static"
        box = rectangle(-0.3, -0.5, layout.uniform(0.1, 0.6), layout.uniform(0.3, 0.9))
        color = random_color(rng, (0, 1), (0, 0.8), (0.15, 0.8))
        layout.put(outer - side * 0.6, z, surroundings.paint_plate, (0.0, 0.5), box, [(1.0, color)], label)


def _add_sign(layout: Layout, offset: float, z: float) -> None:
    """A disc, triangle or plate on its pole."""
    rng = layout.rng
    kind = int(rng.integers(5))
    shape = (
        CIRCLE * 0.36,
        np.array(((-0.42, -0.3), (0.0, 0.44), (0.42, -0.3))),
        rectangle(-0.32, -0.32, 0.32, 0.32),
        np.array(((0, 0.46), (0.46, 0), (0, -0.46), (-0.46, 0))),
        rectangle(-0.75, -0.3, 0.75, 0.3),
    )[kind]
    layers = (
        [(1.0, (196, 24, 30)), (0.7, (235, 235, 232))] if layout.chance(0.6) else [(1.0, (24, 70, 168)), (0.5, (235, 235, 235))],
        [(1.0, (196, 24, 30)), (0.62, (235, 235, 232))],
        [(1.0, (24, 70, 168)), (0.55, (235, 235, 235))],
        [(1.0, (235, 235, 232)), (0.7, (240, 190, 20))],
        [(1.0, (240, 200, 30)), (0.8, (40, 40, 40))] if layout.chance(0.5) else [(1.0, (235, 235, 235)), (0.75, (24, 70, 168))],
    )[kind]
    up = layout.uniform(2.2, 2.9)
    layout.put(offset, z + 0.02, surroundings.paint_pole, up + 0.3, 0.15, (128, 130, 132))
    layout.put(offset, z, surroundings.paint_plate, (0.0, up), shape, layers, "traffic sign")


def _add_traffic_light(layout: Layout, offset: float, z: float, side: int) -> None:
    """A dark box with one of three lamps lit, on its pole, sometimes also over the road."""
    lit = int(layout.rng.integers(3))
    box = rectangle(-0.36, -0.9, 0.36, 0.9)
    colors = ((230, 40, 30), (240, 170, 30), (40, 220, 120))
    lamps = [(CIRCLE * 0.24 + (0.0, 0.55 - 0.55 * k), colors[k] if k == lit else (58, 50, 46)) for k in range(3)]
    over = layout.chance(0.4)
    layout.put(offset, z + 0.02, surroundings.paint_pole, 5.4 if over else 3.0, 0.22, (88, 92, 94), -side * 3.4 if over else 0.0)
    layout.put(offset, z, surroundings.paint_plate, (0.0, 2.6), box, [(1.0, (26, 30, 30)), *lamps], "traffic light")
    if over:
        layout.put(offset, z, surroundings.paint_plate, (-side * 3.3, 5.3), box, [(1.0, (26, 30, 30)), *lamps], "traffic light")
