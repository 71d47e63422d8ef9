"""The label images of the Cityscapes layout: their ids, and whether labelIds, instanceIds and the panoptic PNG agree."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from cityscapesscripts.helpers.labels import id2label

from data.images import IMAGE_SUFFIXES, name_key, unique_image_ids
from data.label_checks.findings import count_of, list_ids
from data.layouts.cityscapes import IMAGE_ENDING, LABEL_SUFFIX, instance_ids_to_panoptic, instance_ids_to_semantic
from data.taxonomy import CITYSCAPES, VOID_TRAIN_ID
from runtime.files import walk_files

LABEL_IDS_SUFFIX = "_gtFine_labelIds.png"
SHARE_OF_TRAIN_IDS = 0.99
"""Of the pixels, above which a label image that is wrong by ids and right by train ids holds train ids."""
LICENSE_PLATE = 65535
"""Label id -1 in 16 bits: never scored, and left out by some tools."""


@dataclass(frozen=True)
class CityscapesFiles:
    """One image's files; None where there is none."""

    image_id: str
    picture: Path | None
    instance_ids: Path | None
    label_ids: Path | None


def find_files(root: Path, split: str) -> list[CityscapesFiles]:
    """All pictures and labels of a split by image id, whichever of both is there."""
    pictures = {}
    for name in _walk(Path(root) / "leftImg8bit" / split, IMAGE_SUFFIXES):
        stem = PurePosixPath(name).with_suffix("").as_posix()
        if stem.endswith(IMAGE_ENDING):
            pictures.setdefault(name_key(stem.removesuffix(IMAGE_ENDING)), name)
    labels = [name for name in _walk(Path(root) / "gtFine" / split, (".png",)) if name.endswith((LABEL_SUFFIX, LABEL_IDS_SUFFIX))]
    by_suffix: dict[str, dict[str, str]] = {LABEL_SUFFIX: {}, LABEL_IDS_SUFFIX: {}}
    for name in labels:
        suffix = LABEL_SUFFIX if name.endswith(LABEL_SUFFIX) else LABEL_IDS_SUFFIX
        by_suffix[suffix][name_key(name.removesuffix(suffix))] = name
    keys = sorted({*pictures, *by_suffix[LABEL_SUFFIX], *by_suffix[LABEL_IDS_SUFFIX]})
    found = []
    for image_id, key in zip(unique_image_ids([f"{key}.png" for key in keys]), keys, strict=True):
        picture = Path(root) / "leftImg8bit" / split / pictures[key] if key in pictures else None
        of_image = [by_suffix[suffix].get(key) for suffix in (LABEL_SUFFIX, LABEL_IDS_SUFFIX)]
        paths = [None if name is None else Path(root) / "gtFine" / split / name for name in of_image]
        found.append(CityscapesFiles(image_id, picture, *paths))
    return sorted(found, key=lambda files: files.image_id)


def _walk(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    return walk_files(folder, suffixes) if folder.is_dir() else []


def check_instance_ids(instance_ids: np.ndarray, report: Callable[..., None]) -> np.ndarray | None:
    """(H, W) instance ids, None where they are train ids.

    Those that Cityscapes does not know become LICENSE_PLATE, which is never scored.
    """
    if instance_ids.min(initial=0) < 0 or instance_ids.max(initial=0) > LICENSE_PLATE:
        report("label-id-unknown", f"instance ids {instance_ids.min()}..{instance_ids.max()}, which are no 16 bits")
        instance_ids = np.where((instance_ids < 0) | (instance_ids > LICENSE_PLATE), LICENSE_PLATE, instance_ids)
    values, counts = np.unique(instance_ids, return_counts=True)
    classes = values[values >= 1000] // 1000
    train_things = list(CITYSCAPES.thing_ids)
    if len(classes) and np.isin(classes, train_things).all() and not np.isin(classes, CITYSCAPES.dataset_ids[train_things]).any():
        report(
            "train-ids-as-ids", f"instance ids are numbers of classes {list_ids(np.unique(classes).tolist())}, as train ids are"
        )
        return None
    known = np.array([_is_known(value) for value in values.tolist()])
    strangers = values[~known]
    if len(strangers):
        pixels = int(counts[~known].sum())
        text = f"instance ids {list_ids(strangers.tolist())} are of no label of Cityscapes ({count_of(pixels, 'pixel')})"
        report("label-id-unknown", text, strangers.tolist(), pixels)
        instance_ids = np.where(np.isin(instance_ids, strangers), LICENSE_PLATE, instance_ids)
    return instance_ids


def _is_known(value: int) -> bool:
    label = value if value < 1000 else value // 1000
    return value == LICENSE_PLATE or (label >= 0 and label in id2label and (value < 1000 or label > 0))


def check_label_ids(label_ids: np.ndarray, instance_ids: np.ndarray | None, report: Callable[..., None]) -> None:
    """A label image: its ids, and against the instance ids, where they are known."""
    values = np.unique(label_ids)
    expected = None if instance_ids is None else _classes_of(instance_ids)
    if expected is not None and expected.shape != label_ids.shape:
        sizes = " and ".join(f"{h}x{w}" for h, w in (label_ids.shape, expected.shape))
        report("size-disagrees", f"labelIds and instanceIds are {sizes} pixels")
        expected = None
    wrong = None if expected is None else (label_ids != expected) & (instance_ids != LICENSE_PLATE)
    is_train = np.isin(values, [*range(CITYSCAPES.num_classes), VOID_TRAIN_ID]).all()
    if is_train and wrong is not None and wrong.any():
        share = (instance_ids_to_semantic(instance_ids) == label_ids).mean()
        if share > SHARE_OF_TRAIN_IDS and share > 1 - wrong.mean():
            report("train-ids-as-ids", f"labelIds holds {list_ids(values.tolist())}, the train ids of what instanceIds says")
            return
    strangers = [v for v in values.tolist() if v not in id2label and v != LICENSE_PLATE % 256]
    if is_train and expected is None and VOID_TRAIN_ID in values:
        report("train-ids-as-ids", f"labelIds holds {list_ids(values.tolist())}, as train ids are")
    elif strangers:
        text = f"label ids {list_ids(strangers)} are of no label of Cityscapes"
        report("label-id-unknown", text, strangers, int(np.isin(label_ids, strangers).sum()))
    elif wrong is not None and wrong.any():
        num, ids = int(wrong.sum()), np.unique(instance_ids[wrong]).tolist()
        first = np.unravel_index(wrong.argmax(), wrong.shape)
        said = f"labelIds says {label_ids[first]} where instanceIds says {instance_ids[first]}"
        report("labels-disagree", _where(num, said), ids, num, numbers={"pixels": num})


@cache
def _class_table() -> np.ndarray:
    values = np.arange(65536)
    table = np.where(values < 1000, values, values // 1000).astype(np.int32)
    table[LICENSE_PLATE] = LICENSE_PLATE % 256  # 255: -1 in 8 bits
    return table


def _classes_of(instance_ids: np.ndarray) -> np.ndarray:
    return _class_table()[instance_ids]


def check_panoptic(segment_ids: np.ndarray, instance_ids: np.ndarray, report: Callable[..., None]) -> None:
    """A panoptic PNG against the instance ids that it is made of."""
    expected = instance_ids_to_panoptic(instance_ids).segment_ids
    if expected.shape != segment_ids.shape:
        sizes = " and ".join(f"{h}x{w}" for h, w in (segment_ids.shape, expected.shape))
        report("size-disagrees", f"panoptic PNG and instanceIds are {sizes} pixels")
        return
    wrong = segment_ids != expected
    if wrong.any():
        num, first = int(wrong.sum()), np.unravel_index(wrong.argmax(), wrong.shape)
        said = f"the panoptic PNG says {segment_ids[first]} where instanceIds says {instance_ids[first]}"
        ids = np.unique(segment_ids[wrong]).tolist()
        report("panoptic-disagrees", _where(num, said), ids, num, numbers={"pixels": num})


def _where(num: int, said: str) -> str:
    return f"{count_of(num, 'pixel')}: {said}" + (", and others" if num > 1 else "")
