"""SOLOv2, ResNet-50, on Cityscapes at 1024x2048. Not run here: no result is claimed.

From ImageNet weights as it stands. To start from mmdet's COCO SOLOv2: scripts/import_weights.py, which leaves its class layer
out and says so, then train.py --weights FILE. 8 GPUs: torchrun --nproc-per-node 8 solov2/train.py --launcher pytorch ...
`data_root` is set by solov2/train.py and solov2/eval.py: --data-root, the environment, or the embedded data set.
"""

_base_ = "mmdet::solov2/solov2_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["solov2.location_head", "solov2.lite_backbone"])

data_root = "data/cityscapes/"
num_classes = 8  # the things of data.taxonomy.CITYSCAPES

model = dict(
    mask_head=dict(
        type="LocationHead",
        num_classes=num_classes,
        # (rows, columns), denser than COCO's: what solov2/grids/doctor.py proposes for Streets at this size (docs/grids.md).
        # No gain is shown: try COCO's too, by --cfg-options model.mask_head.num_grids=[40,36,24,16,12].
        num_grids=[(64, 128), (48, 96), (48, 96), (16, 32), (8, 16)],
        # COCO's for 1024 pixels of height instead of 800.
        scale_ranges=((1, 120), (60, 240), (120, 480), (240, 960), (480, 2048)),
    ),
    # Twice mmdet's: a Cityscapes image holds up to some 120 objects, and scores of a street's far objects are low.
    test_cfg=dict(nms_pre=1000, max_per_img=200),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomResize", scale=[(2048, 800), (2048, 1024)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2048, 1024), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_set = dict(
    type="CityscapesDataset",
    data_root=data_root,
    ann_file="annotations/instancesonly_filtered_gtFine_train.json",
    data_prefix=dict(img="leftImg8bit/train/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=train_pipeline,
)
# mmdet's cityscapes_instance.py: one image a GPU on 8 GPUs, each image 8 times an epoch.
train_dataloader = dict(batch_size=1, dataset=dict(_delete_=True, type="RepeatDataset", times=8, dataset=train_set))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="CityscapesDataset",
        data_root=data_root,
        ann_file="annotations/instancesonly_filtered_gtFine_val.json",
        data_prefix=dict(img="leftImg8bit/val/"),
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instancesonly_filtered_gtFine_val.json")
test_evaluator = val_evaluator

# 0.01 for a batch of 16 in the base; 8 here.
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(enable=True, base_batch_size=8)
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))  # never 1: mmengine deletes the old one before it writes the new
randomness = dict(seed=0)
