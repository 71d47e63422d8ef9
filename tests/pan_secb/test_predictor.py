"""A checkpoint becomes panoptic maps of images of any size; what is no checkpoint of Pan-SECB is refused."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.normalization import IMAGENET, normalize
from data.resizing import resize_image
from data.taxonomy import CITYSCAPES
from fusion.embedding_clusters import fuse_embeddings
from pan_secb.embeddings import bandwidth, coordinates, embed
from pan_secb.predictor import load_predictor
from prediction.views import ViewSettings
from runtime.files import InputError


def drawn_image(height: int = 45, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@torch.no_grad()
def test_an_image_of_any_size_gives_the_networks_maps_without_the_padding(checkpoint):
    predictor, image = load_predictor(checkpoint), drawn_image()
    maps = predictor.maps("a", image)
    padded = F.pad(torch.from_numpy(normalize(image, IMAGENET)), (0, 26, 0, 19))[None]  # 45x70 -> 64x96, as in validation
    offsets, sigmas, seeds, semantic = (values[0, :, :45, :70] for values in predictor.network(padded))
    for found, expected in (
        (maps.embeddings, embed(offsets, 128)),
        (maps.bandwidths, bandwidth(sigmas)),
        (maps.seeds, seeds.sigmoid()),
    ):
        torch.testing.assert_close(found, expected)
    assert torch.equal(maps.semantic_train_ids, semantic.argmax(0).byte())


def test_the_panoptic_map_is_clustered_as_the_checkpoint_says_unless_told_otherwise(checkpoint):
    image = drawn_image()
    predictor = load_predictor(checkpoint)
    panoptic = predictor.predict("a", image).panoptic
    expected = fuse_embeddings(predictor.maps("a", image), CITYSCAPES, predictor.clustering)
    assert np.array_equal(panoptic.segment_ids, expected.segment_ids)
    assert sum(segment.score is not None for segment in panoptic.segments) > 3
    strict = load_predictor(checkpoint, clustering={"min_candidate_seed": 0.99, "min_seed": 1})
    assert asdict(strict.clustering) == asdict(predictor.clustering) | {"min_candidate_seed": 0.99, "min_seed": 1}
    assert not any(segment.score is not None for segment in strict.predict("a", image).panoptic.segments)


@pytest.fixture
def resized(checkpoint, tmp_path) -> Path:
    """A checkpoint of a network that was trained on images of 32 pixels' height."""
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["input_size"]["trained_sides"] = (32, 32)
    torch.save(content, tmp_path / "resized.ckpt")
    return tmp_path / "resized.ckpt"


def test_an_image_is_seen_at_the_size_of_the_training_and_its_result_has_its_own(checkpoint, resized):
    predictor, image = load_predictor(resized), drawn_image(64, 96)
    maps = predictor.maps("a", image)
    assert (maps.height, maps.width) == (32, 48)
    found = predictor.predict("a", image)
    small = load_predictor(checkpoint).predict("a", resize_image(image, (32, 48)))
    doubled = small.panoptic.segment_ids.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(found.panoptic.segment_ids, doubled)
    assert np.array_equal(found.semantic.train_ids, small.semantic.train_ids.repeat(2, 0).repeat(2, 1))
    assert [s.area for s in found.panoptic.segments] == [4 * s.area for s in small.panoptic.segments]
    assert [s.score for s in found.panoptic.segments] == [s.score for s in small.panoptic.segments]


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (45, 70)])
@pytest.mark.parametrize("views", [ViewSettings(), ViewSettings(flip=True)], ids=["plain", "flip"])
def test_images_of_any_size_get_a_map_of_theirs(resized, size, views):
    found = load_predictor(resized, views=views).predict("a", drawn_image(*size))
    assert found.panoptic.segment_ids.shape == found.semantic.train_ids.shape == size


def test_the_mirror_image_gets_the_mirrored_maps(checkpoint):
    """With a flip both see the same two images, at sizes that need no padding."""
    predictor, image = load_predictor(checkpoint, views=ViewSettings(flip=True)), drawn_image(64, 96)
    found, mirrored = predictor.maps("a", image), predictor.maps("a", np.ascontiguousarray(image[:, ::-1]))
    assert torch.equal(mirrored.semantic_train_ids, found.semantic_train_ids.flip(-1))
    torch.testing.assert_close(mirrored.seeds, found.seeds.flip(-1))
    away, away_mirrored = (maps.embeddings - coordinates(64, 96, 128) for maps in (found, mirrored))
    torch.testing.assert_close(away_mirrored, away.flip(-1) * torch.tensor([1.0, -1.0]).view(2, 1, 1), rtol=1e-4, atol=1e-6)
    plain = load_predictor(checkpoint).maps("a", image)
    assert not torch.equal(plain.semantic_train_ids, found.semantic_train_ids)  # the second view has its say


def test_scales_are_refused_with_the_reason(checkpoint):
    with pytest.raises(InputError, match=r"no test-time scales \[0.5, 1.0\]: its embeddings' unit is a number of pixels"):
        load_predictor(checkpoint, views=ViewSettings((0.5, 1.0)))


def test_a_fingerprint_is_of_the_weights_and_of_every_setting(checkpoint, resized, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["network.encoder.0.conv.bias"][0] += 1
    torch.save(content, tmp_path / "other.ckpt")
    names = [load_predictor(path).fingerprint("a") for path in (checkpoint, tmp_path / "other.ckpt", resized)]
    names.append(load_predictor(checkpoint, clustering={"min_seed": 0.8}).fingerprint("a"))
    names.append(load_predictor(checkpoint, views=ViewSettings(flip=True)).fingerprint("a"))
    assert load_predictor(checkpoint).fingerprint("a") == names[0]
    assert len(set(names)) == 5


def damage(content: dict, kind: str) -> None:
    if kind == "another system":
        content["hyper_parameters"] = content["hyper_parameters"] | {"system": "efficientps"}
    elif kind == "another width":
        content["hyper_parameters"]["network"] = content["hyper_parameters"]["network"] | {"width": 0.5}
    elif kind == "nan":
        content["state_dict"]["network.encoder.0.conv.bias"][0] = torch.nan
    elif kind == "no input size":
        del content["hyper_parameters"]["input_size"]
    elif kind == "no clustering":
        del content["hyper_parameters"]["clustering"]
    elif kind == "impossible clustering":
        content["hyper_parameters"]["clustering"]["min_seed"] = 7.0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another system", "is a checkpoint of efficientps, but one of pan_secb is needed; train first"),
        ("another width", "is of another network"),
        ("nan", "NaN or infinite weights in encoder.0.conv.bias"),
        ("no input size", r"no checkpoint of pan_secb/train.py \('input_size'\)"),
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
        predictor.maps("a", drawn_image())
