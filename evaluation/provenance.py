"""Where a score comes from: which definition, which deviations, which files by their digests, which command."""

from collections.abc import Iterable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from data.images import existing_spelling
from data.panoptic_file import ImageId, PanopticFile
from runtime.files import digest_of, file_digest

PROJECT = "location-based-panoptic-segmentation"
DEFINITION = (
    "panoptic quality of Kirillov et al. (CVPR 2019) as cityscapesscripts 2.3.0 (evalPanopticSemanticLabeling) and panopticapi "
    "count it: a match has IoU above one half, void is taken out of the union, predictions mostly on void or crowd are forgiven"
)
DEVIATIONS = (
    "areas are counted in the truth's PNGs; the official code believes the JSON",
    "a group of classes of which none occurs has no score; the official code divides by zero",
)


OTHERS = {
    "semantic": "mIoU as cityscapesscripts 2.3.0 (evalPixelLevelSemanticLabeling); fwIoU as Long et al. (CVPR 2015)",
    "mask_ap": "COCO's mask AP, as pycocotools",
    "boundary": "boundary PQ of Cheng et al. (CVPR 2021): the smaller of mask IoU and boundary IoU, 2 % of the diagonal deep",
    "pq_dagger": "Porzi et al. (CVPR 2019): of stuff the mean IoU over the images that show it",
    "intervals, differences": "percentile bootstrap over images, 2000 draws, seed 0; paired for differences",
}
"""Of the parts of a scores.json."""


def provenance(command: str, files: Mapping[str, Mapping[str, object]]) -> dict:
    """What stands beside a score in its JSON.

    Args:
        files: name -> what describes it, as describe_file or describe_split gives it.
    """
    try:
        project = version(PROJECT)
    except PackageNotFoundError:  # run from its folder, uninstalled
        project = "not installed"
    about = {"definition": DEFINITION, "deviations": list(DEVIATIONS), "others": OTHERS}
    about |= {"command": command, "date": date.today().isoformat()}
    return about | {"version": project, "files": {name: dict(entry) for name, entry in files.items()}}


def describe_file(file: PanopticFile, image_ids: Iterable[ImageId], class_map: str | None = None) -> dict:
    """Paths and digests of a panoptic JSON and of the PNGs of some images, in their order.

    Args:
        class_map: through which its classes were read.
    """
    digests = [file_digest(existing_spelling(file.folder / file.annotations[i].file_name)) for i in image_ids]
    return describe_digests(file, digests, class_map)


def describe_digests(file: PanopticFile, digests: Iterable[str], class_map: str | None = None) -> dict:
    """As describe_file, of PNGs whose digests are known."""
    digests = list(digests)
    is_folder = file.json_path == file.folder
    about = {
        "path": str(file.json_path),
        "digest": None if is_folder else file_digest(file.json_path),
        "pngs": len(digests),
        "pngs_digest": digest_of(*digests),
    }
    return about if class_map is None else about | {"classes": class_map}
