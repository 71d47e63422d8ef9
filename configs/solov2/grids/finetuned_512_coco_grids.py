"""COCO's square grids on street images: the demo's SOLOv2 (streets_r18.py), trained on at 512x1024 for 640 iterations.

The twin of finetuned_512_street_grids.py, which differs in its grids alone. Both, from the repository, after `make demo`:

    python scripts/draw_streets.py --root datasets/streets_512x1024 --height 512 --width 1024 --num-train 160 --num-val 80
    python solov2/train.py --config configs/solov2/grids/finetuned_512_coco_grids.py --data-root datasets/streets_512x1024 \
        --cfg-options load_from=$PWD/outputs/solov2/streets_r18/epoch_13.pth
    python solov2/eval.py --config configs/solov2/grids/finetuned_512_coco_grids.py --data-root datasets/streets_512x1024
"""

_base_ = "../streets_r18.py"

model = dict(
    backbone=dict(norm_eval=True),  # a batch of one image has no statistics of its own
    mask_head=dict(
        num_grids=[40, 36, 24, 16, 12],
        # COCO's for 512 pixels of height, as in mmdet's solov2-light_r50-dcn_fpn_ms-3x_coco.py.
        scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
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

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
