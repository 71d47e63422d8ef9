"""SOLOv2 with a narrow ResNet-18 on Streets (192x384), from scratch, small enough for two CPU cores.

Another number of epochs is --epochs N.
"""

_base_ = "./cityscapes_r50.py"

norm_cfg = dict(type="GN", num_groups=8, requires_grad=True)
# As dense as the scenes: a rider and the bicycle below are two centres, which one coarse cell could not tell apart.
num_grids = [(28, 56), (24, 48), (20, 40), (14, 28), (8, 16)]
model = dict(
    backbone=dict(
        depth=18,
        base_channels=24,
        stem_channels=24,
        frozen_stages=-1,  # nothing is pretrained, so nothing may stay frozen, the norms' statistics neither
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=48),
    mask_head=dict(
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        scale_ranges=((1, 24), (16, 40), (28, 72), (56, 144), (108, 1024)),
        num_grids=num_grids,
        pos_scale=0.4,  # twice the paper's share of an object predicts it: a short training needs the examples
        norm_cfg=norm_cfg,
        mask_feature_head=dict(feat_channels=48, out_channels=48, norm_cfg=norm_cfg),
    ),
    test_cfg=dict(nms_pre=500, max_per_img=100),
)

size = (384, 192)  # of the network's input, (width, height)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(times=1, dataset=dict(pipeline=train_pipeline))
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 13
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)  # eval.py scores
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1.5e-3, weight_decay=0.05), clip_grad=dict(max_norm=10))
auto_scale_lr = dict(enable=False, base_batch_size=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", begin=0, end=max_epochs, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002, gamma=200)]
