"""Drives: a drawn street as a moving camera sees it, frame by frame, whose things keep their ids.

The street is that of Streets (street_scenes/): the same plan, objects and brushes. Differs: what stands on it is kept as offset
and depth, and is put where it is seen from each frame's place; objects are spread over the whole way; lane marks are solid,
since dashes would stand still.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from data.drawn.drawn_set import DrawnSet
from data.drawn.street_scenes import figures, surroundings, traffic, vehicles
from data.drawn.street_scenes.blocks import add_surroundings
from data.drawn.street_scenes.drawing import Camera, Canvas, random_color
from data.drawn.street_scenes.layout import SKYLINE_DEPTH, Item, Layout, Paint, keep_clear, plan_ground
from data.drawn.street_scenes.scene import City, develop, make_weather, paint_own_car, paint_scene
from data.drawn.street_scenes.surroundings import Bend, Ground
from data.drawn.streets import COUNTED, LABELS, ROUGHNESS, Scene, StreetsSettings, instance_ids_to_label_ids, write_scene
from data.layouts.cityscapes import instance_ids_to_panoptic
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import PanopticMap, write_panoptic_png
from data.taxonomy import CITYSCAPES, MAX_INSTANCES_PER_IMAGE
from runtime.files import InputError

GENERATOR_VERSION = 1
"""Raise it whenever the same settings draw other pixels."""
CITY = "rosenau"
MAX_FRAMES = 100
"""The street is about 150 metres long, of which a frame passes one."""
OWN_SPEED = 1.0
"""Metres a frame: 36 km/h at 10 frames a second, as KITTI has. Of 1 m, as the joints of the paving, so that these lie still."""
SPREAD = 27.0
"""Metres of street over which Streets spreads most of its traffic; a longer way gets as many times more."""
NEAREST = {"vehicle": 1.0, "standing": 1.6, "front": 1.5}
"""Depth in metres of the middle of a vehicle, of a figure, pole or tree, and of a front's near end, below which it is passed."""


@dataclass
class _Object:
    """Something on the street: where it is in the first frame, and how it moves, in metres and metres a frame.

    kind: `placed` (paint gets a place first), or the name of the brush that gets its places in another way.
    """

    kind: str
    offset: float
    z: float
    depth: float
    reach: float
    paint: Paint
    arguments: tuple
    speed: tuple[float, float] = (0.0, 0.0)
    """(to the right, ahead)."""


@dataclass
class _World(Layout):
    """A layout that keeps what stands on it instead of how to paint it from the first place."""

    length: float = 0.0
    lane_speeds: dict[tuple[bool, int], float] = field(default_factory=dict)
    objects: list[_Object] = field(default_factory=list)

    def add(self, offset: float, depth: float, paint: Paint, *arguments) -> None:
        """See Layout."""
        self.objects.append(_Object(paint.__name__, offset, depth, depth, 0.0, paint, arguments))

    def put(self, offset: float, z: float, paint: Paint, *arguments, reach: float = 0.0, depth: float | None = None) -> None:
        """See Layout."""
        found = _Object("placed", offset, z, z if depth is None else depth, reach, paint, arguments)
        if paint is vehicles.paint_vehicle and reach:
            found.speed = (0.0, self._vehicle_speed(offset, arguments[1] - self.bend.yaw(z)))
        elif paint is figures.paint_figure and arguments[1] == "person":
            found.speed = self._walk(offset)
        elif paint is figures.paint_figure and arguments[1] == "rider":  # as fast as the two-wheeler that was put just before
            found.speed = self.objects[-1].speed = (0.0, 0.35 if offset > -1.0 else -0.35)
        self.objects.append(found)

    def depth(self, offset: float, near: float, far: float) -> float:
        """Uniform over the whole way, where Layout prefers what is near."""
        near = max(near, (abs(offset) + 0.3) / self.half_view)
        return near + float(self.rng.random()) * (self.length + 0.45 * far)

    def _vehicle_speed(self, offset: float, yaw: float) -> float:
        """One speed a lane and direction, so that nobody runs into the one ahead; who parks stands."""
        lane = min(self.lanes, key=lambda lane: abs(lane.offset - offset))
        if lane.is_parking and abs(lane.offset - offset) < 0.5:
            return 0.0
        oncoming = math.cos(yaw) < 0
        key = (oncoming, round(lane.offset * 10))
        if key not in self.lane_speeds:
            slowest = OWN_SPEED if abs(lane.offset) < 0.5 and not oncoming else 0.5
            self.lane_speeds[key] = self.uniform(slowest, 1.2) * (-1 if oncoming else 1)
        return self.lane_speeds[key]

    def _walk(self, offset: float) -> tuple[float, float]:
        """Along the sidewalk, or across the road for who is on it."""
        pace = self.uniform(0.06, 0.16) * (1 if self.chance(0.5) else -1)
        is_on_road = self.ground.road[0] < offset < self.ground.road[1]
        return (pace, 0.0) if is_on_road else (0.0, pace)


class _TrackedCanvas(Canvas):
    """A canvas that knows which object each polygon is of; `track` is the one being painted."""

    def __post_init__(self):
        super().__post_init__()
        self.track = 0
        self.tracks: list[int] = []

    def label(self, label: str, is_instance: bool = False) -> None:
        """See Canvas."""
        super().label(label, is_instance)
        self.tracks += [self.track] * (len(self.objects) - len(self.tracks))


@dataclass(frozen=True)
class DriveFrame:
    """image: (H, W, 3) uint8; panoptic: Cityscapes classes, a thing's segment id stays through the drive; scene: as Streets'."""

    image: np.ndarray
    panoptic: PanopticMap
    scene: Scene


def draw_drive(settings: StreetsSettings, seed: int, num_frames: int) -> Iterator[DriveFrame]:
    """Draw the frames of a drive one after the other; the same arguments give the same pixels.

    Segment ids are dataset id * 1000 + k, where k is the object's number in its class through the whole drive.

    Args:
        settings: size and traffic are taken from them.
        seed: another one draws another street. A drive with more frames has another street, too, for its traffic is spread
            over the way.
        num_frames: 1 to MAX_FRAMES.

    Raises:
        InputError: if `num_frames` or `seed` is out of range, or the street has more than 999 things of a class.
    """
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or not 1 <= num_frames <= MAX_FRAMES:
        raise InputError(f"a drive of {num_frames!r} frames, but 1 to {MAX_FRAMES} can be drawn; draw several drives by --seed")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"a drive of seed {seed!r}, but a whole number from 0 on was needed; give one")
    rng = np.random.default_rng((seed, 11))
    city = City(float(rng.uniform(1.15, 1.45)), float(rng.uniform(0.42, 0.47)), float(rng.uniform(1.25, 1.6)), 0.07, 0.0)
    light, zenith, cloudiness = make_weather(rng)
    world = _build(rng, city, settings.traffic, OWN_SPEED * (num_frames - 1))
    numbers = _number(world.objects)
    own_color = random_color(rng, (0.5, 0.7), (0, 0.2), (0.1, 0.3))
    s = 2 if settings.height <= 512 else 1
    camera = Camera(city.focal * settings.width * s, city.horizon * settings.height * s, settings.width * s / 2, city.mount)
    for frame in range(num_frames):
        canvas = _TrackedCanvas(settings.height, settings.width, s, camera, light)
        grain_rng = np.random.default_rng((seed, 12))  # the same clouds and the same exposure in each frame
        paint_scene(canvas, _seen_from(world, frame), grain_rng, zenith, cloudiness)
        canvas.track = 0
        paint_own_car(canvas, city, own_color)
        instance_ids = _rasterize(canvas, numbers)
        pixels = surroundings.add_grain(canvas.pixels, _roughness(instance_ids, s), grain_rng)
        if s > 1:
            pixels = cv2.resize(pixels, (settings.width, settings.height), interpolation=cv2.INTER_AREA)
        image = develop(pixels, grain_rng)
        objects = [{"label": label, "polygon": polygon} for label, polygon in canvas.objects]
        polygons = {"imgHeight": settings.height, "imgWidth": settings.width, "objects": objects}
        yield DriveFrame(image, instance_ids_to_panoptic(instance_ids), Scene(image, instance_ids, polygons))


def _build(rng: np.random.Generator, city: City, times: int, length: float) -> _World:
    bend = Bend(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.002, 0.002)))
    ground, lanes, sidewalks = plan_ground(rng)
    ground = replace(ground, solid=(*ground.solid, *ground.dashed), dashed=())
    world = _World(rng, bend, ground, lanes, sidewalks, 0.5 / city.focal, length=length)
    keep_clear(world)
    add_surroundings(world)
    traffic.add_traffic(world, times * (1 + round(length / SPREAD)))
    return world


def _number(objects: list[_Object]) -> dict[int, int]:
    """Place in the list -> number in its class from 1 on, of all that may be counted: one brush makes one instance at most."""
    counters = {name: count(1) for name in COUNTED}
    numbers = {}
    for place, each in enumerate(objects):
        label = _label_of(each)
        if label in counters:
            numbers[place] = next(counters[label])
            if numbers[place] > MAX_INSTANCES_PER_IMAGE:
                raise InputError(f"the drive has more than {MAX_INSTANCES_PER_IMAGE} of {label}; ask for less traffic")
    return numbers


def _label_of(each: _Object) -> str:
    if each.paint is vehicles.paint_vehicle:
        return each.arguments[0].label
    return each.arguments[1] if each.paint is figures.paint_figure else ""


def _seen_from(world: _World, frame: int) -> Layout:
    """What stands before the camera in a frame, as a layout to paint."""
    way = OWN_SPEED * frame
    items = []
    for place, each in enumerate(world.objects):
        found = _item(each, world.bend, frame, way)
        if found is not None:
            items.append(replace(found, paint=partial(_paint_tracked, place, found.paint)))
    ground = _ground_ahead(world.ground, way)
    return Layout(world.rng, world.bend, ground, world.lanes, world.sidewalks, world.half_view, items)


def _paint_tracked(track: int, paint: Paint, canvas: _TrackedCanvas) -> None:
    canvas.track = track
    paint(canvas)


def _ground_ahead(ground: Ground, way: float) -> Ground:
    zebra = None if ground.zebra is None else ground.zebra - way
    side_streets = tuple((side, start - way, end - way) for side, start, end in ground.side_streets)
    return replace(ground, zebra=zebra, side_streets=side_streets)


def _item(each: _Object, bend: Bend, frame: int, way: float) -> Item | None:
    """An object as it is to be painted in a frame; None once it is passed."""
    offset, ahead = each.offset + each.speed[0] * frame, each.speed[1] * frame - way
    depth = each.depth + ahead
    if each.kind == "paint_skyline":
        return Item(offset, each.depth, 0.0, lambda canvas: each.paint(canvas, *each.arguments))
    if each.kind == "placed":
        return _placed(each, bend, offset, each.z + ahead, depth)
    if each.depth >= SKYLINE_DEPTH:
        return None
    arguments = _moved_arguments(each, bend, -ahead)
    return None if arguments is None else Item(offset, depth, 0.0, lambda canvas: each.paint(canvas, *arguments))


def _placed(each: _Object, bend: Bend, offset: float, z: float, depth: float) -> Item | None:
    is_vehicle = each.paint is vehicles.paint_vehicle
    if z < NEAREST["vehicle" if is_vehicle else "standing"]:
        return None
    arguments = each.arguments
    if is_vehicle and each.reach:  # it was turned along the road where it stood
        arguments = (arguments[0], arguments[1] + bend.yaw(z) - bend.yaw(each.z))
    place = bend.at(offset, z)
    return Item(offset, depth, each.reach, lambda canvas: each.paint(canvas, place, *arguments))


def _moved_arguments(each: _Object, bend: Bend, way: float) -> tuple | None:
    """The arguments of a brush that knows its places, `way` metres nearer; None where all of it is passed."""

    def ahead(place: tuple[float, float]) -> tuple[float, float]:
        x, z = place
        return bend.at(x - bend.at(0.0, z)[0], z - way)

    if each.kind == "paint_house":
        facade, near, far, side = each.arguments
        facade, near = _shorten_facade(facade, near, way)
        return None if facade is None else (facade, ahead(near), ahead(far), side)
    if each.kind == "paint_barrier":
        kind, color, top, near, far = each.arguments
        near = _shorten_barrier(near, far, way)
        return None if near is None else (kind, color, top, ahead(near), ahead(far))
    members, *rest = each.arguments  # of a group
    moved = [(figure, ahead(place)) for figure, place in members]
    is_passed = min(place[1] for _, place in moved) < NEAREST["standing"]
    return None if is_passed else (moved, *rest)


def _shorten_facade(
    facade: surroundings.Facade, near: tuple[float, float], way: float
) -> tuple[surroundings.Facade | None, tuple[float, float]]:
    """Take off the columns of windows that are passed; what is left stays where it is."""
    num_passed = max(0, math.ceil((way + NEAREST["front"] - near[1]) / facade.column_width))
    left = facade.num_columns - num_passed
    if left < 1:
        return None, near
    place = (near[0], near[1] + num_passed * facade.column_width)
    return replace(facade, num_columns=left, lit=facade.lit[:, num_passed:]), place


def _shorten_barrier(near: tuple[float, float], far: tuple[float, float], way: float) -> tuple[float, float] | None:
    """The near end that is still ahead, a whole number of the texture's periods farther than before."""
    length = math.sqrt((far[0] - near[0]) ** 2 + (far[1] - near[1]) ** 2)
    num_periods = max(1, int(length / 3))
    num_passed = max(0, math.ceil((way + NEAREST["front"] - near[1]) / (length / num_periods)))
    if num_passed >= num_periods:
        return None
    share = num_passed / num_periods
    return near[0] + share * (far[0] - near[0]), near[1] + share * (far[1] - near[1])


def _roughness(instance_ids: np.ndarray, oversampling: int) -> np.ndarray:
    """(2, H * s, W * s) amplitudes of the grain, as Streets has it; things are even."""
    table = np.full((256, 2), (8, 6), np.uint8)
    for name, roughness in ROUGHNESS.items():
        table[LABELS[name][0]] = roughness
    label_ids = instance_ids_to_label_ids(instance_ids)
    label_ids = np.repeat(np.repeat(label_ids, oversampling, 0), oversampling, 1)
    return table.T[:, label_ids]


def _rasterize(canvas: _TrackedCanvas, numbers: dict[int, int]) -> np.ndarray:
    """(H, W) int32 instance ids as Streets', but for the numbers of the things, which are the tracks'."""
    picture = Image.new("I", (canvas.width, canvas.height), 0)
    drawer = ImageDraw.Draw(picture)
    for (label, polygon), track in zip(canvas.objects, canvas.tracks, strict=True):
        is_group = label not in LABELS
        name = label.removesuffix("group") if is_group else label
        value = LABELS[name][0]
        if name in COUNTED and not is_group:
            value = value * 1000 + numbers[track]
        drawer.polygon([tuple(point) for point in polygon], fill=value)
    return np.array(picture, dtype=np.int32)


def frame_id(seed: int, frame: int) -> str:
    """`<city>_<sequence>_<frame>`: the seed is the sequence."""
    return f"{CITY}_{seed:06d}_{frame:06d}"


def write_drive(root: Path, settings: StreetsSettings, seed: int, num_frames: int, split: str = "val") -> Path:
    """Write a drive in the Cityscapes layout, and its tracks as COCO panoptic form; the truth's ids stay through the frames.

    leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY are as Streets writes them. polygons.json cannot hold a track: the official tools
    number its objects anew in each frame. A drive that is there is left; one that was interrupted is drawn again.

    Returns:
        The panoptic JSON, gtFine/tracks_SPLIT.json, beside the folder of its PNGs.

    Raises:
        InputError: as draw_drive, and if the folder holds a drive of other settings or other files.
    """
    root = Path(root)
    panoptic_json = root / "gtFine" / f"tracks_{split}.json"
    marker = {"dataset": "drive", "generator_version": GENERATOR_VERSION, "split": split, "seed": seed, "num_frames": num_frames}
    marker |= {"height": settings.height, "width": settings.width, "traffic": settings.traffic}

    def draw_all() -> None:
        entries = []
        for k, frame in enumerate(draw_drive(settings, seed, num_frames)):
            name = frame_id(seed, k)
            png = f"{name}_gtFine_panoptic.png"
            write_scene(_paths(root, split, name), frame.scene)
            write_panoptic_png(panoptic_json.with_suffix("") / png, frame.panoptic, "a drawn drive")
            entries.append((name, f"{name}_leftImg8bit.png", png, frame.image.shape[:2], frame.panoptic.segments))
        write_panoptic_json(panoptic_json, CITYSCAPES, entries)

    DrawnSet(root, "Drive", marker).write([draw_all])
    return panoptic_json


def _paths(root: Path, split: str, name: str) -> dict[str, Path]:
    truth = root / "gtFine" / split / CITY
    return {
        "instance_ids": truth / f"{name}_gtFine_instanceIds.png",
        "label_ids": truth / f"{name}_gtFine_labelIds.png",
        "color": truth / f"{name}_gtFine_color.png",
        "polygons": truth / f"{name}_gtFine_polygons.json",
        "image": root / "leftImg8bit" / split / CITY / f"{name}_leftImg8bit.png",
    }
