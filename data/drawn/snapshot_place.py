"""The canvas of Snapshots, which keeps a map of segments, and a place on it: a level plane in perspective."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data.drawn.snapshot_objects import make_clutter, make_figure
from data.drawn.street_scenes.drawing import CIRCLE, Canvas, Color
from data.drawn.street_scenes.figures import Figure, paint_figure
from data.drawn.street_scenes.vehicles import make_car, paint_vehicle

Rng = np.random.Generator
CROWD = "group"
VOID = ""
CLASS_OF_PAINT = {"sky": "sky-other-merged", "vegetation": "tree-merged"}
"""What the painters of the streets call it -> the COCO name."""


@dataclass
class SnapshotCanvas(Canvas):
    """A canvas that keeps a map of segments in place of polygons.

    numbers: (H, W) int32, positions in `names`; names: what was labelled so far, stuff once, things each.
    """

    names: list[str] = field(default_factory=lambda: [VOID])

    def __post_init__(self):
        super().__post_init__()
        self.numbers = np.zeros((self.height, self.width), np.int32)

    def label(self, label: str, is_instance: bool = False) -> None:
        """Close the open outline: what was painted since the last call is a new thing, or more of a stuff class."""
        mask, (left, top) = self.close_outline()
        if not mask.any():
            return
        name = CLASS_OF_PAINT.get(label, label)
        is_thing = is_instance and name != VOID
        if is_thing or name not in self.names:
            self.names.append(name)
        number = len(self.names) - 1 if is_thing else self.names.index(name)
        self.numbers[top : top + len(mask), left : left + mask.shape[1]][mask > 0] = number


@dataclass
class Place:
    """A scene under way: things stand on one level plane, at (x, z) metres, and are painted the farthest first."""

    rng: Rng
    canvas: SnapshotCanvas
    items: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    @property
    def horizon(self) -> int:
        """The row of the horizon."""
        return int(self.canvas.camera.horizon)

    def depth_at(self, row: float) -> float:
        """Metres ahead at which the plane is seen in a canvas row, as a part of the canvas's height."""
        camera = self.canvas.camera
        return camera.focal * camera.mount / max(row * len(self.canvas.coverage) - camera.horizon, 1.0)

    def draw_place(self, near: float, far: float) -> tuple[float, float]:
        """(x, z) in sight; as many near as far."""
        z = near * (far / near) ** float(self.rng.random())
        reach = 0.5 * self.canvas.coverage.shape[1] / self.canvas.camera.focal * z
        return float(self.rng.uniform(-0.92, 0.92)) * reach, z

    def add(self, name: str, near: float, far: float, lift: float = 0.0) -> None:
        """A thing somewhere between two depths; `lift` metres above the plane, below where it is negative."""
        x, z = self.draw_place(near, far)
        if name == "car":
            vehicle, yaw = make_car(self.rng), float(self.rng.uniform(-1.6, 1.6))
            self.items.append((z, lambda: paint_vehicle(self.canvas, (x, z), vehicle, yaw)))
            return
        figure = make_clutter(self.rng) if name == VOID else make_figure(self.rng, name)
        if lift:
            figure.parts = [(points + (0, lift), color, outline) for points, color, outline in figure.parts]
        self.items.append((z, lambda: self._stand(figure, (x, z), name, lift == 0)))

    def _stand(self, figure: Figure, place: tuple[float, float], name: str, has_shadow: bool) -> None:
        if has_shadow:
            foot, scale = self.canvas.stand(place)
            half = 1.1 * max(float(np.abs(part[0][:, 0]).max()) for part in figure.parts)
            # A round shadow, flattened as the plane is.
            flat = min(half, 0.35) * self.canvas.camera.mount / place[1]
            self.canvas.darken(foot + scale * CIRCLE * (half, flat), 0.4)
        paint_figure(self.canvas, place, figure, name, has_shadow=False, closes=False)
        self.canvas.label(name, is_instance=not name.endswith(CROWD))

    def add_crowd(self, name: str, near: float, far: float) -> None:
        """Many of a kind so close together that nobody tells them apart: one segment, a crowd."""
        x, z = self.draw_place(near, far)
        figures = [make_figure(self.rng, name) for _ in range(int(self.rng.integers(5, 10)))]
        width = max(float(np.abs(part[0][:, 0]).max()) for part in figures[0].parts)
        steps = self.rng.uniform(-1.4 * width, 1.4 * width, len(figures)).tolist()
        steps = np.cumsum(np.abs(steps)) - np.abs(steps).sum() / 2

        def paint() -> None:
            for step, figure in zip(steps.tolist(), figures, strict=True):
                paint_figure(self.canvas, (x + step, z), figure, name + CROWD, closes=False)
            self.canvas.label(name + CROWD)

        self.items.append((z, paint))

    def paint_items(self) -> None:
        """Paint what was put into the place, the furthest first, and forget it."""
        for _, paint in sorted(self.items, key=lambda item: -item[0]):
            paint()
        self.items.clear()

    def ground(self, top: float) -> tuple[np.ndarray, np.ndarray, slice]:
        """(x, z) in metres of the plane below a row, (h, w) and (h, 1), and its rows; `top` is a part of the canvas's height."""
        camera, (height, width) = self.canvas.camera, self.canvas.coverage.shape
        first = max(int(top * height), self.horizon + 1)
        rows = np.arange(first, height) + 0.5
        z = np.minimum(camera.focal * camera.mount / (rows - camera.horizon), 400.0).astype(np.float32)[:, None]
        columns = (np.arange(width, dtype=np.float32) + 0.5 - np.float32(camera.center))[None]
        return columns * (z / np.float32(camera.focal)), z, slice(first, height)

    def paint_ground(self, label: str, color: Color, gain: np.ndarray, rows: slice, where: np.ndarray | None = None) -> None:
        """Lay stuff on rows of the canvas; `gain` is (h, w), its brightness around 1."""
        shaded = np.clip(np.array(color, np.float32) * gain[..., None], 0, 255).astype(np.uint8)
        where = np.ones(gain.shape, bool) if where is None else where
        self.canvas.paste(rows.start, 0, shaded, where)
        self.canvas.label(label)
