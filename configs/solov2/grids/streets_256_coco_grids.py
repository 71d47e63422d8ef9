"""As streets_512_coco_grids.py at half the size, to try grids: a training takes a quarter of an hour on one core.

The grids that were tried are options; commands and results: docs/grids.md.
"""

_base_ = "./streets_512_coco_grids.py"

model = dict(mask_head=dict(scale_ranges=((1, 32), (16, 64), (32, 128), (64, 256), (128, 2048))))

size = (512, 256)  # of the network's input, (width, height)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = size
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
