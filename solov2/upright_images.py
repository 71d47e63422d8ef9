"""How a training reads images: as everything else here does, upright and refused in one line where they are broken."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from data.images import read_image


@TRANSFORMS.register_module()
class LoadUprightImage(BaseTransform):
    """In place of mmcv's LoadImageFromFile: `img` (H, W, 3) uint8 BGR of the file `img_path`, and its size."""

    def transform(self, results: dict) -> dict:
        """See mmcv."""
        image = np.ascontiguousarray(read_image(results["img_path"])[..., ::-1])
        return results | {"img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}
