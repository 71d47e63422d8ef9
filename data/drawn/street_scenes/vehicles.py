"""Vehicles of a street: side views drawn out to a width, seen in perspective from any direction."""

import math
from dataclasses import dataclass

import numpy as np

from data.drawn.street_scenes.drawing import Canvas, Color, disc, random_color, rectangle

Parts = tuple[tuple[np.ndarray, Color], ...]
DARK, TYRE, GLASS, CHROME, PLATE = (36, 36, 40), (24, 24, 26), (52, 62, 74), (150, 152, 156), (228, 228, 220)
RED_LIGHT, HEADLIGHT, AMBER = (190, 28, 26), (235, 235, 215), (226, 140, 30)


@dataclass(frozen=True)
class Body:
    """A side view drawn out to a width, as a cookie cutter would.

    profile: (N, 2) of (along, up) in metres, along forward, clockwise from the rear bottom.
    side: parts in (along, up) on the side that one sees; front, rear: parts in (across, up).
    """

    profile: np.ndarray
    width: float
    color: Color
    glass: tuple[int, ...] = ()
    """Edges of the profile that are windows."""
    side: Parts = ()
    front: Parts = ()
    rear: Parts = ()
    belt: float = 9.0
    """Above this height, in metres, the sides lean in by a quarter of their height."""

    def half_width(self, up: np.ndarray) -> np.ndarray:
        """Half of the body's width at heights `up`, all in metres: it narrows above the belt line."""
        return self.width / 2 - 0.27 * np.maximum(up - self.belt, 0)


@dataclass(frozen=True)
class Vehicle:
    """label: a class name, or empty to leave the outline open; wheels: (along, radius) of each axle."""

    label: str
    bodies: tuple[Body, ...]
    length: float
    wheels: tuple[tuple[float, float], ...] = ()


class Pose:
    """A vehicle at (x, z) whose nose points `yaw` radians right of straight ahead, and its faces painted so far."""

    def __init__(self, canvas: Canvas, place: tuple[float, float], yaw: float):
        self.canvas, self.light = canvas, canvas.light
        self.x, self.z = place
        self.sine, self.cosine = round(math.sin(yaw), 6), round(math.cos(yaw), 6)
        self.depth = math.sqrt(self.x * self.x + self.z * self.z)
        self.eye = (-self.x * self.sine - self.z * self.cosine, -self.x * self.cosine + self.z * self.sine, canvas.camera.mount)
        """(along, across, up) of the camera."""
        self._points: list[np.ndarray] = []
        self._parts: list[tuple[int, Color, bool]] = []

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) of (along, across, up) in metres -> (N, 2) canvas pixels."""
        along, across, up = points[:, 0], points[:, 1], points[:, 2]
        x = self.x + along * self.sine + across * self.cosine
        return self.canvas.camera.project(x, up, self.z + along * self.cosine - across * self.sine)

    def brightness(self, along: float, across: float) -> float:
        """Of an upright face with this outward normal."""
        return self.light.on_face(along * self.sine + across * self.cosine, along * self.cosine - across * self.sine)

    def add(self, along, across, up, color: Color, brightness: float, is_outline: bool = False) -> None:
        """Queue a face; each coordinate is (N,) metres or one number."""
        points = np.empty((np.size(up), 3))
        points[:, 0], points[:, 1], points[:, 2] = along, across, up
        self._points.append(points)
        self._parts.append((len(points), self.light.shade(color, self.depth, brightness), is_outline))

    def paint(self) -> None:
        """Paint all queued faces at once."""
        self.canvas.fill_all(self.project(np.concatenate(self._points)), self._parts)


def paint_vehicle(canvas: Canvas, place: tuple[float, float], vehicle: Vehicle, yaw: float) -> None:
    """Paint a vehicle with its shadow on the road."""
    if not canvas.is_in_sight(*place, vehicle.length):
        return
    pose = Pose(canvas, place, yaw)
    half = vehicle.length / 2 + 0.15
    width = max(body.width for body in vehicle.bodies) / 2
    footprint = np.array([(a, w, 0.0) for a, w in ((-half, -width), (half, -width), (half, width), (-half, width))])
    canvas.darken(pose.project(footprint * (1.0, 1.12, 1.0)), 0.55)
    canvas.darken(pose.project(footprint * (0.97, 0.95, 1.0)), 0.4)
    _add_wheels_below(pose, vehicle)
    for body in sorted(vehicle.bodies, key=lambda body: -abs(float(body.profile[:, 0].mean()) - pose.eye[0])):
        _add_shell(pose, body)
        _add_ends(pose, body)
        _add_side(pose, body, vehicle.wheels if body is vehicle.bodies[0] else ())
    pose.paint()
    if vehicle.label:
        canvas.label(vehicle.label, is_instance=True)


def _add_wheels_below(pose: Pose, vehicle: Vehicle) -> None:
    """The far wheels, and the tyres as seen from an end, peep out below the body."""
    half = vehicle.bodies[0].width / 2
    for along, radius in vehicle.wheels:
        tyre = disc(along, radius, radius)
        pose.add(tyre[:, 0], -math.copysign(0.8 * half, pose.eye[1]), tyre[:, 1], TYRE, 1.0, True)
    if vehicle.wheels:
        along = vehicle.wheels[0][0] - 0.3 if pose.eye[0] < 0 else vehicle.wheels[-1][0] + 0.3
        for across in (-half + 0.03, half - 0.25):
            tyre = rectangle(across, 0.0, across + 0.22, 0.5)
            pose.add(along, tyre[:, 0], tyre[:, 1], TYRE, 1.0, True)


def _add_shell(pose: Pose, body: Body) -> None:
    """The band that joins both sides of a body, edge by edge, where it is turned to the camera."""
    for k in range(len(body.profile)):
        (a, low), (b, high) = body.profile[k].tolist(), body.profile[(k + 1) % len(body.profile)].tolist()
        size = math.sqrt((high - low) ** 2 + (b - a) ** 2)
        backward, upward = (high - low) / size, (b - a) / size
        if -backward * (pose.eye[0] - a) + upward * (pose.eye[2] - low) <= 0:
            continue
        brightness = pose.brightness(math.copysign(1.0, -backward), 0.0) * (1 - abs(upward)) + max(0.3, upward) * abs(upward)
        up = np.array((low, high, high, low))
        along, across = np.array((a, b, b, a)), body.half_width(up) * (-1, -1, 1, 1)
        pose.add(along, across, up, body.color, brightness, True)
        if k in body.glass:
            inner = along.mean() + (along - along.mean()) * 0.86
            pose.add(inner, across * 0.86, up.mean() + (up - up.mean()) * 0.82, GLASS, 0.7 + 0.6 * brightness)


def _add_ends(pose: Pose, body: Body) -> None:
    """Lamps, plates and grilles of the rear or the front."""
    first, last = float(body.profile[:, 0].min()), float(body.profile[:, 0].max())
    if not first <= pose.eye[0] <= last:
        parts, along, outward = (body.rear, first, -1.0) if pose.eye[0] < first else (body.front, last, 1.0)
        for points, color in parts:
            pose.add(along, points[:, 0], points[:, 1], color, pose.brightness(outward, 0.0))


def _add_side(pose: Pose, body: Body, wheels: tuple) -> None:
    """The side turned to the camera with its windows, doors and wheels."""
    if abs(pose.eye[1]) <= body.width / 2:
        return
    toward = math.copysign(1.0, pose.eye[1])
    brightness = pose.brightness(0.0, toward)
    for k, (points, color) in enumerate(((body.profile, body.color), *body.side)):
        pose.add(points[:, 0], toward * body.half_width(points[:, 1]), points[:, 1], color, brightness, k == 0)
    for along, radius in wheels:
        for size, color in ((1.0, TYRE), (0.55, CHROME)):
            wheel = disc(along, radius, radius * size)
            pose.add(wheel[:, 0], toward * body.width / 2, wheel[:, 1], color, brightness, size == 1.0)


def make_car(rng: np.random.Generator) -> Vehicle:
    """A hatchback, saloon, estate or van in any car colour."""
    grey = rng.random() < 0.5
    color = random_color(rng, (0, 1), (0, 0.06) if grey else (0.35, 0.9), (0.12, 0.92) if grey else (0.25, 0.85))
    kind = int(rng.integers(4))
    tail, roof, front = ((-1.95, -1.45, 0.35), (-1.35, -0.65, 0.45), (-2.1, -1.9, 0.4), (-2.15, -2.05, 0.9))[kind]
    height = (1.48, 1.42, 1.55, 1.9)[kind] * float(rng.uniform(0.95, 1.06))
    belt = 0.6 * height
    windshield = front + (0.85 if kind < 3 else 0.65)
    profile = np.array(
        (
            (-2.1, 0.28),
            (-2.15, belt - 0.05),
            (tail, belt),
            (roof, height - 0.02),
            (front, height),
            (windshield, belt + 0.04),
            (2.0, belt - 0.18),
            (2.12, 0.3),
        )
    )
    stretch = float(rng.uniform(0.9, 1.08))
    profile = profile * (stretch, 1.0)
    scale = np.array((stretch, 1.0))
    low, high = belt + 0.04, height - 0.1
    side = (
        (np.array(((tail + 0.3, low), (roof + 0.12, high), (-0.45, high), (-0.45, low))) * scale, GLASS),
        (np.array(((-0.35, low), (-0.35, high), (front, high), (windshield - 0.2, low))) * scale, GLASS),
        (rectangle(-0.41, 0.4, -0.37, belt) * scale, DARK),
        (rectangle(-2.1, belt - 0.28, -1.92, belt - 0.08) * scale, RED_LIGHT),
        (rectangle(1.85, belt - 0.35, 2.05, belt - 0.22) * scale, HEADLIGHT),
    )
    width = float(rng.uniform(1.7, 1.88))
    edge = width / 2
    rear = (
        (rectangle(-edge, 0.28, edge, 0.46), DARK),
        (rectangle(-edge + 0.05, belt - 0.3, -edge + 0.35, belt - 0.06), RED_LIGHT),
        (rectangle(edge - 0.35, belt - 0.3, edge - 0.05, belt - 0.06), RED_LIGHT),
        (rectangle(-0.27, 0.5, 0.27, 0.63), PLATE),
    )
    nose = (
        (rectangle(-edge, 0.28, edge, 0.4), DARK),
        (rectangle(-0.5, 0.42, 0.5, 0.6), DARK),
        (rectangle(-edge + 0.06, belt - 0.42, -edge + 0.42, belt - 0.22), HEADLIGHT),
        (rectangle(edge - 0.42, belt - 0.42, edge - 0.06, belt - 0.22), HEADLIGHT),
        (rectangle(-0.26, 0.36, 0.26, 0.48), PLATE),
    )
    body = Body(profile, width, color, (2, 4), side, nose, rear, belt)
    return Vehicle("car", (body,), 4.25 * stretch, ((-1.3 * stretch, 0.33), (1.28 * stretch, 0.33)))


def make_truck(rng: np.random.Generator) -> Vehicle:
    """A cab before a cargo box or a tarpaulin."""
    cab_color = random_color(rng, (0, 1), (0, 0.85), (0.35, 0.9))
    cargo_color = random_color(rng, (0, 1), (0, 0.6), (0.4, 0.95))
    length, top = float(rng.uniform(4.2, 6.5)), float(rng.uniform(2.9, 3.7))
    start = -length / 2 - 0.9
    end = start + length
    bands = tuple((rectangle(at, 1.1, at + 0.06, top - 0.1), DARK) for at in np.linspace(start, end, 6)[1:-1])
    logo = random_color(rng, (0, 1), (0.4, 0.9), (0.3, 0.9))
    stripe = ((rectangle(start + length * 0.25, 1.8, start + length * 0.75, 2.5), logo),)
    doors = (
        (rectangle(-1.2, 0.95, 1.2, 1.05), DARK),
        (rectangle(-0.03, 1.05, 0.03, top - 0.08), DARK),
        (rectangle(-1.2, 0.6, -0.8, 0.8), RED_LIGHT),
        (rectangle(0.8, 0.6, 1.2, 0.8), RED_LIGHT),
    )
    cargo = Body(rectangle(start, 0.95, end, top), 2.45, cargo_color, (), bands if rng.random() < 0.5 else stripe, (), doors)
    chassis = Body(rectangle(start, 0.45, end + 1.9, 0.95), 2.2, (52, 52, 56), (), (), (), doors[2:])
    roof = float(rng.uniform(2.5, 3.0))
    cab_profile = np.array(((end + 0.15, 0.45), (end + 0.15, roof - 0.1), (end + 1.5, roof), (end + 1.95, 1.5), (end + 2.0, 0.4)))
    cab_side = (
        (np.array(((end + 0.55, 1.55), (end + 0.55, roof - 0.25), (end + 1.45, roof - 0.25), (end + 1.75, 1.55))), GLASS),
        (rectangle(end + 0.4, 0.5, end + 0.45, roof - 0.2), DARK),
    )
    cab_front = (
        (rectangle(-0.9, 0.85, 0.9, 1.35), DARK),
        (rectangle(-1.1, 0.5, -0.7, 0.75), HEADLIGHT),
        (rectangle(0.7, 0.5, 1.1, 0.75), HEADLIGHT),
    )
    cab = Body(cab_profile, 2.35, cab_color, (2,), cab_side, cab_front)
    wheels = ((start + 1.1, 0.48), (start + 2.2, 0.48), (end + 1.2, 0.48))
    return Vehicle("truck", (chassis, cargo, cab), length + 2.0, wheels)


def _window_band(start: float, end: float, bottom: float, top: float, pane: float) -> Parts:
    """A row of panes with thin posts."""
    count = max(1, round((end - start) / pane))
    step = (end - start) / count
    return tuple((rectangle(start + k * step + 0.06, bottom, start + (k + 1) * step - 0.06, top), GLASS) for k in range(count))


def make_bus(rng: np.random.Generator) -> Vehicle:
    """A city bus with a window band, doors and a lit destination."""
    color = random_color(rng, (0, 1), (0.1, 0.9), (0.4, 0.92))
    length, top = float(rng.uniform(9, 12)), float(rng.uniform(2.95, 3.2))
    half = length / 2
    doors = tuple((rectangle(at, 0.4, at + 1.2, 2.45), (46, 52, 60)) for at in (half - 1.9, -0.6))
    stripe = ((rectangle(-half, 0.75, half, 0.95), random_color(rng, (0, 1), (0.3, 0.9), (0.3, 0.95))),)
    side = _window_band(-half + 0.3, half - 0.2, 1.3, 2.5, 1.5) + stripe + doors
    ends = (
        (rectangle(-1.1, 1.15, 1.1, 2.45), GLASS),
        (rectangle(-0.9, 2.58, 0.9, 2.88), (30, 28, 24)),
        (rectangle(-0.7, 2.64, 0.6, 2.82), AMBER),
    )
    head, tail = (tuple((rectangle(at, 0.55, at + 0.35, 0.8), lamp) for at in (-1.15, 0.8)) for lamp in (HEADLIGHT, RED_LIGHT))
    rear = ((rectangle(-0.95, 1.5, 0.95, 2.4), GLASS), (rectangle(-0.8, 0.7, 0.8, 1.3), DARK), *tail)
    body = Body(rectangle(-half, 0.3, half, top), 2.5, color, (), side, ends + head, rear)
    return Vehicle("bus", (body,), length, ((-half + 2.6, 0.48), (half - 2.7, 0.48)))


def make_train(rng: np.random.Generator) -> Vehicle:
    """A tram: long, low, no wheels to be seen, one window band, bellows between its cars, a pantograph."""
    color = random_color(rng, (0, 1), (0.1, 0.85), (0.4, 0.92))
    skirt = random_color(rng, (0, 1), (0, 0.8), (0.2, 0.9))
    count, car, top = int(rng.integers(2, 5)), float(rng.uniform(6.0, 8.0)), 3.35
    half = count * car / 2
    joints = [-half + k * car for k in range(1, count)]
    middles = [-half + (k + 0.5) * car for k in range(count)]
    bellows = tuple((rectangle(at - 0.35, 0.2, at + 0.35, top), DARK) for at in joints)
    doors = tuple((rectangle(at - 0.7, 0.35, at + 0.7, 2.6), (50, 56, 62)) for at in middles)
    band = ((rectangle(-half, 1.25, half, 2.6), (40, 46, 54)),)
    panes = _window_band(-half + 0.4, half - 0.4, 1.35, 2.5, 1.7)
    side = ((rectangle(-half, 0.12, half, 0.8), skirt), *band, *panes, *doors, *bellows)
    end = (
        (rectangle(-1.15, 0.12, 1.15, 0.8), skirt),
        (np.array(((-1.05, 1.2), (-0.95, 2.6), (0.95, 2.6), (1.05, 1.2))), GLASS),
        (rectangle(-0.7, 2.75, 0.7, 3.05), AMBER),
    )
    front = (*end, (disc(-0.8, 0.95, 0.14), HEADLIGHT), (disc(0.8, 0.95, 0.14), HEADLIGHT))
    rear = (*end, (disc(-0.8, 0.95, 0.14), RED_LIGHT), (disc(0.8, 0.95, 0.14), RED_LIGHT))
    nose = 0.55
    profile = np.array(((-half, 0.12), (-half, 1.2), (-half + nose, top), (half - nose, top), (half, 1.2), (half, 0.12)))
    gear = Body(rectangle(-1.2, top, 1.2, top + 0.35), 1.2, (90, 90, 94))
    return Vehicle("train", (Body(profile, 2.4, color, (), side, front, rear), gear), half * 2)


def make_caravan(rng: np.random.Generator, label: str = "caravan") -> Vehicle:
    """A caravan, or a trailer's low box: classes that are not scored."""
    top = 2.5 if label == "caravan" else 1.5
    color = random_color(rng, (0, 1), (0, 0.12), (0.6, 0.95))
    side = ((rectangle(-1.4, 1.3, 0.4, 2.0), GLASS),) if label == "caravan" else ()
    body = Body(rectangle(-2.0, 0.4, 2.0, top), 2.1, color, (), side, (), ((rectangle(-0.8, 0.6, 0.8, 0.8), RED_LIGHT),))
    return Vehicle(label, (body,), 4.0, ((0.0, 0.33),))
