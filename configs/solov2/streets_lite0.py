"""The demo's stage 1: SOLOv2 with EfficientNet-Lite0 on Streets (192x384), from ImageNet weights that a package brings, on a CPU.

Another number of epochs is --epochs N. From random weights, to compare, all must learn: --weights none
--cfg-options model.backbone.trainable_stages=5.
"""

_base_ = "./streets_r18.py"

weights = "lite0"
model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),  # what the weights want
    # The stem and what follows up to stride 4 stay, which saves a sixth of the time.
    backbone=dict(_delete_=True, type="LiteBackbone", variant="lite0", norm_momentum=0.1, trainable_stages=3),
    # Lite's first three features are ten times as large as the last, which without norms is lost in the sums of the pyramid.
    neck=dict(in_channels=[24, 40, 112, 1280], norm_cfg=dict(type="GN", num_groups=8, requires_grad=True)),
)

train_dataloader = dict(batch_size=2)  # more and smaller steps
auto_scale_lr = dict(base_batch_size=2)
max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)  # eval.py scores
# bfloat16 where the CPU or GPU has it, and else a line that says so; the encoder stays in 32 bits on a CPU.
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=1.0)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", begin=0, end=max_epochs, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
