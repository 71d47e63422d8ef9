"""Detections of several views: moved back to the image, and one for each object."""

import torch

from detection.instance_head import Detections
from detection.views import detections_on_image, merge_views


def detections(*entries: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    """(x1, y1, x2, y2), train id and score each; masks that are the number of the entry on the left, 0 on the right."""
    masks = torch.zeros(len(entries), 28, 28)
    for k in range(len(entries)):
        masks[k, :, :14] = k + 1
    return Detections(
        boxes=torch.tensor([box for box, _, _ in entries], dtype=torch.float32).reshape(-1, 4),
        train_ids=torch.tensor([train_id for _, train_id, _ in entries], dtype=torch.int64),
        scores=torch.tensor([score for _, _, score in entries]),
        mask_logits=masks,
    )


def test_a_view_of_half_the_size_is_enlarged_and_a_flipped_one_turned_back():
    seen = detections(((2, 4, 10, 12), 11, 0.9))
    plain = detections_on_image(seen, (20, 40), (40, 80))
    assert plain.boxes.tolist() == [[4, 8, 20, 24]]
    assert torch.equal(plain.mask_logits, seen.mask_logits)
    flipped = detections_on_image(seen, (20, 40), (40, 80), is_flipped=True)
    assert flipped.boxes.tolist() == [[60, 8, 76, 24]]  # 80 - 20 and 80 - 4
    assert torch.equal(flipped.mask_logits, seen.mask_logits.flip(-1))


def test_an_object_that_several_views_see_is_kept_once_as_the_surest_saw_it():
    first = detections(((0, 0, 10, 10), 11, 0.6), ((30, 0, 40, 10), 11, 0.5))
    second = detections(((0, 0, 10, 11), 11, 0.8), ((0, 0, 10, 10), 13, 0.7), ((60, 0, 70, 10), 11, 0.4))
    merged = merge_views([first, second], max_detections=100)
    torch.testing.assert_close(merged.scores, torch.tensor([0.8, 0.7, 0.5, 0.4]))  # another class is another object
    assert merged.train_ids.tolist() == [11, 13, 11, 11]
    assert merged.boxes[0].tolist() == [0, 0, 10, 11]
    assert merged.mask_logits.amax((1, 2)).tolist() == [1, 2, 2, 3]
    assert merge_views([first, second], max_detections=2).scores.tolist() == merged.scores[:2].tolist()


def test_views_may_see_nothing():
    nothing, one = detections(), detections(((0, 0, 10, 10), 11, 0.6))
    assert len(merge_views([nothing, nothing], 100).scores) == 0
    assert merge_views([nothing, one], 100).scores.tolist() == one.scores.tolist()
    assert merge_views([one], 100) is one
