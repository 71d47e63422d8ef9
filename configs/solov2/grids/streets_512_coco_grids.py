"""COCO's square grids on street images: SOLOv2 with a narrow ResNet-18 on busy Streets at 512x1024, from scratch.

The twin of streets_512_street_grids.py, which differs in its grids alone. Commands and results: docs/grids.md.
"""

_base_ = "../streets_r18.py"

model = dict(
    backbone=dict(
        base_channels=16,
        stem_channels=16,
        norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),  # a batch of one image has no batch statistics
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    mask_head=dict(
        in_channels=32,
        feat_channels=32,
        num_grids=[40, 36, 24, 16, 12],
        # COCO's for 512 pixels of height, as in mmdet's solov2-light_r50-dcn_fpn_ms-3x_coco.py.
        scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
        mask_feature_head=dict(feat_channels=32, out_channels=32),
    ),
)

size = (1024, 512)  # of the network's input, (width, height)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = size
train_dataloader = dict(batch_size=1, dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)
# A quarter of the base's batch. bfloat16 where the device has it, else train.py takes float32 and says so.
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=1.0, optimizer=dict(lr=1e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
