"""SOLOv2 on a hundred photographs or so in the COCO layout, as COCO's 27 supercategories, from EfficientNet-Lite0's weights.

    $ python solov2/train.py --config configs/solov2/photos_lite0.py --data-root PHOTOS

From random weights all must learn: --weights none --cfg-options model.backbone.trainable_stages=5.
"""

_base_ = "./streets_lite0.py"

truth_classes = "coco-supercategories"
model = dict(
    backbone=dict(trainable_stages=0),  # a hundred images spoil these weights (docs/results.md)
    mask_head=dict(
        scale_ranges=((1, 48), (24, 96), (48, 192), (96, 384), (192, 2048)),
        num_grids=[40, 36, 24, 16, 12],  # COCO's
    ),
)

size = (512, 256)  # of the network's input, (longer, shorter side): small, for more iterations
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomResize", scale=size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = size
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 60
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", begin=0, end=max_epochs, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
