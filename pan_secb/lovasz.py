"""Lovász hinge (Berman, Rannen Triki & Blaschko, CVPR 2018): a convex surrogate of 1 - IoU of a binary mask.

With errors in descending order the loss is their sum, each times what it adds to the Jaccard loss 1 - IoU when its pixel turns
wrong after all before it. With P foreground pixels in all, and n background and p foreground pixels wrong so far, that loss is
1 - (P - p) / (P + n). Hence a foreground pixel adds 1 / (P + n), and the n-th background pixel
(P - p) / ((P + n) (P + n - 1)): written so, no two numbers near 1 are subtracted.
"""

import torch
from torch import Tensor


def lovasz_hinge(logits: Tensor, is_foreground: Tensor) -> Tensor:
    """The Lovász hinge of each of K masks.

    Args:
        logits: (K, N), above 0 for foreground.
        is_foreground: (K, N) bool.

    Returns:
        (K,). Of a mask without foreground it is the largest error.
    """
    errors = (1 - torch.where(is_foreground, logits, -logits)).relu()
    groups = torch.arange(len(logits), device=logits.device).repeat_interleave(logits.shape[1])
    return lovasz_extension(errors.flatten(), is_foreground.flatten(), groups, len(logits))


def lovasz_extension(errors: Tensor, is_foreground: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """The same from errors that are not negative, of masks of any sizes side by side.

    Pixels with error 0 may stay away, and so may background pixels whose error is below that of every foreground pixel of
    their mask: their weights are 0.

    Args:
        errors: (M,), 0 or more.
        is_foreground: (M,) bool. All foreground pixels of a mask must be there: they are counted.
        groups: (M,) int64 in 0 .. num_groups - 1: which mask a pixel is of.

    Returns:
        (num_groups,); 0 for a mask without pixels.
    """
    weights = _jaccard_gradient(errors.detach(), is_foreground, groups, num_groups)
    # In 64 bits, since a mask has up to a million pixels.
    sums = torch.zeros(num_groups, dtype=torch.float64, device=errors.device)
    return sums.index_add(0, groups, (errors * weights).double()).to(errors.dtype)


@torch.no_grad()
def _jaccard_gradient(errors: Tensor, is_foreground: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """(M,): what each error is multiplied with."""
    order = _descending(errors)
    order = order[groups[order].int().argsort(stable=True)]  # mask by mask, the largest error first
    is_foreground = is_foreground[order]
    sizes = torch.bincount(groups, minlength=num_groups)
    starts = sizes.cumsum(0) - sizes
    wrong = is_foreground.cumsum(0)  # foreground pixels up to here, those of the masks before too
    wrong_before = torch.cat((wrong.new_zeros(1), wrong))
    wrong_before, total = wrong_before[starts], wrong_before[starts + sizes] - wrong_before[starts]
    right = (wrong_before + total).repeat_interleave(sizes) - wrong  # P - p
    places = torch.arange(1, len(errors) + 1, device=errors.device) - starts.repeat_interleave(sizes)
    union = (right + places).to(errors.dtype)  # P + n
    weights = torch.where(is_foreground, 1 / union, right / (union * (union - 1).clamp(min=1)))
    weights[starts[(total == 0) & (sizes > 0)]] = 1.0  # the first pixel of a mask without foreground
    unsorted = torch.empty_like(weights)
    unsorted[order] = weights
    return unsorted


def _descending(errors: Tensor) -> Tensor:
    """The order of numbers that are not negative, the largest first.

    Their bits, as an integer, are in the same order, and torch sorts integers twice as fast on a CPU.
    """
    integers = torch.int32 if errors.dtype == torch.float32 else torch.int64
    bits = (errors + 0.0).view(integers)  # + 0: a negative zero becomes a positive one
    return (torch.iinfo(integers).max - bits).argsort(stable=True)
