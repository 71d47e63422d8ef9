"""What is fuzzed: of each reader the files to begin with, how they are damaged, and what a right result is."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.fuzz import checkpoint_files, dump_files, image_files, json_files
from tests.fuzz.mutations import mutate_json, mutate_pickle, mutate_png, mutate_safetensors

UNCHANGED = 0.02
"""Share of cases that are a seed as it is."""


@dataclass(frozen=True)
class Target:
    """One reader.

    `seeds` gives whole files and what they hold: InputError where they must be refused, None where they may be. `mutate` makes
    a damaged file of a whole one. `check(content, folder, expected)` writes the file into the folder, reads it, and raises
    AssertionError where the result is wrong; up to the first colon its text says what kind of fault it is.
    """

    seeds: Callable[[], Mapping[bytes, object]]
    mutate: Callable[[random.Random, bytes], bytes]
    check: Callable[[bytes, Path, object], None]


TARGETS = {
    "png": Target(image_files.segment_seeds, mutate_png, image_files.check_segment_ids),
    "instance_ids": Target(image_files.instance_seeds, mutate_png, image_files.check_instance_ids),
    "panoptic_png": Target(image_files.panoptic_png_seeds, image_files.mutate_panoptic_png, image_files.check_panoptic_png),
    "semantic_map": Target(image_files.map_seeds, mutate_png, image_files.check_map),
    "image": Target(image_files.image_seeds, mutate_png, image_files.check_image),
    "truth_json": Target(json_files.truth_seeds, mutate_json, json_files.check_panoptic),
    "prediction_json": Target(json_files.prediction_seeds, mutate_json, partial(json_files.check_panoptic, is_prediction=True)),
    "taxonomy": Target(json_files.taxonomy_seeds, mutate_json, json_files.check_taxonomy),
    "coco_results": Target(json_files.result_seeds, json_files.mutate_results, json_files.check_results),
    "config": Target(json_files.config_seeds, json_files.mutate_config, json_files.check_config),
    "instance_dump": Target(dump_files.instance_seeds, mutate_safetensors, dump_files.check_instances),
    "semantic_dump": Target(dump_files.semantic_seeds, mutate_safetensors, dump_files.check_semantic),
    "checkpoint": Target(
        checkpoint_files.checkpoint_seeds, checkpoint_files.mutate_checkpoint, checkpoint_files.check_checkpoint
    ),
    "pickle": Target(checkpoint_files.pickle_seeds, mutate_pickle, checkpoint_files.check_pickle),
}


def make_case(target: Target, seed: int, number: int) -> bytes:
    """Case `number` of a campaign with this seed: the same bytes each time."""
    rng = random.Random(f"{seed} {number}")
    content = rng.choice(tuple(target.seeds()))
    return content if rng.random() < UNCHANGED else target.mutate(rng, content)
