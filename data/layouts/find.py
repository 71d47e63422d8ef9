"""Where a data set lies, of which layout it is, and its splits."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from data.class_map import ClassMap, MappedSplit
from data.layouts import cityscapes, coco
from data.split import Split
from data.taxonomy import Taxonomy
from runtime.files import InputError

LAYOUTS: dict[str, ModuleType] = {
    cityscapes.NAME: cityscapes,
    coco.NAME: coco,
}
"""A new layout is one file, with what these two have, and one entry: docs/recipes.md."""
AUTO = "auto"


@dataclass(frozen=True)
class DataSet:
    """A folder of a known layout."""

    root: Path
    layout: str
    derived: Path | None = None
    """Folder of what is made from the truth; None: the data set's own, which must then be writable."""
    class_map: ClassMap | None = None
    """What its classes become; None: they stay."""

    def splits(self) -> list[str]:
        """The names of the splits that hold images."""
        return LAYOUTS[self.layout].find_splits(self.root)

    def usual_split(self, for_training: bool = False) -> str:
        """The name that the split for training or validation has in this layout, of several the one that is there."""
        layout = LAYOUTS[self.layout]
        names, there = layout.TRAIN_SPLITS if for_training else layout.VAL_SPLITS, self.splits()
        return next((name for name in names if name in there), names[0])

    def split(self, name: str | None = None, *, for_training: bool = False) -> Split:
        """Open a split, by default the usual one.

        Args:
            for_training: whether every image must have a truth.

        Raises:
            InputError: if it is missing, empty or broken.
        """
        name = name or self.usual_split(for_training)
        split = LAYOUTS[self.layout].open_split(self.root, name, need_labels=for_training, derived=self.derived)
        return split if self.class_map is None else MappedSplit(split, self.class_map)

    def taxonomy(self, split: str) -> Taxonomy:
        """The classes of a split, without reading more than is needed for it."""
        return self.class_map.target if self.class_map else LAYOUTS[self.layout].split_taxonomy(self.root, split)


def check_layout(layout: str) -> None:
    """Refuse the name of a layout that is none.

    Raises:
        InputError: if it is neither `auto` nor one of LAYOUTS.
    """
    if layout not in (AUTO, *LAYOUTS):
        raise InputError(f"layout {layout!r} is unknown; choose one of {', '.join((AUTO, *LAYOUTS))}")


def open_data_set(
    root: str | Path, layout: str = AUTO, source: str = "--data-root", class_map: ClassMap | None = None
) -> DataSet:
    """A data set that the user names.

    Args:
        layout: one of LAYOUTS, or `auto`: the one that recognises the folder.
        source: what named the folder, for the message.
        class_map: what its classes become.

    Raises:
        InputError: if the folder is missing, or of no known or of another layout.
    """
    root = Path(root).expanduser()
    check_layout(layout)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {source} must name the folder of a data set")
    if layout == AUTO:
        layout = next((name for name, known in LAYOUTS.items() if known.recognises(root)), None)
        if layout is None:
            needed = ", or ".join(f"{known.FORM} ({name})" for name, known in LAYOUTS.items())
            raise InputError(f"{root}: no known layout is there; {source} must name the folder that holds {needed}")
    LAYOUTS[layout].check_root(root)
    return DataSet(root, layout, class_map=class_map)


def named_data_set(given: str | Path | None, layout: str = AUTO) -> DataSet | None:
    """The data set that an argument or an environment variable names; None where neither does.

    Raises:
        InputError: as open_data_set.
    """
    check_layout(layout)
    if given:
        return open_data_set(given, layout)
    for name, known in LAYOUTS.items():
        for variable in known.ENVIRONMENT if layout in (AUTO, name) else ():
            if os.environ.get(variable):
                return open_data_set(os.environ[variable], name, f"${variable}")
    return None
