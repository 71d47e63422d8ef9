"""As streets_512_coco_grids.py, with grids for street images: rectangular, and dense where the objects are.

What `python solov2/grid_doctor.py --config configs/solov2/grids/streets_512_coco_grids.py --data-root datasets/busy_512x1024
--cost-limit 3` proposes: the share of objects that have no cell of their own on some level goes from 16.6 % to 5.9 %, with 2.9
times the cells.

In a short training from scratch they LOSE (2026-11-21, two CPU cores, bfloat16, 3600 iterations each, seed 0, 60 images of val):

    COCO grids    AP 14.8, AP50 31.2, APs 0.3, APm 3.2, APl 25.8   28 min 11 s of CPU time, 15 min 32 s in all
    street grids  AP  7.2, AP50 18.4, APs 0.1, APm 1.7, APl 12.4   30 min 54 s of CPU time, 16 min 54 s in all

The loss of the classes stays behind (0.331 against 0.267 in the last epoch), that of the masks less (1.316, 1.265): what is lost
is speed of learning, most of all on large objects, each of which more and narrower cells must learn to see. Objects that would
collide are hardly found yet by either. Whether a full training from pretrained weights gains, as SOLO's author says, was not run.
"""

_base_ = "./streets_512_coco_grids.py"

model = dict(mask_head=dict(num_grids=[(56, 112), (36, 72), (28, 56), (20, 40), (8, 16)]))
