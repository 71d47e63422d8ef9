"""Streets, the embedded data set: drawn street scenes in the true Cityscapes layout, so that the official tools run on it.

A scene is a list of labelled polygons, back to front. The labels are rasterised from the polygons just as
cityscapesscripts/preparation/json2instanceImg.py and json2labelImg.py (2.3.0) do it, with Pillow; see street_scenes/scene.py for
what is drawn and street_scenes/drawing.py for how.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from data.drawn.drawn_set import DrawnSet
from data.drawn.street_scenes.drawing import Camera, Canvas, random_color
from data.drawn.street_scenes.scene import City, develop, lay_out, make_weather, paint_own_car, paint_scene
from data.drawn.street_scenes.surroundings import add_grain
from data.images import write_image
from data.taxonomy import CITYSCAPES, MAX_INSTANCES_PER_IMAGE
from runtime.files import InputError, write_json

DEFAULT_ROOT = Path(__file__).resolve().parents[2] / "datasets" / "streets"
MARKER = "streets.json"
GENERATOR_VERSION = 2
"""Raise it whenever the same settings draw other pixels."""
MIN_HEIGHT, MAX_HEIGHT = 128, 1024
MAX_IMAGES = 100_000
MAX_TRAFFIC = 5
CITIES = {"train": ("ahornstadt", "birkenau", "fichtenberg"), "val": ("lindenthal", "ulmenfeld")}

UNSCORED = {
    "unlabeled": (0, (0, 0, 0)),
    "ego vehicle": (1, (0, 0, 0)),
    "rectification border": (2, (0, 0, 0)),
    "out of roi": (3, (0, 0, 0)),
    "static": (4, (0, 0, 0)),
    "dynamic": (5, (111, 74, 0)),
    "ground": (6, (81, 0, 81)),
    "parking": (9, (250, 170, 160)),
    "rail track": (10, (230, 150, 140)),
    "polegroup": (18, (153, 153, 153)),
    "caravan": (29, (0, 0, 90)),
    "trailer": (30, (0, 0, 110)),
}
"""Labels of the files that no score counts: name -> (id, colour), as in cityscapesscripts/helpers/labels.py."""
COUNTED_UNSCORED = ("caravan", "trailer")
LABELS = UNSCORED | {c.name: (c.dataset_id, c.color) for c in CITYSCAPES.categories}
COUNTED = COUNTED_UNSCORED + tuple(c.name for c in CITYSCAPES.categories if c.is_thing)

ROUGHNESS = {
    "sky": (2, 0), "road": (14, 6), "sidewalk": (16, 8), "building": (14, 14), "wall": (26, 30), "fence": (24, 20),
    "vegetation": (70, 90), "terrain": (52, 60), "parking": (20, 12), "rail track": (40, 30), "ground": (30, 30),
}  # fmt: skip
"""Strength of the (fine, blobby) grain on each label; things have little."""


@dataclass(frozen=True)
class StreetsSettings:
    """What is drawn; the same settings give the same pixels on every run.

    Raises:
        InputError: if a value is out of range, or the width is not twice the height.
    """

    height: int = 192
    """Of an image, pixels: 128 to 1024."""
    width: int = 384
    """Of an image, pixels: twice the height."""
    num_train: int = 400
    """Images in the train split."""
    num_val: int = 60
    """Images in the val split."""
    seed: int = 0
    """Another seed draws other streets in other cities."""
    traffic: int = 1
    """Times as many vehicles, riders and people; 3 gives 19 an image (grid_doctor.py counts), about as
    many as Cityscapes has: 7.0 humans and 11.8 vehicles (Cordts et al., CVPR 2016)."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"Streets: {name} is {value!r}, but a whole number from 0 on was needed; give one")
        if not MIN_HEIGHT <= self.height <= MAX_HEIGHT or self.width != 2 * self.height:
            needed = f"heights from {MIN_HEIGHT} to {MAX_HEIGHT} and a width of twice the height"
            raise InputError(f"Streets: size is {self.height}x{self.width}, but {needed} can be drawn; try 256x512")
        if not 1 <= self.traffic <= MAX_TRAFFIC:
            raise InputError(f"Streets: traffic is {self.traffic}, but 1 to {MAX_TRAFFIC} times the usual was needed")
        if max(self.num_train, self.num_val) > MAX_IMAGES:
            asked = f"{self.num_train} train and {self.num_val} val images"
            raise InputError(f"Streets: {asked}, but at most {MAX_IMAGES} each can be drawn; ask for fewer")

    def count(self, split: str) -> int:
        """Number of images of a split."""
        return {"train": self.num_train, "val": self.num_val}[split]


@dataclass(frozen=True)
class Scene:
    """image: (H, W, 3) uint8; instance_ids: (H, W) int32 as in instanceIds.png; polygons: as in polygons.json."""

    image: np.ndarray
    instance_ids: np.ndarray
    polygons: dict


def draw_scene(settings: StreetsSettings, split: str, index: int) -> Scene:
    """Draw one image and its truth.

    Args:
        split: `train` or `val`. index: 0 to the split's count - 1.
    """
    split_number = tuple(CITIES).index(split)
    city_number = index % len(CITIES[split])
    city = _make_city(np.random.default_rng((settings.seed, split_number, city_number, 7)), city_number)
    layout_rng = np.random.default_rng((settings.seed, split_number, index, 0))
    grain_rng = np.random.default_rng((settings.seed, split_number, index, 1))
    oversampling = 2 if settings.height <= 512 else 1
    light, zenith, cloudiness = make_weather(layout_rng)
    wide, high = settings.width * oversampling, settings.height * oversampling
    horizon = (city.horizon + float(layout_rng.uniform(-0.015, 0.015))) * high
    center = (0.5 + float(layout_rng.uniform(-0.02, 0.02))) * wide
    camera = Camera(city.focal * wide, horizon, center, city.mount)
    canvas = Canvas(settings.height, settings.width, oversampling, camera, light)
    layout = lay_out(layout_rng, city, settings.traffic)
    paint_scene(canvas, layout, grain_rng, zenith, cloudiness)
    paint_own_car(canvas, city, random_color(layout_rng, (0.5, 0.7), (0, 0.2), (0.1, 0.3)))
    polygons = {
        "imgHeight": settings.height,
        "imgWidth": settings.width,
        "objects": [{"label": label, "polygon": polygon} for label, polygon in canvas.objects],
    }
    instance_ids = rasterize(polygons)
    pixels = _roughen(canvas, instance_ids, grain_rng)
    if oversampling > 1:
        pixels = cv2.resize(pixels, (settings.width, settings.height), interpolation=cv2.INTER_AREA)
    return Scene(develop(pixels, grain_rng), instance_ids, polygons)


def _make_city(rng: np.random.Generator, city_number: int) -> City:
    """A city's camera car; each split has cities with and without a hood in sight and borders."""
    return City(
        focal=float(rng.uniform(1.15, 1.45)),  # in image widths; Cityscapes has 1.10
        horizon=float(rng.uniform(0.42, 0.47)),
        mount=float(rng.uniform(1.25, 1.6)),
        hood=0.0 if city_number % 3 == 1 else float(rng.uniform(0.05, 0.09)),
        border=0.005 if city_number % 2 == 0 else 0.0,
    )


def _roughen(canvas: Canvas, instance_ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The canvas's pixels with grain on each surface by its label."""
    table = np.full((256, 2), (8, 6), np.uint8)
    for name, roughness in ROUGHNESS.items():
        table[LABELS[name][0]] = roughness
    label_ids = instance_ids_to_label_ids(instance_ids)
    s = canvas.oversampling
    if s > 1:
        label_ids = np.repeat(np.repeat(label_ids, s, 0), s, 1)
    return add_grain(canvas.pixels, table.T[:, label_ids], rng)


def rasterize(polygons: dict) -> np.ndarray:
    """The instance ids that json2instanceImg would write for the content of a polygons.json: (H, W) int32."""
    picture = Image.new("I", (polygons["imgWidth"], polygons["imgHeight"]), 0)
    drawer = ImageDraw.Draw(picture)
    seen = dict.fromkeys(COUNTED, 0)
    for entry in polygons["objects"]:
        is_group = entry["label"] not in LABELS
        name = entry["label"].removesuffix("group") if is_group else entry["label"]
        value = LABELS[name][0]
        if name in seen and not is_group:
            assert seen[name] <= MAX_INSTANCES_PER_IMAGE, f"more than {MAX_INSTANCES_PER_IMAGE} of {name}"
            value = value * 1000 + seen[name]
            seen[name] += 1
        drawer.polygon([tuple(point) for point in entry["polygon"]], fill=value)
    return np.array(picture, dtype=np.int32)


def instance_ids_to_label_ids(instance_ids: np.ndarray) -> np.ndarray:
    """(H, W) instance ids -> (H, W) uint8 label ids."""
    return np.where(instance_ids >= 1000, instance_ids // 1000, instance_ids).astype(np.uint8)


def image_id(settings: StreetsSettings, split: str, index: int) -> str:
    """`<city>_<sequence>_<frame>` of an image; frames are sparse, as in Cityscapes."""
    cities = CITIES[split]
    frame = np.random.default_rng((settings.seed, tuple(CITIES).index(split), index, 2)).integers(19, 99_000)
    return f"{cities[index % len(cities)]}_{index // len(cities):06d}_{frame:06d}"


def scene_paths(root: Path, settings: StreetsSettings, split: str, index: int) -> dict[str, Path]:
    """The files of one image: image, instance_ids, label_ids, color, polygons."""
    name = image_id(settings, split, index)
    city = name.split("_")[0]
    truth = Path(root) / "gtFine" / split / city
    return {
        "instance_ids": truth / f"{name}_gtFine_instanceIds.png",
        "label_ids": truth / f"{name}_gtFine_labelIds.png",
        "color": truth / f"{name}_gtFine_color.png",
        "polygons": truth / f"{name}_gtFine_polygons.json",
        "image": Path(root) / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png",
    }


def write_scene(paths: dict[str, Path], scene: Scene) -> None:
    """Write the five files of one image, the image last."""
    label_ids = instance_ids_to_label_ids(scene.instance_ids)
    colors = np.zeros((256, 4), np.uint8)
    colors[:, 3] = 255
    for number, color in LABELS.values():
        colors[number, :3] = color
    write_image(paths["instance_ids"], scene.instance_ids.astype(np.uint16), is_quick=True)
    write_image(paths["label_ids"], label_ids, is_quick=True)
    write_image(paths["color"], colors[label_ids], is_quick=True)
    write_json(paths["polygons"], scene.polygons, is_compact=True)
    write_image(paths["image"], scene.image, is_quick=True)


def write_streets(root: Path, settings: StreetsSettings, progress: Callable[[int, int], None] | None = None) -> None:
    """Draw whatever is missing, then the marker; killed at any moment, it goes on where it stopped.

    Args:
        progress: called with (images done, images in all) after each.

    Raises:
        InputError: if the folder holds Streets of other settings, or other files.
    """
    _drawn_set(root, settings).write(_draw_each(root, settings), progress=progress)


def ensure_streets(root: Path = DEFAULT_ROOT, settings: StreetsSettings = StreetsSettings()) -> Path:
    """Draw the data set if it is absent or unfinished, with a progress bar; return its root.

    Raises:
        InputError: as write_streets.
    """
    return _drawn_set(root, settings).ensure(_draw_each(root, settings))


def _drawn_set(root: Path, settings: StreetsSettings) -> DrawnSet:
    marker = {"dataset": "streets", "generator_version": GENERATOR_VERSION, **asdict(settings)}
    if settings.traffic == 1:  # as in sets that were drawn before there was a choice
        del marker["traffic"]
    return DrawnSet(Path(root), "Streets", marker)


def _draw_each(root: Path, settings: StreetsSettings) -> list[Callable[[], None]]:
    frames = [(split, index) for split in CITIES for index in range(settings.count(split))]
    return [partial(_draw_one, root, settings, split, index) for split, index in frames]


def _draw_one(root: Path, settings: StreetsSettings, split: str, index: int) -> None:
    paths = scene_paths(root, settings, split, index)
    if not all(path.exists() for path in paths.values()):
        write_scene(paths, draw_scene(settings, split, index))
