"""Views of an image: which ones settings name, and that what is seen on one comes back to its place."""

import pytest
import torch

from data.resizing import logits_on_image
from prediction.views import PLAIN, View, ViewSettings
from runtime.files import InputError


def test_the_order_of_scales_and_their_repetition_do_not_matter():
    first, second = ViewSettings((0.75, 1, 1.25), flip=True), ViewSettings((1.25, 1.0, 0.75, 1.0), flip=True)
    assert first.views() == second.views()
    assert len(first.views()) == 6
    assert first.suffix == second.suffix == "-tta-0.75-1-1.25-flip"
    assert ViewSettings((1,)) == PLAIN
    assert PLAIN.suffix == ""
    assert PLAIN.views() == [View(1.0, False)]
    assert PLAIN.is_plain
    assert not first.is_plain


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -0.5), (float("nan"),), (float("inf"),), (9.0,)])
def test_scales_that_cannot_be_are_refused(scales):
    with pytest.raises(InputError, match=r"factors above 0 and up to 8 are needed"):
        ViewSettings(scales)


def scene_logits(size: tuple[int, int], net_size: tuple[int, int], is_flipped: bool = False) -> torch.Tensor:
    """What a perfect network gives at stride 4 for the functions y and x of the original image, padded to multiples of 32."""
    rows, columns = (-(-side // 32) * 8 for side in net_size)
    y, x = (torch.arange(cells) * 4.0 + 2 for cells in (rows, columns))  # the middles, in pixels of the network's input
    x = net_size[1] - x if is_flipped else x
    y, x = y * size[0] / net_size[0], x * size[1] / net_size[1]
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("net_size", [(64, 96), (48, 72), (80, 121), (65, 99)])
@pytest.mark.parametrize("size", [(64, 96), (65, 99)])
def test_what_a_view_sees_of_a_place_comes_back_to_that_place(size, net_size, is_flipped):
    found = logits_on_image(scene_logits(size, net_size, is_flipped), net_size, size, 4, 4, is_flipped)
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    y, x = torch.meshgrid(torch.arange(rows) * 4.0 + 2, torch.arange(columns) * 4.0 + 2, indexing="ij")
    # Linear functions are kept exactly by bilinear reading, but for cells whose middle lies at the border or beyond it.
    inner = (slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[0][inner], y[inner], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1][inner], x[inner], atol=1e-3, rtol=0)


def test_flipping_back_is_exact_where_the_grid_fits_the_width():
    logits = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(logits_on_image(logits, (32, 64), (32, 64), 4, 4, is_flipped=True), logits.flip(-1))
    padded = torch.cat([logits, torch.full((3, 8, 8), 99.0)], 2)  # cells of the padding on the right
    assert torch.equal(logits_on_image(padded, (32, 64), (32, 64), 4, 4, is_flipped=True), logits.flip(-1))
    assert logits_on_image(logits[:0], (32, 63), (32, 63), 4, 4, is_flipped=True).shape == (0, 8, 16)
