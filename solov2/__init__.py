"""Stage 1, SOLOv2; the only place that knows mmdet, mmcv and mmengine."""

from solov2.mmcv_ops import install

# Here, so that every module of the package may import mmdet.
install()
