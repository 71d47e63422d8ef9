"""Weights that other projects have published, by name: where each lies, and what its file must be. Light, without torch.

Addresses are those of the libraries' own lists. A file's name ends in the first digits of its SHA-256, as all three publish it.
"""

import re
from dataclasses import dataclass

IMAGENET = "1000, ImageNet"
TORCHVISION = "torchvision 0.26.0, models/{module}.py"
TIMM = "timm at aa4b5850, models/efficientnet.py"
MMDET = "mmdet 3.3.0, configs/{folder}/metafile.yml"


@dataclass(frozen=True)
class Published:
    """One file. None of the addresses has been tried: this project was built without the internet."""

    name: str
    task: str
    classes: str
    licence: str
    megabytes: int
    """As torchvision lists them, else those of the network's tensors; a file may be a little larger."""
    address: str
    listed_in: str
    """Where the address stands."""
    target: str
    """What scripts/import_weights.py makes of it by default: its --for."""

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.address.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The digits with which the file's SHA-256 begins."""
        return re.search(r"-([0-9a-f]{8,64})\.\w+$", self.file_name)[1]


def _resnet(depth: int, megabytes: int, digits: str) -> Published:
    address = f"https://download.pytorch.org/models/resnet{depth}-{digits}.pth"
    about = ("classification", IMAGENET, "BSD-3-Clause", megabytes, address, TORCHVISION.format(module="resnet"))
    return Published(f"torchvision-resnet{depth}", *about, f"panoptic-fpn-r{depth}")


def _efficientnet(number: int, megabytes: int, digits: str) -> Published:
    releases = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
    address = f"{releases}/tf_efficientnet_b{number}_aa-{digits}.pth"
    about = ("classification", IMAGENET, "Apache-2.0", megabytes, address, TIMM)
    return Published(f"tf_efficientnet_b{number}", *about, f"efficientps-b{number}")


def _mmdet(name: str, megabytes: int, folder: str, path: str, target: str) -> Published:
    address = f"https://download.openmmlab.com/mmdetection/v2.0/{folder}/{path}"
    is_panoptic = folder == "panoptic_fpn"
    task, classes = ("panoptic", "133, COCO") if is_panoptic else ("instances", "80, COCO")
    return Published(name, task, classes, "Apache-2.0", megabytes, address, MMDET.format(folder=folder), target)


SOLOV2 = "solov2:configs/solov2/cityscapes_r50.py"
MASK_RCNN = "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
PUBLISHED = {
    published.name: published
    for published in (
        _resnet(18, 45, "f37072fd"),
        _resnet(34, 83, "b627a593"),
        _resnet(50, 98, "0676ba61"),
        _resnet(101, 171, "63fe2227"),
        Published(
            "torchvision-maskrcnn_resnet50_fpn",
            *("instances", "80, COCO", "BSD-3-Clause", 170, MASK_RCNN, TORCHVISION.format(module="detection/mask_rcnn")),
            "panoptic-fpn-r50",
        ),
        _efficientnet(0, 21, "827b6e33"),
        _efficientnet(1, 31, "ea7a6ee0"),
        _efficientnet(2, 37, "60c94f97"),
        _efficientnet(3, 49, "84b4657e"),
        _efficientnet(4, 78, "818f208c"),
        _efficientnet(5, 122, "99018a74"),
        _efficientnet(6, 173, "80ba17e4"),
        _efficientnet(7, 267, "076e3472"),
        _mmdet(
            *("mmdet-solov2_r50_fpn_1x_coco", 187, "solov2"),
            "solov2_r50_fpn_1x_coco/solov2_r50_fpn_1x_coco_20220512_125858-a357fa23.pth",
            SOLOV2,
        ),
        _mmdet(
            *("mmdet-solov2_r50_fpn_3x_coco", 187, "solov2"),
            "solov2_r50_fpn_3x_coco/solov2_r50_fpn_3x_coco_20220512_125856-fed092d4.pth",
            SOLOV2,
        ),
        _mmdet(
            *("mmdet-panoptic_fpn_r50_fpn_1x_coco", 184, "panoptic_fpn"),
            "panoptic_fpn_r50_fpn_1x_coco/panoptic_fpn_r50_fpn_1x_coco_20210821_101153-9668fd13.pth",
            "panoptic-fpn-r50",
        ),
        _mmdet(
            *("mmdet-panoptic_fpn_r50_fpn_mstrain_3x_coco", 184, "panoptic_fpn"),
            "panoptic_fpn_r50_fpn_mstrain_3x_coco/panoptic_fpn_r50_fpn_mstrain_3x_coco_20210824_171155-5650f98b.pth",
            "panoptic-fpn-r50",
        ),
        _mmdet(
            *("mmdet-panoptic_fpn_r101_fpn_1x_coco", 260, "panoptic_fpn"),
            "panoptic_fpn_r101_fpn_1x_coco/panoptic_fpn_r101_fpn_1x_coco_20210820_193950-ab9157a2.pth",
            "panoptic-fpn-r101",
        ),
        _mmdet(
            *("mmdet-panoptic_fpn_r101_fpn_mstrain_3x_coco", 260, "panoptic_fpn"),
            "panoptic_fpn_r101_fpn_mstrain_3x_coco/panoptic_fpn_r101_fpn_mstrain_3x_coco_20210823_114712-9c99acc4.pth",
            "panoptic-fpn-r101",
        ),
    )
}
"""By name."""
