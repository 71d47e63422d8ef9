"""As streets_512_coco_grids.py, with grids for street images: rectangular, and dense where the objects are.

solov2/grids/doctor.py proposes them. In short trainings they score less than COCO's; commands and results: docs/grids.md.
"""

_base_ = "./streets_512_coco_grids.py"

model = dict(mask_head=dict(num_grids=[(56, 112), (36, 72), (28, 56), (20, 40), (8, 16)]))
