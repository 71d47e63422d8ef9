"""RESULTS"""

_base_ = "./streets_512_coco_grids.py"

model = dict(mask_head=dict(num_grids=[(56, 112), (36, 72), (28, 56), (20, 40), (8, 16)]))
