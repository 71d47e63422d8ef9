"""A panoptic JSON read with patience: what is broken becomes a finding, and what is sound goes on to the checks of each image."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.coco_json import is_whole
from data.image_names import ImageNames
from data.images import name_key
from data.label_checks.findings import Box, Finding, count_of, list_ids, name_segment
from data.panoptic_file import PANOPTIC_ENDING, ImageId, leaves_folder
from data.panoptic_png import MAX_SEGMENT_ID
from data.taxonomy import CITYSCAPES, Taxonomy
from runtime.files import InputError, first_few, read_json, shorten

Side = Literal["truth", "prediction"]


@dataclass(frozen=True)
class LabelClass:
    """What a category says; is_thing is None where it does not say it."""

    name: str
    is_thing: bool | None


@dataclass(frozen=True)
class Annotation:
    """An entry of `annotations`; png is None where its file_name is none."""

    image_id: ImageId
    png: Path | None
    infos: list


@dataclass(frozen=True)
class ListedSegment:
    """An entry of `segments_info` with an id that a PNG can hold; category_id is None where it is no known class.

    area and box: as listed, where they are numbers. has_box: whether anything stands there.
    """

    segment_id: int
    category_id: int | None
    is_crowd: bool
    area: float | None
    box: tuple[float, float, float, float] | None
    has_box: bool = False
    score: float | None = None


@dataclass
class LabelFile:
    """A panoptic JSON. sizes: image id -> (height, width) that `images` says. files: image id -> file_name there.

    classes: of the JSON, or where it has none those that its ids are. findings: about the file as a whole.
    """

    json_path: Path
    folder: Path
    side: Side
    classes: dict[int, LabelClass] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    sizes: dict[ImageId, tuple[int, int]] = field(default_factory=dict)
    files: dict[ImageId, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    named: dict[int, str] = field(default_factory=dict)
    """Names that its own `categories` give."""
    has_train_ids: bool = False
    """Whether its category ids are train ids by mistake: then they are unknown all over, and that is said once."""
    numbers_things: bool = False
    """Whether its things are numbered category id * 1000 + k."""

    def report(self, kind: str, text: str, image_id: ImageId | None = None, **further: object) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, image_id, self.side, text=text, **further))

    def class_name(self, category_id: int | None) -> str | None:
        """The name of a class that is known."""
        found = self.classes.get(category_id)
        return None if found is None else found.name

    def names(self) -> ImageNames:
        """By what its images are known: id, file name, name of the PNG."""
        known = {}
        for annotation in self.annotations:
            names = [annotation.image_id]
            names += [self.files[annotation.image_id]] if annotation.image_id in self.files else []
            if annotation.png is not None:
                names.append(annotation.png.stem.removesuffix(PANOPTIC_ENDING))
            known.setdefault(annotation.image_id, names)
        return ImageNames(known)


def read_label_file(json_path: Path, folder: Path | None = None, side: Side = "truth", *, need_images: bool = False) -> LabelFile:
    """Read a panoptic JSON and check all of it that needs no PNG and no single segment.

    Args:
        folder: where the PNGs lie; default is the JSON's path without `.json`.
        need_images: whether its list `images` is needed, as in a data set.

    Raises:
        InputError: if nothing can be checked: the file is missing, no JSON, or has no list `annotations`.
    """
    json_path = Path(json_path)
    content = read_json(json_path)
    entries = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{json_path}: holds no list of `annotations`; give a COCO panoptic JSON")
    file = LabelFile(json_path, json_path.with_suffix("") if folder is None else Path(folder), side)
    _read_annotations(file, entries)
    _read_images(file, content, need_images)
    _read_categories(file, content.get("categories"))
    return file


def _read_annotations(file: LabelFile, entries: list) -> None:
    pngs: dict[str, ImageId] = {}
    seen: set[ImageId] = set()
    for position, entry in enumerate(entries):
        image_id = _image_id(entry, "image_id")
        if image_id is None:
            file.report(
                "entry-malformed", f"annotation {position} has no `image_id` that is text or a whole number: {_show(entry)}"
            )
            continue
        if image_id in seen:
            file.report("image-repeated", f"annotation {position} is one more of this image", image_id)
        seen.add(image_id)
        infos = entry.get("segments_info")
        if not isinstance(infos, list):
            file.report("entry-malformed", f"annotation {position} has no list `segments_info`", image_id)
            infos = []
        png = _png_path(file, image_id, entry.get("file_name"))
        if png is not None:
            other = pngs.setdefault(name_key(str(png)), image_id)
            if other != image_id:
                file.report("png-shared", f"its PNG {png.name} is also that of image {shorten(other, 60)}", image_id)
        file.annotations.append(Annotation(image_id, png, infos))


def _png_path(file: LabelFile, image_id: ImageId, name: object) -> Path | None:
    if not isinstance(name, str) or not name:
        file.report("entry-malformed", f"its annotation has no `file_name`: {_show(name)}", image_id)
        return None
    if leaves_folder(name):
        file.report("path-outside", f"its annotation's file_name {shorten(repr(name), 80)} leaves {file.folder}", image_id)
        return None
    return file.folder / name


def _read_images(file: LabelFile, content: dict, need_images: bool) -> None:
    entries = content.get("images")
    if entries is None:
        if need_images:
            file.report("images-missing", f"{file.json_path.name}: has no list `images`")
        return
    if not isinstance(entries, list):
        file.report("entry-malformed", f"`images` is no list: {_show(entries)}")
        return
    annotated = {annotation.image_id for annotation in file.annotations}
    seen: set[ImageId] = set()
    named: dict[str, ImageId] = {}
    for position, entry in enumerate(entries):
        image_id = _image_id(entry, "id")
        if image_id is None:
            file.report(
                "entry-malformed", f"entry {position} of `images` has no `id` that is text or a whole number: {_show(entry)}"
            )
            continue
        if image_id in seen:
            file.report("image-repeated", f"entry {position} of `images` is one more of this image", image_id)
            continue
        seen.add(image_id)
        if image_id not in annotated and file.side == "truth":  # of a prediction it is said image by image
            file.report("annotation-missing", "is in `images`, but has no annotation", image_id)
        _read_image(file, image_id, entry, named)
    for annotation in file.annotations:
        if annotation.image_id not in seen:
            file.report("image-unlisted", "has an annotation, but is not in `images`", annotation.image_id)


def _read_image(file: LabelFile, image_id: ImageId, entry: dict, named: dict[str, ImageId]) -> None:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        file.report("entry-malformed", f"its entry in `images` has no `file_name`: {_show(name)}", image_id)
    elif leaves_folder(name):
        file.report(
            "path-outside", f"its file_name {shorten(repr(name), 80)} in `images` leaves the folder of pictures", image_id
        )
    else:
        other = named.setdefault(name_key(name), image_id)
        if other != image_id:
            file.report("picture-shared", f"its file {shorten(name, 80)} is also that of image {shorten(other, 60)}", image_id)
        file.files[image_id] = name
    if "height" in entry or "width" in entry:
        size = (entry.get("height"), entry.get("width"))
        if all(is_whole(side) and side > 0 for side in size):
            file.sizes[image_id] = size
        else:
            text = f"`images` says height {_show(size[0])} and width {_show(size[1])}"
            file.report("size-disagrees", f"{text}, but whole numbers of pixels are needed", image_id)


def _read_categories(file: LabelFile, entries: object) -> None:
    used = _used_categories(file)
    if not isinstance(entries, list) or not entries:
        known = CITYSCAPES if set(used) <= CITYSCAPES.dataset_id_to_train_id.keys() else CITYSCAPES.with_train_ids()
        if entries is not None and not isinstance(entries, list):
            file.report("entry-malformed", f"`categories` is no list: {_show(entries)}")
        if file.side == "truth":  # of a prediction no evaluator needs them
            file.report(
                "categories-missing", f"{file.json_path.name}: has no `categories`; category ids used: {first_few(sorted(used))}"
            )
        is_known = set(used) <= known.dataset_id_to_train_id.keys()
        file.classes = classes_of(known) if is_known else {k: LabelClass(f"class {k}", None) for k in used}
    else:
        _read_classes(file, entries)
        file.named = {category_id: of_class.name for category_id, of_class in file.classes.items()}
        _find_train_ids(file, used)
    things = [usage for k, usage in used.items() if k in file.classes and file.classes[k].is_thing]
    file.numbers_things = sum(usage.numbered for usage in things) > sum(usage.total for usage in things) / 2


def _read_classes(file: LabelFile, entries: list) -> None:
    names: set[str] = set()
    for position, entry in enumerate(entries):
        category_id = entry.get("id") if isinstance(entry, dict) else None
        if not is_whole(category_id):
            file.report("entry-malformed", f"category {position} has no whole number `id`: {_show(entry)}")
            continue
        name = entry.get("name")
        if not isinstance(name, str):
            file.report("entry-malformed", f"category {category_id} has no `name`: {_show(entry)}")
            name = f"class {category_id}"
        flag = read_strict_flag(entry.get("isthing"))
        if flag is None:
            what = f"`isthing` {_show(entry['isthing'])}" if "isthing" in entry else "no `isthing`"
            file.report("isthing-missing", f"category {category_id} ({shorten(name, 40)}) has {what}")
        if category_id in file.classes:
            other = file.classes[category_id].name
            file.report("category-repeated", f"category id {category_id} is {shorten(other, 40)} and {shorten(name, 40)}")
            continue
        if name in names:
            file.report("category-repeated", f"categories of two ids are called {shorten(name, 40)}, one of them {category_id}")
        names.add(name)
        file.classes[category_id] = LabelClass(name, flag)


def _find_train_ids(file: LabelFile, used: "Mapping[int, _Usage]") -> None:
    """Whether the categories are Cityscapes' by id, and the segments' category ids are train ids."""
    if {k: c.name for k, c in file.classes.items()} != {c.dataset_id: c.name for c in CITYSCAPES.categories} or not used:
        return
    by_number = sum(usage.as_train_id for usage in used.values()) > sum(usage.total for usage in used.values()) / 2
    if max(used) < CITYSCAPES.num_classes and min(used) >= 0 and (by_number or set(used) - file.classes.keys()):
        file.has_train_ids = True
        found = f"category ids used are {first_few(sorted(used))}, as train ids are, but `categories` lists ids such as 7 and 24"
        file.report("train-ids-as-ids", f"{file.json_path.name}: {found}")


@dataclass
class _Usage:
    """Segments of a category: how many, how many with an id of category id * 1000 + k, and how many whose id has its train id."""

    total: int = 0
    numbered: int = 0
    as_train_id: int = 0


def _used_categories(file: LabelFile) -> dict[int, _Usage]:
    """Category id -> its segments, as far as both ids are whole numbers."""
    used: dict[int, _Usage] = {}
    for annotation in file.annotations:
        for info in annotation.infos:
            if isinstance(info, dict) and is_whole(info.get("category_id")) and is_whole(info.get("id")):
                category_id, segment_id = info["category_id"], info["id"]
                usage = used.setdefault(category_id, _Usage())
                usage.total += 1
                usage.numbered += segment_id // 1000 == category_id
                base = segment_id if segment_id < 1000 else segment_id // 1000
                usage.as_train_id += CITYSCAPES.dataset_id_to_train_id.get(base) == category_id
    return used


def classes_of(taxonomy: Taxonomy) -> dict[int, LabelClass]:
    """Its classes by dataset id."""
    return {c.dataset_id: LabelClass(c.name, c.is_thing) for c in taxonomy.categories}


def read_segments(file: LabelFile, annotation: Annotation) -> tuple[list[ListedSegment], list[Finding]]:
    """The segments of an image that a PNG can hold, each once, and what is wrong with the list."""
    found: list[Finding] = []
    listed: dict[int, ListedSegment] = {}
    repeated: Counter[int] = Counter()

    def report(kind: str, text: str, *segment_ids: int) -> None:
        found.append(Finding(kind, annotation.image_id, file.side, segment_ids, text=text))

    for position, info in enumerate(annotation.infos):
        segment_id = info.get("id") if isinstance(info, dict) else None
        if not isinstance(info, dict) or "id" not in info:
            report("entry-malformed", f"entry {position} of `segments_info` has no `id`: {_show(info)}")
            continue
        if not is_whole(segment_id) or not 0 <= segment_id <= MAX_SEGMENT_ID:
            report("id-out-of-range", f"entry {position} of `segments_info` has id {_show(segment_id)}")
            continue
        segment = _read_segment(file, info, report)
        if segment_id == 0 and file.side == "truth":
            report("id-zero", f"{name_segment(0, file.class_name(segment.category_id))} is listed, but 0 is void", 0)
            continue
        repeated[segment_id] += segment_id in listed
        listed.setdefault(segment_id, segment)
    for segment_id, count in repeated.items():
        if count:
            name = name_segment(segment_id, file.class_name(listed[segment_id].category_id))
            report("segment-repeated", f"{name} is listed {count + 1} times", segment_id)
    if file.side == "truth":
        found += check_stuff(file, annotation.image_id, {k: (s.category_id, s.is_crowd) for k, s in listed.items()})
        lacking = tuple(k for k, s in listed.items() if s.area is None)
        if lacking:
            text = f"{len(lacking)} of {len(listed)} segments have no `area` that is a number: {list_ids(lacking)}"
            found.append(Finding("area-missing", annotation.image_id, file.side, lacking, text=text))
    return list(listed.values()), found


def _read_segment(file: LabelFile, info: dict, report: object) -> ListedSegment:
    """Of an entry whose id is a number."""
    segment_id, category_id = info["id"], info.get("category_id")
    if not is_whole(category_id):
        report("entry-malformed", f"{name_segment(segment_id, None)} has `category_id` {_show(category_id)}", segment_id)
        category_id = None
    elif category_id not in file.classes or file.has_train_ids:
        if not file.has_train_ids:
            report(
                "category-unknown",
                f"{name_segment(segment_id, None)} has category {category_id}, which is not listed",
                segment_id,
            )
        category_id = None
    name = name_segment(segment_id, file.class_name(category_id))
    is_crowd = read_strict_flag(info.get("iscrowd"))
    if is_crowd is None and file.side == "truth":
        what = f"`iscrowd` {_show(info['iscrowd'])}" if "iscrowd" in info else "no `iscrowd`"
        report("iscrowd-missing", f"{name} has {what}", segment_id)
    area, score = _number(info.get("area")), _number(info.get("score"))
    has_box = info.get("bbox") is not None
    return ListedSegment(segment_id, category_id, bool(is_crowd), area, _four_numbers(info.get("bbox")), has_box, score)


def check_stuff(file: LabelFile, image_id: ImageId, segments: Mapping[int, tuple[int | None, bool]]) -> list[Finding]:
    """Stuff that is labelled as things are.

    Args:
        segments: segment id -> (category id, is crowd).
    """
    found, by_class = [], {}
    for segment_id, (category_id, is_crowd) in segments.items():
        of_class = file.classes.get(category_id)
        if of_class is None or of_class.is_thing is not False:
            continue
        name = name_segment(segment_id, of_class.name)
        by_class.setdefault(category_id, []).append(segment_id)
        if is_crowd:
            found.append(Finding("crowd-of-stuff", image_id, file.side, (segment_id,), text=f"{name} is a crowd, but stuff"))
        if file.numbers_things and segment_id >= 1000 and segment_id // 1000 == category_id:
            text = f"{name} is stuff, but has number {segment_id % 1000} like a thing"
            found.append(Finding("stuff-with-number", image_id, file.side, (segment_id,), text=text))
    for category_id, ids in by_class.items():
        if len(ids) > 1:
            text = f"{len(ids)} segments of {shorten(file.class_name(category_id), 40)}, which is stuff: {list_ids(ids)}"
            found.append(Finding("stuff-repeated", image_id, file.side, tuple(ids), text=text, weight=len(ids)))
    return found


def check_areas(file: LabelFile, image_id: ImageId, segment: ListedSegment, area: int, box: Box) -> list[Finding]:
    """A truth's listed area and box against those counted from its PNG."""
    found, name = [], name_segment(segment.segment_id, file.class_name(segment.category_id))
    if segment.area is not None and segment.area != area:
        text = f"{name}: area {segment.area:g} in the JSON, but {count_of(area, 'pixel')} in the PNG"
        weight = abs(segment.area - area) / area
        numbers = {"listed": segment.area, "counted": area}
        found.append(Finding("area-wrong", image_id, file.side, (segment.segment_id,), box, text, weight, numbers))
    if segment.has_box:
        found += _check_box(file, image_id, segment, name, box)
    return found


def _check_box(file: LabelFile, image_id: ImageId, segment: ListedSegment, name: str, box: Box) -> list[Finding]:
    x, y, width, height = box
    place = (image_id, file.side, (segment.segment_id,), box)
    if segment.box is None:
        return [Finding("box-wrong", *place, f"{name}: `bbox` is not four numbers")]
    said, real = _corners(segment.box), _corners(box)
    farthest = max(abs(a - b) for a, b in zip(said, real, strict=True))
    if farthest <= 1:
        return []
    shown = ", ".join(f"{v:g}" for v in segment.box)
    off = max(abs(a - b) for a, b in zip(segment.box, real, strict=True))
    if off <= 1:
        return [
            Finding("box-as-corners", *place, f"{name}: bbox ({shown}) is x1, y1, x2, y2; it is ({x}, {y}, {width}, {height})")
        ]
    text = f"{name}: bbox ({shown}), but ({x}, {y}, {width}, {height}) in the PNG"
    return [Finding("box-wrong", *place, text, farthest, {"off": farthest})]


def _corners(box: tuple) -> tuple:
    x, y, width, height = box
    return x, y, x + width, y + height


def read_strict_flag(value: object) -> bool | None:
    """0, 1, false or true as every evaluator reads them; None of anything else."""
    return bool(value) if isinstance(value, bool | int) and value in (0, 1) else None


def _image_id(entry: object, name: str) -> ImageId | None:
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if is_whole(value) or (isinstance(value, str) and value) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) and abs(value) < 2**53 else None
    except OverflowError:
        return None


def _four_numbers(value: object) -> tuple[float, float, float, float] | None:
    numbers = [_number(part) for part in value] if isinstance(value, list) else []
    return tuple(numbers) if len(numbers) == 4 and None not in numbers else None


def _show(value: object) -> str:
    return shorten(repr(value), 60)
