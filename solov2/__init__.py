"""Stage 1, SOLOv2; the only place that knows mmdet, mmcv and mmengine."""

import os

# How long OpenMP's threads spin before they sleep; torch reads it when it is loaded. By default one busy process beside a
# training on two cores slows it far beyond that process's share.
os.environ.setdefault("GOMP_SPINCOUNT", "100000")
# mmdet imports albumentations, which else asks PyPI for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
if "RANK" in os.environ:
    # Each process that torchrun starts would be warned of the check that solov2/processes.py asks for.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from solov2.mmcv_ops import install

# Here, so that every module of the package may import mmdet.
install()
