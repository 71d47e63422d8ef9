"""The contract of every rule that joins two halves, whatever it does; a new one gets it for its entries in RULES."""

from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest

from data.instance_dump import InstanceLogits
from data.layouts.find import open_data_set
from data.panoptic_png import describe_segments
from data.semantic_dump import SemanticMap
from data.targets import panoptic_to_instance_logits, panoptic_to_semantic, panoptic_to_semantic_logits
from data.taxonomy import VOID_TRAIN_ID
from fusion.settings import RULES
from fusion.solo_fusion import build_parser
from prediction.fused import RULES as MAKERS
from prediction.fused import FusedPredictor
from prediction.sources.truth import Truth
from runtime.files import InputError

ALL_RULES = pytest.mark.parametrize("name", RULES)


@pytest.fixture(scope="module")
def split(streets):
    return open_data_set(streets).split()


@pytest.fixture(scope="module")
def halves(split):
    """(instances, logits, class map) of an image's truth, whose objects overlap nothing; each score is another."""
    truth, about = split.truth(0), {"image_id": split.image_id(0), "stride": 1, "producer": "truth"}
    instances = panoptic_to_instance_logits(truth, split.taxonomy, **about)
    assert len(instances) > 3
    instances = replace(instances, scores=np.linspace(0.9, 0.6, len(instances), dtype=np.float32))
    train_ids = panoptic_to_semantic(truth, split.taxonomy)
    semantic_map = SemanticMap(split.image_id(0), split.taxonomy.name, "truth", train_ids)
    return instances, panoptic_to_semantic_logits(truth, split.taxonomy, **about), semantic_map


def make(name: str, **changes):
    """A rule that drops nothing for its size."""
    settings = RULES[name][1]
    no_limits = {field.name: 0 for field in fields(settings) if field.name.startswith("min_") and field.name.endswith("_area")}
    return MAKERS[name](settings(**{"min_score": 0.5, **no_limits, **changes}), "cpu")


def taken(instances: InstanceLogits, places: list[int]) -> InstanceLogits:
    """Some of the instances, in this order."""
    arrays = {key: getattr(instances, key)[places] for key in ("train_ids", "scores", "boxes", "crop_boxes")}
    return replace(instances, crops=tuple(instances.crops[k] for k in places), **arrays)


def test_contract_a_rule_has_a_maker_and_settings_that_cannot_change():
    assert list(RULES) == list(MAKERS)
    for _, settings in RULES.values():
        made = settings()
        assert made.min_score is None
        assert 0 <= made.lowest_score <= 1
        assert settings(min_score=0.25).lowest_score == 0.25
        with pytest.raises(FrozenInstanceError):
            made.min_score = 0.5


@ALL_RULES
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_contract_a_least_score_that_is_no_share_is_refused(name, bad):
    with pytest.raises(InputError, match=r"min_score is .* needed"):
        RULES[name][1](min_score=bad)


@ALL_RULES
def test_contract_the_command_has_a_flag_for_each_setting(name):
    prefix, settings = RULES[name]
    args = build_parser().parse_args(["--output", "x", "--rule", name, f"--{prefix}.min_score", "0.25"])
    assert args.rule == name
    assert set(vars(args[prefix])) == {field.name for field in fields(settings)}
    assert args[prefix].min_score == 0.25


@ALL_RULES
@pytest.mark.parametrize("half", ["logits", "map"])
def test_contract_of_true_halves_every_pixel_but_void_and_crowds_gets_its_true_class(name, half, halves, split):
    """And whatever the rule makes of them, pixels and listed segments say the same."""
    instances, logits, semantic_map = halves
    found = make(name).fuse(instances, logits if half == "logits" else semantic_map, split.taxonomy)
    truth = split.truth(0)
    known = np.isin(truth.segment_ids, [s.segment_id for s in truth.segments if not s.is_crowd])
    assert known.mean() > 0.5
    assert np.array_equal(panoptic_to_semantic(found, split.taxonomy)[known], semantic_map.train_ids[known])
    category_of = {s.segment_id: s.category_id for s in found.segments}
    counted = describe_segments(found.segment_ids, category_of.__getitem__)
    assert [replace(s, score=None) for s in found.segments] == list(counted)
    stuff_ids = split.taxonomy.dataset_ids[list(split.taxonomy.stuff_ids)]
    stuff = [s.category_id for s in found.segments if s.category_id in stuff_ids]
    assert len(set(stuff)) == len(stuff)


@ALL_RULES
def test_contract_the_order_of_the_instances_does_not_matter_and_nothing_is_changed(name, halves, split):
    instances, logits, _ = halves
    instances = replace(instances, scores=np.full(len(instances), 0.75, np.float32))  # ties are ordered by content
    before = [array.copy() for array in (instances.scores, instances.crop_boxes, *instances.crops, logits.logits)]
    wanted = make(name).fuse(instances, logits, split.taxonomy)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(instances)).tolist()
        found = make(name).fuse(taken(instances, order), logits, split.taxonomy)
        assert np.array_equal(found.segment_ids, wanted.segment_ids)
        assert found.segments == wanted.segments
    after = (instances.scores, instances.crop_boxes, *instances.crops, logits.logits)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@ALL_RULES
def test_contract_an_instance_below_the_least_score_is_as_good_as_absent(name, halves, split):
    instances, logits, _ = halves
    limit = float(instances.scores[2])
    kept = taken(instances, [k for k in range(len(instances)) if instances.scores[k] >= limit])
    found, wanted = (make(name, min_score=limit).fuse(k, logits, split.taxonomy) for k in (instances, kept))
    assert np.array_equal(found.segment_ids, wanted.segment_ids)
    assert found.segments == wanted.segments


@ALL_RULES
def test_contract_without_any_instance_the_stuff_is_what_the_semantics_say(name, halves, split):
    instances, logits, semantic_map = halves
    found = make(name).fuse(taken(instances, []), logits, split.taxonomy)
    stuff = np.isin(semantic_map.train_ids, split.taxonomy.stuff_ids)
    assert np.array_equal(panoptic_to_semantic(found, split.taxonomy)[stuff], semantic_map.train_ids[stuff])


@ALL_RULES
def test_contract_a_rule_without_a_half_of_instances_needs_none_or_is_refused(name, split):
    rule = make(name)
    if rule.needs_instances:
        with pytest.raises(InputError, match="needs instances"):
            FusedPredictor(None, Truth(split), rule)
    else:
        found = FusedPredictor(None, Truth(split, stride=1), rule).predict(split.image_id(0), split.image(0)).panoptic
        assert set(np.unique(panoptic_to_semantic(found, split.taxonomy))) - {VOID_TRAIN_ID}


@ALL_RULES
def test_contract_another_setting_is_another_fingerprint(name, split):
    truth = Truth(split)
    prints = {
        FusedPredictor(truth, truth, make(name, min_score=limit)).fingerprint(split.image_id(0)) for limit in (0.5, 0.5, 0.6)
    }
    assert len(prints) == 2
    assert asdict(make(name).settings)["min_score"] == 0.5
