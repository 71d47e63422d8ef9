"""A tiny clean data set in the COCO layout, in which a test plants one fault."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.label_checks.check import LabelCheck, check_split
from data.label_checks.findings import Finding
from data.layouts.coco import panoptic_json_path
from data.layouts.find import open_data_set
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import describe_segments, read_segment_ids, write_segment_ids
from data.taxonomy import CITYSCAPES, Taxonomy

SIZE = (48, 96)
NAMES = ("road", "sky", "person", "car")
CLASSES = Taxonomy("toy", tuple(c for c in CITYSCAPES.categories if c.name in NAMES))


def draw_ids(shift: int) -> np.ndarray:
    """Sky 23 above road 7, a strip of void below, two cars and a person, `shift` pixels to the right."""
    ids = np.full(SIZE, 23, np.uint32)
    ids[24:], ids[44:] = 7, 0
    ids[20:32, 6 + shift : 26 + shift], ids[20:32, 40 + shift : 60 + shift] = 26000, 26001
    ids[16:34, 70 + shift : 76 + shift] = 24000
    return ids


def draw_set(root: Path, taxonomy: Taxonomy) -> Path:
    """Three images of train and of val, with the ids 1 to 3 and 11 to 13."""
    for number, split in enumerate(("train", "val")):
        entries, json_path = [], panoptic_json_path(root, split)
        (root / split).mkdir(parents=True)
        for k in range(3):
            image_id, ids = 10 * number + k + 1, draw_ids(2 * k + number)
            name = f"{image_id:06d}"
            write_segment_ids(json_path.with_suffix("") / f"{name}.png", ids)
            pixels = np.random.default_rng(image_id).integers(0, 255, (6, 12, 3), np.uint8)
            Image.fromarray(pixels).resize(SIZE[::-1], Image.Resampling.BICUBIC).save(root / split / f"{name}.png")
            segments = describe_segments(ids, lambda i: i if i < 1000 else i // 1000)
            entries.append((image_id, f"{name}.png", f"{name}.png", ids.shape, segments))
        write_panoptic_json(json_path, taxonomy, entries)
    return root


class TinySet:
    """A drawn set. `content` is val's JSON, which `write` writes back."""

    def __init__(self, root: Path):
        self.root, self.content = root, json.loads(panoptic_json_path(root, "val").read_text())

    def json_path(self, split: str = "val") -> Path:
        return panoptic_json_path(self.root, split)

    def read(self, split: str) -> dict:
        return json.loads(self.json_path(split).read_text())

    def write(self, content: object = None, split: str = "val") -> None:
        self.json_path(split).write_text(json.dumps(self.content if content is None else content))

    @property
    def infos(self) -> list[dict]:
        """The segments of image 11."""
        return self.content["annotations"][0]["segments_info"]

    def info(self, segment_id: int) -> dict:
        return next(info for info in self.infos if info["id"] == segment_id)

    def png(self, image_id: int = 11) -> Path:
        return self.json_path().with_suffix("") / f"{image_id:06d}.png"

    def picture(self, image_id: int = 11, split: str = "val") -> Path:
        return self.root / split / f"{image_id:06d}.png"

    def redraw(self, change: Callable[[np.ndarray], None], image_id: int = 11) -> None:
        ids = read_segment_ids(self.png(image_id))
        change(ids)
        write_segment_ids(self.png(image_id), ids)

    def check(self, **options) -> list[Finding]:
        return findings_of(check_split(open_data_set(self.root), "val", **options))


def findings_of(check: LabelCheck) -> list[Finding]:
    return [finding for _, findings in check for finding in findings]


@pytest.fixture(scope="session")
def drawn_sets(tmp_path_factory) -> dict[str, Path]:
    """One whose JSON lists the four classes that occur, and one that lists all of Cityscapes."""
    root = tmp_path_factory.mktemp("tiny")
    return {"toy": draw_set(root / "toy", CLASSES), "cityscapes": draw_set(root / "cityscapes", CITYSCAPES)}


@pytest.fixture
def tiny(drawn_sets, tmp_path) -> TinySet:
    return TinySet(Path(shutil.copytree(drawn_sets["toy"], tmp_path / "tiny")))


@pytest.fixture
def tiny_cityscapes_classes(drawn_sets, tmp_path) -> TinySet:
    """The same scenes, whose JSON lists all of Cityscapes' classes."""
    return TinySet(Path(shutil.copytree(drawn_sets["cityscapes"], tmp_path / "tiny")))


@pytest.fixture
def collect() -> Callable[[LabelCheck], list[Finding]]:
    return findings_of
