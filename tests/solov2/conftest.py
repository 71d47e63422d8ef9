"""Makes mmdet importable before a test module asks for it."""

import torch

import solov2  # noqa: F401

torch.set_num_threads(2)
