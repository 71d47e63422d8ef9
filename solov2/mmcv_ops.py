"""mmcv's compiled operators, backed by torchvision where mmcv-lite is installed, so that mmdet needs no compiler.

mmcv has no wheel for torch >= 2.5, and mmcv-lite ships `mmcv/ops/*.py` without the `mmcv._ext` that they call. `install`
puts a module of that name in its place. nms, roi_align, deform_conv, modulated_deform_conv and sigmoid_focal_loss (what
mmdet's FocalLoss calls on a GPU) compute what mmcv computes; every other operator raises. A real mmcv is left alone.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
from torch import Tensor
from torchvision import ops

NAME = "mmcv._ext"


def install() -> None:
    """Make `import mmdet` work; call before it. A second call, or one beside a real mmcv, does nothing."""
    if importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = TorchvisionExt()


class TorchvisionExt(ModuleType):
    """Stands for `mmcv._ext`. The functions have the signatures of mmcv's C++ ones, which fill buffers given to them."""

    def __init__(self):
        super().__init__(NAME, __doc__)
        self.__spec__ = ModuleSpec(NAME, loader=None)  # mmcv asks find_spec, which refuses a module without one
        self.__dict__.update(BACKED)

    def __getattr__(self, name: str) -> Callable:
        # mmcv looks up all its operators on import; only a call may fail. Dunders are Python's own questions.
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(
                f"mmcv operator {name!r} is not compiled and has no stand-in here (there are: {', '.join(BACKED)}); "
                "install the full mmcv 2.1.0 in place of mmcv-lite to use it"
            )

        return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that stay, best first; `offset` is 1 where x2, y2 are the last pixel, not the edge."""
    return ops.nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)


def roi_align_forward(features, rois, output, argmax_y, argmax_x, *, pool_mode: int, **geometry) -> None:
    """Fill `output` (R, C, h, w); argmax buffers are unused in average mode."""
    output.copy_(_roi_align(features, rois, pool_mode, **geometry))


def roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input, *, pool_mode: int, **geometry) -> None:
    """Fill `grad_input` (B, C, H, W). The operator is linear in the features, so their values do not matter."""
    pooled = lambda features: _roi_align(features, rois, pool_mode, **geometry)  # noqa: E731
    _fill_gradients(pooled, [torch.zeros_like(grad_input)], grad_output, [grad_input])


def _roi_align(
    features: Tensor,
    rois: Tensor,
    pool_mode: int,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    if pool_mode != 1:
        raise NotImplementedError(
            "mmcv operator 'roi_align' in max mode has no stand-in here; use pool_mode='avg' or install the full mmcv 2.1.0"
        )
    return ops.roi_align(features, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)


def deform_conv_forward(features, weight, offset, output, columns, ones, **geometry) -> None:
    """Fill `output` with the deformable convolution, version 1."""
    output.copy_(_deform_conv(features, offset, weight, **geometry))


def deform_conv_backward_input(features, offset, grad_output, grad_features, grad_offset, weight, columns, **geometry) -> None:
    """Fill the gradients of the features and of the offset."""
    convolve = lambda x, o: _deform_conv(x, o, weight, **geometry)  # noqa: E731
    _fill_gradients(convolve, [features, offset], grad_output, [grad_features, grad_offset])


def deform_conv_backward_parameters(
    features, offset, grad_output, grad_weight, columns, ones, *, scale: float, **geometry
) -> None:
    """Fill the gradient of the weight, times `scale`. The operator is linear in the weight: its values do not matter."""
    convolve = lambda w: _deform_conv(features, offset, w, **geometry)  # noqa: E731
    _fill_gradients(convolve, [torch.zeros_like(grad_weight)], grad_output * scale, [grad_weight])


def _deform_conv(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> Tensor:
    # torchvision reads the group counts from the shapes; im2col_step only bounds mmcv's memory.
    return ops.deform_conv2d(features, offset, weight, None, (dH, dW), (padH, padW), (dilationH, dilationW))


def modulated_deform_conv_forward(features, weight, bias, ones, offset, mask, output, columns, **geometry) -> None:
    """Fill `output` with the deformable convolution, version 2 (DCNv2)."""
    output.copy_(_modulated_deform_conv(features, offset, mask, weight, bias, **geometry))


def modulated_deform_conv_backward(
    features,
    weight,
    bias,
    ones,
    offset,
    mask,
    columns,
    grad_features,
    grad_weight,
    grad_bias,
    grad_offset,
    grad_mask,
    grad_output,
    **geometry,
) -> None:
    """Fill the gradients of the features, offset, mask and weight, and of the bias where there is one."""
    inputs, gradients = [features, offset, mask, weight], [grad_features, grad_offset, grad_mask, grad_weight]
    if geometry["with_bias"]:
        inputs, gradients = [*inputs, bias], [*gradients, grad_bias]
    convolve = lambda x, o, m, w, b=None: _modulated_deform_conv(x, o, m, w, b, **geometry)  # noqa: E731
    _fill_gradients(convolve, inputs, grad_output, gradients)


def _modulated_deform_conv(
    features: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> Tensor:
    stride, padding, dilation = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    return ops.deform_conv2d(features, offset, weight, bias if with_bias else None, stride, padding, dilation, mask)


def sigmoid_focal_loss_forward(logits, labels, weight, output, gamma: float, alpha: float) -> None:
    """Fill `output` (N, C) from logits (N, C) and labels (N,); label C is background."""
    output.copy_(_sigmoid_focal_loss(logits, labels, weight, gamma, alpha))


def sigmoid_focal_loss_backward(logits, labels, weight, grad_logits, gamma: float, alpha: float) -> None:
    """Fill the gradient of the sum of all losses; mmcv multiplies it by the incoming one."""
    loss = lambda x: _sigmoid_focal_loss(x, labels, weight, gamma, alpha)  # noqa: E731
    _fill_gradients(loss, [logits], torch.ones_like(logits), [grad_logits])


def _sigmoid_focal_loss(logits: Tensor, labels: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    num_classes = logits.shape[1]
    is_class = (labels[:, None] == torch.arange(num_classes, device=labels.device)).to(logits.dtype)
    loss = ops.sigmoid_focal_loss(logits, is_class, alpha, gamma)
    # An empty weight means none. mmcv's kernel reads weight[label], background beyond its end; a class weight is meant.
    return loss * weight if len(weight) else loss


def _fill_gradients(function: Callable, inputs: list[Tensor], grad_output: Tensor, gradients: list[Tensor]) -> None:
    """Run `function` again with autograd and copy the gradients of its inputs into the given buffers."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        computed = torch.autograd.grad(function(*leaves), leaves, grad_output)
    for buffer, gradient in zip(gradients, computed, strict=True):
        buffer.copy_(gradient)


BACKED = {
    function.__name__: function
    for function in (
        nms,
        roi_align_forward,
        roi_align_backward,
        deform_conv_forward,
        deform_conv_backward_input,
        deform_conv_backward_parameters,
        modulated_deform_conv_forward,
        modulated_deform_conv_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
    )
}
