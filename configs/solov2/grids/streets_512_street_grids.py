"""As streets_512_coco_grids.py, with grids for street images: rectangular, and dense where the objects are.

What `python solov2/grid_doctor.py --config configs/solov2/grids/streets_512_coco_grids.py --data-root datasets/streets_512x1024
--cost-limit 3` proposes: the share of objects that have no cell of their own on some level goes from 8.1 % to 2.2 %. For 1 % it
would take 5 times COCO's cells, and an iteration of so small a model a fifth longer; these take 3 times.

No gain in this short training (2026-11-21, two shared CPU cores, one thread, 1600 iterations each, seed 0, 80 images of val):

    COCO grids    AP 5.2, AP50 12.5, APs 0.0, APm 0.8, APl 7.5   405 s of CPU time, 488 s in all
    street grids  AP 4.2, AP50 10.8, APs 0.0, APm 0.7, APl 6.6   437 s of CPU time, 498 s in all

Neither finds a small object yet, and it is these that collide; whether a full training gains was not run.
"""

_base_ = "./streets_512_coco_grids.py"

model = dict(mask_head=dict(num_grids=[(56, 112), (40, 80), (24, 48), (16, 32), (8, 16)]))
