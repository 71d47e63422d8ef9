"""Tiny trees in the Cityscapes layout, drawn where a test needs them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw_frame(root: Path, split: str, image_id: str, instance_ids, picture=None) -> None:
    """Write one image (black unless given) and, unless `instance_ids` is None, its label."""
    city = image_id.split("_")[0]
    if instance_ids is not None:
        label = root / "gtFine" / split / city / f"{image_id}_gtFine_instanceIds.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(instance_ids).astype(np.uint16)).save(label)
    if picture is None:
        size = (4, 8) if instance_ids is None else np.shape(instance_ids)
        picture = np.zeros((*size, 3), np.uint8)
    image = root / "leftImg8bit" / split / city / f"{image_id}_leftImg8bit.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(image)


@pytest.fixture
def draw():
    return draw_frame


SCENE = np.array(
    [
        # sky, building; an unscored bridge (15), a caravan group and a counted caravan; a license plate (-1 in 16 bits)
        [23, 23, 23, 11, 11, 15, 29, 29001, 65535],
        # persons with numbers that do not follow each other, a rider, a crowd of persons, a crowd of cars
        [23, 24000, 24000, 24007, 25003, 24, 24, 26, 26],
        # one car in two parts, a train, void of every kind
        [26012, 7, 26012, 7, 31000, 0, 1, 2, 3],
        [7, 7, 8, 8, 9, 10, 4, 5, 6],
    ]
)
"""One of everything that an instanceIds.png can hold; only the license plate stops the official tools."""


@pytest.fixture
def scene() -> np.ndarray:
    return SCENE.copy()
