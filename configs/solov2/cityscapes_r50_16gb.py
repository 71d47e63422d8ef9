"""SOLOv2 on Cityscapes on one GPU of 16 GB: batches of 2, 4 of them a step, in bfloat16 where the GPU has it.

    $ python solov2/train.py --config configs/solov2/cityscapes_r50_16gb.py --data-root /path/to/cityscapes

The numbers are those of the same command with --plan: 8.30 GB in bfloat16 and 11.05 GB in 32 bits for 2 images of 1024x2048
with 20 objects each. An image with 120 takes 0.65 GB more in bfloat16, for which there is room.
"""

_base_ = "./cityscapes_r50.py"

train_dataloader = dict(batch_size=2)
# 8 images a step, for which the rate is.
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=1.0, accumulative_counts=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3, by_epoch=False, begin=0, end=2000),  # batches: 500 steps, as in the base
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
