"""Scenes drawn as text, so that a test's expectation can be counted by eye."""

from pathlib import Path

import numpy as np
import pytest

from data.panoptic_png import PanopticMap, describe_segments
from data.taxonomy import Category, Taxonomy

TOY = Taxonomy(
    "toy",
    (
        Category("road", 7, False, (128, 64, 128)),
        Category("sky", 23, False, (70, 130, 180)),
        Category("person", 24, True, (220, 20, 60)),
        Category("car", 26, True, (0, 0, 142)),
    ),
)
MEANINGS = {  # letter: (segment id, category id, is crowd)
    "r": (7, 7, False),
    "s": (23, 23, False),
    "p": (24000, 24, False),
    "q": (24001, 24, False),
    "a": (26000, 26, False),
    "b": (26001, 26, False),
    "C": (26, 26, True),
    "D": (27, 26, True),
}


def draw_scene(*rows: str) -> PanopticMap:
    """One letter a pixel: r road, s sky, p q persons, a b cars, C D crowds of cars, '.' void."""
    known = {segment_id: (category_id, is_crowd) for segment_id, category_id, is_crowd in MEANINGS.values()}
    ids = np.array([[0 if letter == "." else MEANINGS[letter][0] for letter in row] for row in rows], dtype=np.uint32)
    return PanopticMap(ids, describe_segments(ids, lambda i: known[i][0], lambda i: known[i][1]))


@pytest.fixture(scope="session")
def draw():
    return draw_scene


@pytest.fixture(scope="session")
def toy():
    return TOY


@pytest.fixture(scope="session")
def samples():
    folder = Path(__file__).parents[3] / "shared" / "samples"
    if not folder.is_dir():
        pytest.skip("needs the real samples in ../shared/samples, which a user's clone has not")
    return folder
