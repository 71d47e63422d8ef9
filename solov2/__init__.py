"""Stage 1, SOLOv2; the only place that knows mmdet, mmcv and mmengine."""
