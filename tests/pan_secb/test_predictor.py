"""A checkpoint becomes panoptic maps of pictures of any size; what is no checkpoint of Pan-SECB is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.normalization import IMAGENET, normalize
from data.taxonomy import CITYSCAPES
from fusion.embedding_clusters import fuse_embeddings
from fusion.settings import ClusterSettings
from pan_secb.embeddings import bandwidth, embed
from pan_secb.predictor import load_predictor
from runtime.files import InputError


def drawn_picture(height: int = 45, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@torch.no_grad()
def test_a_picture_of_any_size_gives_the_networks_maps_without_the_padding(checkpoint):
    predictor, picture = load_predictor(checkpoint), drawn_picture()
    maps = predictor.maps("a", picture)
    padded = F.pad(torch.from_numpy(normalize(picture, IMAGENET)), (0, 2, 0, 3))[None]  # 45x70 -> 48x72
    offsets, sigmas, seeds, semantic = (values[0, :, :45, :70] for values in predictor.network(padded))
    for found, expected in (
        (maps.embeddings, embed(offsets, 128)),
        (maps.bandwidths, bandwidth(sigmas)),
        (maps.seeds, seeds.sigmoid()),
    ):
        torch.testing.assert_close(found, expected)
    assert torch.equal(maps.semantic_train_ids, semantic.argmax(0).byte())


def test_the_panoptic_map_is_clustered_as_the_checkpoint_says_unless_told_otherwise(checkpoint):
    picture = drawn_picture()
    predictor = load_predictor(checkpoint)
    panoptic = predictor.panoptic("a", picture)
    expected = fuse_embeddings(predictor.maps("a", picture), CITYSCAPES, predictor.clustering)
    assert np.array_equal(panoptic.segment_ids, expected.segment_ids)
    assert sum(segment.score is not None for segment in panoptic.segments) > 3
    strict = load_predictor(checkpoint, clustering=ClusterSettings(min_candidate_seed=0.99, min_seed=1))
    assert not any(segment.score is not None for segment in strict.panoptic("a", picture).segments)


def test_the_producers_name_changes_with_weights_settings_and_picture(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["network.encoder.0.conv.bias"][0] += 1
    torch.save(content, tmp_path / "other.ckpt")
    picture = tmp_path / "a.png"
    picture.write_bytes(b"one")
    predictor = load_predictor(checkpoint)
    names = [predictor.producer_of(picture), load_predictor(tmp_path / "other.ckpt").producer_of(picture)]
    names.append(load_predictor(checkpoint, clustering=ClusterSettings()).producer_of(picture))
    assert predictor.producer_of(picture) == names[0]
    picture.write_bytes(b"three")
    names.append(predictor.producer_of(picture))
    assert len(set(names)) == 4


def damage(content: dict, kind: str) -> None:
    if kind == "another system":
        content["hyper_parameters"] = {"network": {"variant": "b0"}, "taxonomy": "x", "categories": [{"id": 1, "name": "x"}]}
    elif kind == "another width":
        content["hyper_parameters"]["network"] = content["hyper_parameters"]["network"] | {"width": 0.5}
    elif kind == "nan":
        content["state_dict"]["network.encoder.0.conv.bias"][0] = torch.nan
    elif kind == "no clustering":
        del content["hyper_parameters"]["clustering"]
    elif kind == "impossible clustering":
        content["hyper_parameters"]["clustering"]["min_seed"] = 7.0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another system", "no checkpoint of pan_secb/train.py"),
        ("another width", "is of another network"),
        ("nan", "NaN or infinite weights in encoder.0.conv.bias"),
        ("no clustering", "no checkpoint of pan_secb/train.py"),
        ("impossible clustering", "min_seed is 7.0"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint, tmp_path, kind, words):
    content = torch.load(checkpoint, weights_only=True)
    damage(content, kind)
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match=words):
        load_predictor(tmp_path / "bad.ckpt")


def test_a_missing_or_cut_off_checkpoint_says_what_to_do(checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"no such checkpoint; train first: python pan_secb/train\.py"):
        load_predictor(Path("nowhere.ckpt"))
    (tmp_path / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(InputError, match="broken checkpoint"):
        load_predictor(tmp_path / "cut.ckpt")


def test_numbers_that_overflow_are_refused(checkpoint):
    predictor = load_predictor(checkpoint)
    with torch.no_grad():
        predictor.network.seed_decoder.output.bias.fill_(torch.inf)
    with pytest.raises(InputError, match="a: the model gives NaN or infinite"):
        predictor.maps("a", drawn_picture())
