"""SOLOv2 on Cityscapes on one GPU of 24 GB: batches of 4, 2 of them a step, in bfloat16 where the GPU has it.

    $ python solov2/train.py --config configs/solov2/cityscapes_r50_24gb.py --data-root /path/to/cityscapes

The numbers are those of the same command with --plan: 15.33 GB in bfloat16 and 21.03 GB in 32 bits for 4 images of 1024x2048
with 20 objects each. An image with 120 takes 0.65 GB more in bfloat16, for which there is room.
"""

_base_ = "./cityscapes_r50.py"

train_dataloader = dict(batch_size=4)
# 8 images a step, for which the rate is.
optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=1.0, accumulative_counts=2)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3, by_epoch=False, begin=0, end=1000),  # batches: 500 steps, as in the base
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
