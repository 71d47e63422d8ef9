"""Clusters of embeddings on drawn scenes, and every path against the plain form on random ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.clusters import are_equal, plain_cluster, plain_fusion
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from fusion import embedding_proposals_compiled, embedding_proposals_torch
from fusion.compose import AREA_REFERENCE
from fusion.embedding_clusters import EmbeddingMaps, cluster, fuse_embeddings
from fusion.embedding_proposals import Proposals
from fusion.settings import ClusterSettings
from runtime.files import InputError

NAMES = [c.name for c in CITYSCAPES.categories]
ROAD, PERSON, CAR = (NAMES.index(name) for name in ("road", "person", "car"))
CLASS_OF = {"r": ROAD, "p": PERSON, "c": CAR, ".": VOID_TRAIN_ID}
THINGS = CITYSCAPES.thing_ids
RADIUS = math.log(2) / 0.5**2
"""Bandwidth of a proposal that reaches half a unit."""


@pytest.fixture(params=["compiled", "torch"])
def path(request, monkeypatch):
    """Each of the two ways to the same clusters, both on the CPU."""
    if request.param == "torch":
        search_by_torch(monkeypatch)


def search_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""

    def find_proposals(*maps: np.ndarray, **limits: float) -> Proposals:
        return embedding_proposals_torch.find_proposals(*(torch.from_numpy(values) for values in maps), **limits)

    monkeypatch.setattr(embedding_proposals_compiled, "find_proposals", find_proposals)


def limits(size: tuple[int, int], pixels: float = 0, **options) -> ClusterSettings:
    """Settings in pixels of an image of this size; stuff of any area is kept."""
    return ClusterSettings(min_pixels=pixels * AREA_REFERENCE / (size[0] * size[1]), min_stuff_area=0, **options)


def draw(semantic: tuple[str, ...], targets: tuple[str, ...], seeds: np.ndarray, bandwidth: float = RADIUS) -> EmbeddingMaps:
    """Maps of a drawing: a pixel with letter k in `targets` points at (k, k), one with '.' far away, each elsewhere.

    Args:
        seeds: (H, W), of cars.
    """
    letters = np.array([list(row) for row in targets])
    size = letters.shape
    points = np.where(letters == ".", 1000 + 10 * np.arange(letters.size).reshape(size), np.vectorize(ord)(letters))
    seed_maps = np.zeros((len(THINGS), *size), dtype=np.float32)
    seed_maps[THINGS.index(CAR)] = seeds
    return EmbeddingMaps(
        "scene",
        *size,
        CITYSCAPES.name,
        embeddings=torch.from_numpy(np.stack([points, points]).astype(np.float32)),
        bandwidths=torch.full((1, *size), bandwidth),
        seeds=torch.from_numpy(seed_maps),
        semantic_train_ids=torch.tensor([[CLASS_OF[letter] for letter in row] for row in semantic], dtype=torch.uint8),
    )


def random_maps(seed: int, size: tuple[int, int] = (12, 17), num_sigma: int = 1) -> EmbeddingMaps:
    """Crowded scattered embeddings on a coarse lattice, seeds in coarse steps: many ties, many proposals that overlap."""
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 8, (2, 6))[:, rng.integers(0, 6, size)]
    embeddings = (centers + rng.normal(0, 0.7, (2, *size))).astype(np.float32)
    if seed % 2:
        embeddings = np.round(4 * embeddings) / 4
    bandwidths = rng.choice([0, 0.05, 0.3, 1, 4, 1e8], (num_sigma, *size), p=[0.02, 0.08, 0.3, 0.3, 0.2, 0.1])
    seeds = np.round(rng.uniform(0, 1, (len(THINGS), *size)) ** 2, 2)
    semantic = rng.choice([ROAD, VOID_TRAIN_ID, *THINGS], size)
    return EmbeddingMaps(
        "random",
        *size,
        CITYSCAPES.name,
        embeddings=torch.from_numpy(embeddings),
        bandwidths=torch.from_numpy(bandwidths.astype(np.float32)),
        seeds=torch.from_numpy(seeds.astype(np.float32)),
        semantic_train_ids=torch.from_numpy(semantic.astype(np.uint8)),
    )


def rows(labels: np.ndarray) -> tuple[str, ...]:
    """Labels as a drawing, '.' for none."""
    return tuple("".join("." if k < 0 else str(k) for k in row) for row in labels.tolist())


def test_a_drawn_scene_becomes_what_the_rule_says(path):
    targets = (
        "aaabbb",
        "aaabbb",
        "..cc..",
    )
    seeds = np.array(
        [
            [0.92, 0.99, 0.92, 0.95, 0.95, 0.4],  # b's last pixel is no candidate
            [0.92, 0.92, 0.60, 0.95, 0.95, 0.95],
            [0.97, 0.10, 0.96, 0.96, 0.1, 0.1],  # a lone seed, and two pixels of c: both too small
        ]
    )
    maps = draw(("rrcccc", "rrcccc", "ccpprr"), targets, seeds)
    found = cluster(maps, CITYSCAPES, limits((3, 6), 2))
    assert rows(found.labels) == ("00011.", "000111", "......")
    np.testing.assert_array_equal(found.scores, np.float32([0.99, 0.95]))
    assert found.train_ids.tolist() == [CAR, CAR]  # 2 of the first's 6 pixels are car, the others are road, which has no vote

    fused = fuse_embeddings(maps, CITYSCAPES, limits((3, 6), 2))
    first, second, road = (CITYSCAPES.segment_id(*ids) for ids in ((CAR, 1), (CAR, 2), (ROAD,)))
    assert fused.segment_ids.tolist() == [[first] * 3 + [second] * 2 + [0], [first] * 3 + [second] * 3, [0] * 4 + [road] * 2]


def test_a_proposal_that_is_half_taken_is_rejected_and_blocks_its_pixels_all_the_same(path):
    points = torch.tensor([[0.0, 0.0, 0.4, 0.4, 0.8, 0.8]])
    maps = draw(("cccccc",), ("aaaaaa",), np.array([[0.99, 0.9, 0.9, 0.9, 0.95, 0.91]]))
    maps = replace(maps, embeddings=torch.stack([points, torch.zeros_like(points)]))
    # The first reaches 0.5: four pixels. The fifth reaches from 0.3 on: four, of which two are free, which is not more than half.
    found = cluster(maps, CITYSCAPES, limits((1, 6)))
    assert rows(found.labels) == ("0000..",)
    maps.bandwidths[0, 0, 0] = math.log(2) / 0.1**2  # now the first reaches two, so that the fifth finds all of its four free
    assert rows(cluster(maps, CITYSCAPES, limits((1, 6))).labels) == ("001111",)


def test_an_accepted_cluster_also_takes_pixels_of_earlier_ones(path):
    points = torch.tensor([[0.0, 0.4, 0.8, 0.8]])
    maps = draw(("cccc",), ("aaaa",), np.array([[0.99, 0.9, 0.95, 0.9]]))
    maps = replace(maps, embeddings=torch.stack([points, torch.zeros_like(points)]))
    assert rows(cluster(maps, CITYSCAPES, limits((1, 4))).labels) == ("0111",)  # 2 of the second's 3 are free


def test_of_equal_seeds_the_first_in_rows_comes_first(path):
    maps = draw(("cccc", "cccc"), ("..bb", "aabb"), np.full((2, 4), 0.95))
    assert rows(cluster(maps, CITYSCAPES, limits((2, 4), 1)).labels) == ("..00", "1100")


def test_two_bandwidths_stretch_a_cluster_along_one_axis(path):
    y = torch.tensor([[0.0, 0.8, 0.0, 0.8]])
    x = torch.tensor([[0.0, 0.0, 0.8, 0.8]])
    maps = draw(("cccc",), ("aaaa",), np.full((1, 4), 0.95))
    bandwidths = torch.tensor([math.log(2), 4 * math.log(2)])[:, None, None].expand(2, 1, 4)  # reaches 1 in y, 0.5 in x
    maps = replace(maps, embeddings=torch.stack([y, x]), bandwidths=bandwidths)
    assert rows(cluster(maps, CITYSCAPES, limits((1, 4), 1)).labels) == ("0011",)


def test_a_seed_below_the_limit_starts_nothing_and_nothing_after_it(path):
    maps = draw(("ccccc",), ("aaabb",), np.array([[0.8, 0.8, 0.8, 0.91, 0.6]]))
    assert rows(cluster(maps, CITYSCAPES, limits((1, 5))).labels) == ("...00",)
    assert rows(cluster(maps, CITYSCAPES, limits((1, 5), min_seed=0.7)).labels) == ("11100",)


def test_the_search_ends_when_few_pixels_are_free(path):
    maps = draw(("ccccccc",), ("aaaabbb",), np.array([[0.99] * 4 + [0.95] * 3]))
    assert rows(cluster(maps, CITYSCAPES, limits((1, 7), 2)).labels) == ("0000111",)
    assert rows(cluster(maps, CITYSCAPES, limits((1, 7), 3)).labels) == ("0000...",)


def test_a_cluster_is_named_by_most_of_its_thing_pixels():
    def named(semantic: str, **options) -> int:
        maps = draw((semantic,), ("aaaaa",), np.full((1, 5), 0.95))
        return int(cluster(maps, CITYSCAPES, limits((1, 5), **options)).train_ids.item())

    assert named("rrppc") == PERSON
    assert named("rppcc") == PERSON  # of equally many the lower train id
    assert named("rrr..") == CAR  # without a vote the seed's map
    assert named("ppppp", vote="seed") == CAR


def test_a_small_cluster_becomes_void_or_stuff():
    maps = draw(("rcccc",), ("aabbb",), np.full((1, 5), 0.95))
    fused = fuse_embeddings(maps, CITYSCAPES, replace(limits((1, 5)), min_thing_area=3 * AREA_REFERENCE / 5))
    assert fused.segment_ids.tolist() == [[CITYSCAPES.segment_id(ROAD), 0] + [CITYSCAPES.segment_id(CAR, 1)] * 3]


def test_ideal_embeddings_give_back_every_object(path):
    targets = np.random.default_rng(0).choice(list("abcdefghijkl"), (16, 24))
    maps = draw(("c" * 24,) * 16, tuple("".join(row) for row in targets), np.ones((16, 24)))
    found = cluster(maps, CITYSCAPES, limits((16, 24)))
    expected = {frozenset(np.flatnonzero(targets == letter)) for letter in "abcdefghijkl"}
    assert {frozenset(np.flatnonzero(found.labels == k)) for k in range(len(found.scores))} == expected


def test_an_object_of_one_pixel_is_found(path):
    maps = draw(("cr",), ("a.",), np.array([[1.0, 0.0]]))
    assert rows(cluster(maps, CITYSCAPES, limits((1, 2))).labels) == ("0.",)


@pytest.mark.parametrize("num_sigma", [1, 2])
def test_all_paths_equal_the_plain_rule_on_random_scenes(path, num_sigma):
    num_clusters = []
    for seed in range(100):
        maps = random_maps(seed, num_sigma=num_sigma)
        settings = limits((12, 17), seed % 5, min_candidate_seed=(0.5, 0.3)[seed % 2], min_seed=(0.9, 0.6)[seed // 2 % 2])
        found, expected = cluster(maps, CITYSCAPES, settings), plain_cluster(maps, CITYSCAPES, settings)
        assert are_equal(found, expected), f"scene {seed}"
        np.testing.assert_array_equal(
            fuse_embeddings(maps, CITYSCAPES, settings).segment_ids, plain_fusion(maps, CITYSCAPES, settings)
        )
        num_clusters.append(len(expected.scores))
    assert min(num_clusters) <= 2 < 8 <= max(num_clusters)


def test_arrays_are_clustered_as_tensors_are():
    maps = random_maps(0)
    names = ("embeddings", "bandwidths", "seeds", "semantic_train_ids")
    arrays = replace(maps, **{name: getattr(maps, name).numpy() for name in names})
    assert are_equal(cluster(arrays, CITYSCAPES, limits((12, 17))), cluster(maps, CITYSCAPES, limits((12, 17))))
    found, expected = (fuse_embeddings(given, CITYSCAPES, limits((12, 17))) for given in (arrays, maps))
    assert np.array_equal(found.segment_ids, expected.segment_ids)


def test_batches_of_any_size_give_the_same(monkeypatch):
    search_by_torch(monkeypatch)
    for batch, most in ((1, 1), (5, 2), (7, 7)):
        monkeypatch.setattr(embedding_proposals_torch, "BATCH", batch)
        monkeypatch.setattr(embedding_proposals_torch, "MOST_PROPOSALS", most)
        for seed in range(20):
            maps, settings = random_maps(seed), limits((12, 17), 1, min_seed=0.6)
            assert are_equal(cluster(maps, CITYSCAPES, settings), plain_cluster(maps, CITYSCAPES, settings))


def test_an_image_without_seeds_has_no_clusters(path):
    maps = draw(("rc",), ("aa",), np.zeros((1, 2)))
    found = cluster(maps, CITYSCAPES)
    assert (found.labels == -1).all()
    assert len(found.scores) == len(found.train_ids) == 0
    segment_ids = fuse_embeddings(maps, CITYSCAPES, limits((1, 2))).segment_ids
    assert segment_ids.tolist() == [[CITYSCAPES.segment_id(ROAD), 0]]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seeds", math.nan, "scene: seeds are NaN"),
        ("seeds", 1.5, "not from 0 to 1"),
        ("embeddings", math.nan, "scene: embeddings or bandwidths are NaN"),
        ("bandwidths", math.inf, "infinite"),
        ("bandwidths", -1.0, "below 0"),
    ],
)
def test_impossible_values_are_refused(path, name, value, message):
    maps = draw(("cc",), ("aa",), np.full((1, 2), 0.95))
    getattr(maps, name)[-1, 0, 1] = value
    with pytest.raises(InputError, match=message):
        cluster(maps, CITYSCAPES)


def test_a_seed_of_minus_zero_is_a_zero(path):
    maps = draw(("cc",), ("aa",), np.array([[0.95, 0.0]]))
    maps.seeds[:, 0, 1] = -0.0
    assert rows(cluster(maps, CITYSCAPES, limits((1, 2))).labels) == ("0.",)


def test_maps_that_do_not_fit_are_refused():
    maps = draw(("cc",), ("aa",), np.full((1, 2), 0.95))
    with pytest.raises(InputError, match="embeddings are of 'other'"):
        cluster(replace(maps, taxonomy="other"), CITYSCAPES)
    with pytest.raises(InputError, match="1 seed maps, but cityscapes has 8"):
        cluster(replace(maps, seeds=maps.seeds[:1]), CITYSCAPES)
    with pytest.raises(InputError, match=r"bandwidths are float32 \(3, 1, 2\), but float32 \(1 or 2, 1, 2\)"):
        replace(maps, bandwidths=torch.ones(3, 1, 2))
    with pytest.raises(InputError, match="float64"):
        replace(maps, embeddings=maps.embeddings.double())
    with pytest.raises(InputError, match="semantic_train_ids are int64"):
        replace(maps, semantic_train_ids=maps.semantic_train_ids.long())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"min_seed": 1.1}, "share"), ({"min_pixels": math.nan}, "area"), ({"vote": "size"}, "semantic or seed")],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ClusterSettings(**options)
