"""Which data set a command works on: the user's, else an embedded one, which is drawn on first use."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from data.class_map import class_map_of
from data.layouts.find import AUTO, DataSet, named_data_set
from runtime.files import InputError


def find_data_set(given: str | Path | None = None, layout: str = AUTO, truth_classes: str | None = None) -> DataSet:
    """The folder given, else $CITYSCAPES_DATASET, $CITYSCAPES_DIR or $COCO_DATASET, else an embedded set, drawn if absent.

    Prints one line where an embedded set is used: Snapshots for the COCO layout, else Streets.

    Args:
        truth_classes: class map that the truth goes through.

    Raises:
        InputError: if the folder is missing or of another layout, or there is no such class map.
    """
    found = named_data_set(given, layout) or _embedded("cityscapes" if layout == AUTO else layout)
    return replace(found, class_map=class_map_of(truth_classes))


@cache
def _embedded(layout: str) -> DataSet:
    # Imported here, since drawing needs what reading real data does not; cached, so that a process says its line once.
    from data.drawn import snapshots, streets

    if layout not in ("cityscapes", "coco"):
        raise InputError(f"no embedded data set has the layout {layout}; give --data-root")
    drawn, ensure = (snapshots, snapshots.ensure_snapshots) if layout == "coco" else (streets, streets.ensure_streets)
    title = "Snapshots" if layout == "coco" else "Streets"
    print(f"no --data-root given: using the embedded data set {title} in {drawn.DEFAULT_ROOT}", flush=True)
    return DataSet(ensure(), layout)
