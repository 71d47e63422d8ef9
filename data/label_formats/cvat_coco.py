"""CVAT's export "COCO 1.0": COCO's instance JSON and images/SUBSET/.

Differs from COCO's: `iscrowd` is 1 for whatever was painted as a mask instead of a polygon, whether it is one object or many
(https://github.com/cvat-ai/cvat/issues/7030), so it makes no crowd here.
"""

from pathlib import Path

from data.label_formats.coco_instances import read_instances
from data.label_formats.labels import LabelSet

NAME = "cvat-coco"
FORM = "annotations/instances_SUBSET.json and images/SUBSET/"
SOURCE = "https://docs.cvat.ai/docs/dataset_management/formats/format-coco"


def read(source: Path) -> LabelSet:
    """See labels.py.

    Raises:
        InputError: as that of COCO's instance JSONs.
    """
    return read_instances(source, has_crowds=False)
