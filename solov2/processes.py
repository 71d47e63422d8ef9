"""Training by several processes that torchrun has started: how they meet, and who goes first."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine import Config
from mmengine.dist import barrier, get_world_size, init_dist, is_main_process, master_only

from runtime.files import InputError

say = master_only(print)
"""Print from the first process only."""


def start_processes(config: Config) -> None:
    """Let the processes of `config.launcher` meet, over NCCL where there are GPUs, else over gloo; set up their exchange.

    Norm statistics stay with each process; `sync_bn=torch` in the config computes them over all, on GPUs.

    Raises:
        InputError: if torchrun has not started this process, or there are fewer GPUs than processes here.
    """
    if config.launcher == "none":
        return
    if not {"RANK", "LOCAL_WORLD_SIZE"} <= os.environ.keys():
        command = "torchrun --nproc-per-node N solov2/train.py --launcher pytorch"
        raise InputError(f"--launcher pytorch needs processes that torchrun has started: {command}")
    # A batch without objects gives no gradient to the mask kernels; without this the others would wait for it.
    config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", broadcast_buffers=False, find_unused_parameters=True)
    if not torch.cuda.is_available():  # mmengine itself would ask for a GPU, and later for its number
        torch.distributed.init_process_group("gloo")
        config.model_wrapper_cfg.device_ids = None
        return
    num_here, num_gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if num_here > num_gpus:
        raise InputError(f"{num_here} processes, but {num_gpus} GPUs here; give torchrun --nproc-per-node {num_gpus}")
    init_dist(config.launcher, **config.env_cfg.dist_cfg)


def num_processes() -> int:
    """1 where there is no launcher."""
    return get_world_size()


@contextmanager
def first_process_first() -> Iterator[None]:
    """What it does alone, such as drawing data, the others find done when they come."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()
