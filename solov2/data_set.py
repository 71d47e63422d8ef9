"""A data set of any layout for mmdet: its own dataset classes, on the instance JSON that is derived from the panoptic truth."""

from collections.abc import Iterator

from mmengine import Config

from data.layouts.find import DataSet
from data.split import Split
from data.taxonomy import CITYSCAPES, Taxonomy
from runtime.files import InputError, read_json
from solov2.upright_images import LoadUprightImage

NUM_MEASURED = 200
"""Images whose sizes are read, at most twice as many."""


def prepare_split(data_set: DataSet, name: str | None, *, for_training: bool, track) -> tuple[Split, bool]:
    """Open a split and write its instance JSON where it is absent or of another truth; return whether it was written.

    Args:
        track: wraps an iterable of known length, for a progress bar.

    Raises:
        InputError: if the split is missing, a label is missing or broken, or the classes hold no thing.
    """
    split = data_set.split(name, for_training=for_training)
    if not split.taxonomy.thing_ids:
        raise InputError(f"{split.name}: none of its classes is a thing, but SOLOv2 learns things; mark them with isthing 1")
    is_written = split.ensure_instances_json(track)
    if for_training and not any(not a.get("iscrowd") for a in read_json(split.instances_json)["annotations"]):
        raise InputError(f"{split.name}: holds no object, but SOLOv2 learns objects; give images that have some")
    return split, is_written


def use_splits(config: Config, train: Split, val: Split) -> None:
    """Let a configuration train on one split and validate on another: their files, classes and number of classes.

    Raises:
        InputError: if the two have different classes.
    """
    if difference := val.taxonomy.difference(train.taxonomy):
        raise InputError(f"{val.name}: has other classes than {train.name}, {difference}; list the same in both")
    config.data_root = f"{train.root}/"
    for name, split in (("train_dataloader", train), ("val_dataloader", val), ("test_dataloader", val)):
        if name in config:
            _use_split(_innermost(config[name].dataset), split)
    for name in ("val_evaluator", "test_evaluator"):
        if name in config:
            config[name].ann_file = str(val.instances_json)
    use_classes(config, train.taxonomy)


def use_classes(config: Config, taxonomy: Taxonomy) -> None:
    """Let a configuration's model have as many classes as there are things."""
    for head in _dicts_with(config.model.to_dict(), "num_classes"):
        place = config.model
        for key in head:
            place = place[key]
        place.num_classes = len(taxonomy.thing_ids)


def _use_split(dataset: dict, split: Split) -> None:
    dataset.data_root = f"{split.root}/"
    dataset.ann_file = str(split.instances_json)
    dataset.data_prefix = dict(img=split.image_folder)
    smallest = (dataset.get("filter_cfg") or {}).get("min_size", 0)
    looked_at = range(0, len(split), max(1, len(split) // NUM_MEASURED))
    if not dataset.get("test_mode") and all(min(split.size(index)) < smallest for index in looked_at):
        advice = "give larger images, or filter_cfg.min_size=1 in train_dataloader's dataset"
        raise InputError(f"{split.name}: no image has sides of {smallest} pixels or more, which filter_cfg asks for; {advice}")
    for transform in dataset.pipeline:
        if transform.type == "LoadImageFromFile":
            for name in list(transform):
                del transform[name]
            transform.type = LoadUprightImage.__name__
    things = [c for c in split.taxonomy.categories if c.is_thing]
    if dataset.type != "CityscapesDataset" or split.taxonomy.difference(CITYSCAPES):
        dataset.type = "CocoDataset"
    dataset.metainfo = dict(classes=tuple(c.name for c in things), palette=[c.color for c in things])


def _innermost(dataset: dict) -> dict:
    """What a wrapper such as RepeatDataset holds."""
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset


def _dicts_with(settings: dict, key: str, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where in nested settings a key stands."""
    if key in settings:
        yield path
    for name, inner in settings.items():
        if isinstance(inner, dict):
            yield from _dicts_with(inner, key, (*path, name))
