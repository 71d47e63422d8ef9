"""As finetuned_512_coco_grids.py, with the grids that the doctor proposes: see streets_512_street_grids.py."""

_base_ = "./finetuned_512_coco_grids.py"

model = dict(mask_head=dict(num_grids=[(56, 112), (40, 80), (24, 48), (16, 32), (8, 16)]))
