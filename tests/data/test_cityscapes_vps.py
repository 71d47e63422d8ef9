"""Cityscapes-VPS' truth: films by the number in front of the image ids, with ids that stay through a film."""

from pathlib import Path

import numpy as np
import pytest

from data.layouts.cityscapes_vps import find_sequences, image_id_of, read_sequences, read_truth
from data.panoptic_file import write_panoptic_json
from data.panoptic_png import describe_segments, write_segment_ids
from data.taxonomy import CITYSCAPES
from runtime.files import InputError

IDS = (
    "0001_0000_frankfurt_000000_005898",
    "0000_0005_frankfurt_000000_001737",
    "0000_0000_frankfurt_000000_001732",
)


def write_set(root: Path, image_ids: tuple[str, ...]) -> Path:
    """Frames of road (id 5) and a car (id 9, as the generator of panopticapi numbers them), two pixels of each."""
    ids = np.array([[5, 5, 9, 9]], np.uint32)
    segments = describe_segments(ids, {5: 7, 9: 26}.get)
    entries = []
    for image_id in image_ids:
        png = f"{image_id}_final_mask.png"
        write_segment_ids(root / "val/panoptic_video" / png, ids)
        entries.append((image_id, f"{image_id}_newImg8bit.png", png, ids.shape, segments))
    write_panoptic_json(root / "panoptic_gt_val_city_vps.json", CITYSCAPES, entries)
    return root


def test_films_and_frames_come_in_order_of_their_numbers(tmp_path):
    assert find_sequences(read_truth(write_set(tmp_path, IDS))) == {"0000": [IDS[2], IDS[1]], "0001": [IDS[0]]}


def test_frames_have_the_ids_of_the_json(tmp_path):
    sequences = dict(read_sequences(read_truth(write_set(tmp_path, IDS))))
    frames = list(sequences["0000"])
    assert [name for name, _ in frames] == [IDS[2], IDS[1]]
    for _, panoptic in frames:
        assert [(s.segment_id, s.category_id, s.area) for s in panoptic.segments] == [(5, 7, 2), (9, 26, 2)]


def test_file_names_stand_for_image_ids():
    endings = ("_newImg8bit.png", "_leftImg8bit.png", "_final_mask.png", "_gtFine_color.png", ".png")
    assert {image_id_of(f"val/img/{IDS[0]}{ending}") for ending in endings} == {IDS[0]}


def test_ids_without_a_film_are_refused(tmp_path):
    with pytest.raises(InputError, match="Cityscapes-VPS has FILM_NUMBER_"):
        find_sequences(read_truth(write_set(tmp_path, ("frankfurt_000000_001732",))))


def test_two_images_of_one_frame_are_refused(tmp_path):
    twice = (IDS[1], "0000_0005_frankfurt_000000_001738")
    with pytest.raises(InputError, match="are the same frame of film 0000"):
        find_sequences(read_truth(write_set(tmp_path, twice)))
