"""SOLOv2 with EfficientNet-Lite0 on Streets (192x384), from ImageNet weights that a package brings, for two CPU cores.

Another number of epochs is --epochs N. From random weights, to compare: --weights none.
"""

_base_ = "./streets_r18.py"

weights = "lite0"
model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),  # what the weights want
    backbone=dict(_delete_=True, type="LiteBackbone", variant="lite0", norm_momentum=0.1),
    # Lite's first three features are ten times as large as the last, which without norms is lost in the sums of the pyramid.
    neck=dict(in_channels=[24, 40, 112, 1280], norm_cfg=dict(type="GN", num_groups=8, requires_grad=True)),
)
