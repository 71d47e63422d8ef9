"""Training in bfloat16 on a CPU that computes with it: mmengine's AmpOptimWrapper wants a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUBfloat16OptimWrapper(OptimWrapper):
    """OptimWrapper whose losses are computed under autocast; bfloat16 has float32's range, so none is scaled."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
