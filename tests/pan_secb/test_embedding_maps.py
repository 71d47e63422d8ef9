"""What the clustering gets: the truth's ideal maps give back every object, the network's are unpadded and activated."""

import numpy as np
import pytest
import torch

from data.drawn.streets import StreetsSettings, draw_scene
from data.layouts.cityscapes import instance_ids_to_panoptic
from data.panoptic_png import PanopticMap
from data.taxonomy import CITYSCAPES
from fusion.embedding_clusters import fuse_embeddings
from fusion.settings import ClusterSettings
from pan_secb.embedding_maps import average_with_flipped, ideal_embeddings, to_embedding_maps
from pan_secb.embeddings import bandwidth, coordinates, embed
from pan_secb.network import EmbeddingOutput

ALL_SIZES = ClusterSettings(min_pixels=0, min_thing_area=0, min_stuff_area=0)


def segments(panoptic: PanopticMap) -> set[tuple[int, bytes]]:
    """Category and pixels of each segment that is no crowd, whatever its number."""
    listed = [s for s in panoptic.segments if not s.is_crowd]
    return {(s.category_id, np.packbits(panoptic.segment_ids == s.segment_id).tobytes()) for s in listed}


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_every_object_of_a_hundred_streets_comes_back_from_ideal_embeddings(first):
    streets = StreetsSettings(128, 256, num_train=100, num_val=1, seed=5)
    num_objects = 0
    for index in range(first, first + 25):
        truth = instance_ids_to_panoptic(draw_scene(streets, "train", index).instance_ids)
        maps = ideal_embeddings(truth, CITYSCAPES, image_id=str(index), pixels_per_unit=128)
        found = fuse_embeddings(maps, CITYSCAPES, ALL_SIZES)
        assert segments(found) == segments(truth), index
        num_objects += sum(s.segment_id >= 1000 for s in found.segments)
    assert num_objects > 100


def test_ideal_embeddings_are_the_means_of_the_objects_pixels():
    instance_ids = np.full((3, 6), 7)
    instance_ids[0, 0] = instance_ids[0, 3] = instance_ids[2, 0] = 26000  # mean (2/3, 1)
    instance_ids[1, 4:] = 24001  # mean (1, 4.5)
    instance_ids[2, 5] = 26  # a crowd
    maps = ideal_embeddings(instance_ids_to_panoptic(instance_ids), CITYSCAPES, image_id="a", pixels_per_unit=10)
    expected = coordinates(3, 6, pixels_per_unit=10)
    expected[:, instance_ids == 26000] = torch.tensor([[2 / 30], [0.1]])
    expected[:, instance_ids == 24001] = torch.tensor([[0.1], [0.45]])
    torch.testing.assert_close(maps.embeddings, expected)
    for seeds, train_id in zip(maps.seeds, CITYSCAPES.thing_ids, strict=True):
        value = {24: 24001, 26: 26000}.get(int(CITYSCAPES.dataset_ids[train_id]), -1)
        assert np.array_equal(seeds.numpy(), instance_ids == value)


def test_the_maps_of_an_image_are_its_output_without_the_padding(random_output):
    output = random_output(2, 8, 16, num_sigma=2)
    maps = to_embedding_maps(output, 1, image_id="a", height=5, width=9, taxonomy=CITYSCAPES, pixels_per_unit=10)
    assert (maps.image_id, maps.height, maps.width, maps.taxonomy) == ("a", 5, 9, CITYSCAPES.name)
    torch.testing.assert_close(maps.embeddings, embed(output.offsets, 10)[1, :, :5, :9])
    torch.testing.assert_close(maps.bandwidths, bandwidth(output.sigmas)[1, :, :5, :9])
    torch.testing.assert_close(maps.seeds, output.seeds[1, :, :5, :9].sigmoid())
    assert torch.equal(maps.semantic_train_ids.long(), output.semantic[1, :, :5, :9].argmax(0))


def mirrored(output: EmbeddingOutput) -> EmbeddingOutput:
    """What a network without a preferred side says of the mirror image: x points the other way."""
    offsets, *others = (values.flip(-1) for values in output)
    return EmbeddingOutput(offsets * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1), *others)


def test_an_output_and_its_mirrored_counterpart_average_to_the_output(random_output):
    output = random_output(1, 8, 16, num_sigma=2)
    found = average_with_flipped(output, mirrored(output), (8, 16))
    # Offsets go through tanh and back, in 32 bits.
    torch.testing.assert_close(found.offsets, output.offsets, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(*pair) for pair in zip(found[1:], output[1:], strict=True))


def test_both_outputs_count_the_same_and_padding_counts_for_nothing(random_output):
    output = random_output(1, 8, 16)
    other = EmbeddingOutput(*(values + 1 for values in mirrored(output)))
    found = average_with_flipped(output, other, (8, 16))
    torch.testing.assert_close(found.seeds, output.seeds + 0.5)
    swapped = average_with_flipped(other, output, (8, 16))
    torch.testing.assert_close(swapped.seeds, found.seeds.flip(-1))

    # Padded on the right, each on its own side of the image.
    padded = EmbeddingOutput(*(torch.nn.functional.pad(values, (0, 8, 0, 8), value=9.0) for values in output))
    flipped = EmbeddingOutput(*(torch.nn.functional.pad(values, (0, 8, 0, 8), value=-9.0) for values in mirrored(output)))
    cut = average_with_flipped(padded, flipped, (8, 16))
    assert cut.seeds.shape == (1, len(CITYSCAPES.thing_ids), 8, 16)
    assert torch.equal(cut.seeds, output.seeds)
