"""All checks of a split, or of a lone panoptic JSON, image by image.

A broken file or entry never ends a check: what can still be checked is. JSON is held in memory, as the readers of data/ hold it;
pixels are not, and of each segment 24 bytes and of each picture 350 stay for what only all images together tell.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from data.label_checks.cityscapes_checks import check_instance_ids, check_label_ids, check_panoptic
from data.label_checks.class_checks import SplitStatistics, compare_classes
from data.label_checks.findings import Finding
from data.label_checks.json_checks import (
    Annotation,
    LabelClass,
    LabelFile,
    check_areas,
    check_stuff,
    read_label_file,
    read_segments,
)
from data.label_checks.label_sources import LabelItem, Labels, Track, open_file, open_labels, open_other_labels
from data.label_checks.picture_checks import Fingerprint, PictureIndex, check_picture, compare_splits, fingerprint
from data.label_checks.png_checks import compare_ids, finding_reporter, read_label_image, read_png
from data.label_checks.shape_checks import check_shapes
from data.layouts import cityscapes
from data.layouts.find import DataSet
from data.panoptic_file import ImageId
from data.panoptic_png import PanopticMap, Segment
from data.segment_runs import find_runs
from runtime.files import InputError, shorten
from runtime.threads import in_threads


class Judge(Protocol):
    """Looks for what a prediction contradicts; see evaluation/label_disagreements.py."""

    def compare(self, image_id: ImageId, truth: PanopticMap, prediction: PanopticMap) -> object:
        """One image, in any thread."""

    def add(self, compared: object) -> None:
        """What `compare` gave, in the order of the images."""

    def findings(self, classes: dict[int, LabelClass]) -> list[Finding]:
        """Of all images."""


@dataclass(frozen=True)
class _Result:
    """What became of an image. segments, num_pixels and void_share: of its truth, None where that does not read."""

    image_id: ImageId
    findings: list[Finding]
    segments: tuple[Segment, ...] | None = None
    num_pixels: int = 0
    void_share: float = 0.0
    picture: Fingerprint | None = None
    compared: object = None


def _track_nothing(items: Iterable, title: str, total: int) -> Iterable:
    return items


def _report_nothing(*words: object, **more: object) -> None:
    """For what was reported before."""


class LabelCheck:
    """The checks of one split, which iterating does, once: (image id, its findings), in the order of the labels.

    None as image id is for what is about a file or a split. An image may come once more at the end, with what only all images
    together tell. See check_split and check_files for what can be given.
    """

    def __init__(
        self,
        labels: Labels,
        other: "tuple[Labels, bool] | None" = None,
        prediction: Path | None = None,
        judge: Judge | None = None,
        *,
        compare_pictures: bool = True,
        workers: int = 1,
        track: Track = _track_nothing,
    ):
        self.name = labels.name
        self.classes: dict[int, LabelClass] = labels.file.classes
        """By category id."""
        self.num_images, self.num_segments = len(labels.items), 0
        self._labels, self._other, self._judge, self._track = labels, other, judge, track
        self._items = {item.image_id: item for item in labels.items}
        self._compare_pictures, self._workers = compare_pictures, workers
        self._statistics, self._pictures = SplitStatistics(), PictureIndex()
        self._prediction, self._names, self._early = None, None, []
        if prediction is not None:
            self._open_prediction(Path(prediction))

    def _open_prediction(self, path: Path) -> None:
        json_path = path / "panoptic.json" if path.is_dir() else path
        try:
            self._prediction = read_label_file(json_path, side="prediction")
        except InputError as error:
            self._early.append(Finding("json-unreadable", None, "prediction", text=shorten(error, 200)))
            return
        clashes = [k for k in self.classes if k in self._prediction.named and self._prediction.named[k] != self.classes[k].name]
        if clashes:
            k, others = clashes[0], f" and {len(clashes) - 1} more" if len(clashes) > 1 else ""
            text = (
                f"category {k} is {shorten(self._prediction.named[k], 40)}, but {shorten(self.classes[k].name, 40)} in the truth"
            )
            self._prediction.report("names-differ", text + others)
        self._prediction.classes = self.classes  # what an evaluator goes by
        self._names = self._prediction.names()
        self._by_id = {annotation.image_id: annotation for annotation in self._prediction.annotations}

    def __iter__(self) -> Iterator[tuple[ImageId | None, tuple[Finding, ...]]]:
        early = [*self._labels.file.findings, *self._labels.findings, *self._early]
        early += self._prediction.findings if self._prediction else []
        of_image: dict[ImageId, list[Finding]] = {}
        for finding in early:
            of_image.setdefault(finding.image_id, []).append(finding)
        if None in of_image:
            yield None, tuple(of_image.pop(None))
        results = in_threads(self._check_image, self._labels.items, self._workers)
        for result in self._track(results, f"checking {self.name}", len(self._labels.items)):
            findings = [*of_image.pop(result.image_id, []), *result.findings]
            if result.segments is not None:
                self.num_segments += len(result.segments)
                self._statistics.add(result.image_id, result.segments, result.num_pixels, result.void_share)
            if result.picture is not None:
                twin = self._pictures.add(result.image_id, result.picture)
                if twin is not None:
                    text = f"its picture is the same file as that of {shorten(twin, 60)}"
                    findings.append(Finding("picture-repeated", result.image_id, text=text))
            if result.compared is not None:
                self._judge.add(result.compared)
            yield result.image_id, tuple(findings)
        yield from ((image_id, tuple(found)) for image_id, found in of_image.items())
        yield from _by_image(self._of_all_images())

    @property
    def has_prediction(self) -> bool:
        """Whether a prediction is compared."""
        return self._prediction is not None

    def has(self, image_id: ImageId) -> bool:
        """Whether the labels have an image of this id; a finding may name a picture without labels."""
        return image_id in self._items

    def picture(self, image_id: ImageId) -> Path | None:
        """Where an image's picture lies."""
        return self._items[image_id].picture

    def read(self, image_id: ImageId) -> tuple[PanopticMap | None, PanopticMap | None]:
        """Truth and prediction of an image, as far as they can be read."""
        item = self._items[image_id]
        truth = None
        if item.annotation is not None:
            truth = self._read_map(self._labels.file, item.annotation)
        elif item.labels is not None and item.labels.instance_ids is not None:
            ids = read_label_image(item.labels.instance_ids, _report_nothing, has_instances=True)
            truth = None if ids is None else cityscapes.instance_ids_to_panoptic(ids)
        annotation = None if self._prediction is None else self._find_prediction(image_id)
        prediction = None if annotation is None else self._read_map(self._prediction, annotation)
        return truth, prediction

    def _read_map(self, file: LabelFile, annotation: Annotation) -> PanopticMap | None:
        ids = read_png(annotation.png, _report_nothing)
        if ids is None:
            return None
        return self._compare(file, annotation.image_id, ids, read_segments(file, annotation)[0], _report_nothing, [])

    def _of_all_images(self) -> Iterator[Finding]:
        yield from self._statistics.findings(self.classes)
        if self._judge is not None:
            yield from self._judge.findings(self.classes)
        if self._other is None:
            return
        other, is_training = self._other
        yield from (f for f in other.findings if f.kind == "json-unreadable")
        if not other.items:
            return
        yield from self._compare_splits(other, is_training)

    def _compare_splits(self, other: Labels, is_training: bool) -> Iterator[Finding]:
        own, others = self._statistics.counts(), other.count_categories(self._workers, self._track)
        by_role = ((others, own), (other.name, self.name)) if is_training else ((own, others), (self.name, other.name))
        if not (self._labels.file.has_train_ids or other.file.has_train_ids):  # whose classes are all wrong
            yield from compare_classes(*by_role[0], self.classes, by_role[1])
        if self._compare_pictures:
            index = PictureIndex()
            items = [item for item in other.items if item.picture is not None]
            prints = in_threads(_fingerprint, items, self._workers)
            title = f"looking for pictures of {other.name}"
            for image_id, found in self._track(prints, title, len(items)):
                if found is not None:
                    index.add(image_id, found)
            yield from compare_splits(self._pictures, index, other.name)

    def _check_image(self, item: LabelItem) -> _Result:
        found: list[Finding] = []
        report = finding_reporter(found, item.image_id, "truth")
        instance_ids = self._check_labels(item, report) if item.labels else None
        ids, listed_size = None, self._labels.file.sizes.get(item.image_id)
        sizes = [("`images` says", listed_size)] if listed_size else []
        panoptic = is_void = None
        if item.annotation is not None:
            ids = read_png(item.annotation.png, report)
            segments, of_list = read_segments(self._labels.file, item.annotation)
            found += of_list
            if ids is not None:
                panoptic, is_void = self._compare(self._labels.file, item.image_id, ids, segments, report, found), ids == 0
                if item.labels and instance_ids is not None:
                    check_panoptic(ids, instance_ids, report)
        elif instance_ids is not None:
            panoptic = cityscapes.instance_ids_to_panoptic(instance_ids)
            listed = {s.segment_id: (s.category_id, s.is_crowd) for s in panoptic.segments}
            found += check_stuff(self._labels.file, item.image_id, listed)
            is_void = panoptic.segment_ids == 0
        if panoptic is not None:
            sizes.append(("the truth is", panoptic.segment_ids.shape))
        picture = self._check_sizes(item, sizes, found)
        if panoptic is None:
            return _Result(item.image_id, found, picture=picture)
        things = frozenset(k for k, c in self.classes.items() if c.is_thing)
        names = {k: c.name for k, c in self.classes.items()}
        found += check_shapes(item.image_id, panoptic, things, names, is_void)
        void_share = float(is_void.mean())
        if void_share == 1:
            report("all-void", "all of the image is void")
        compared = self._check_prediction(item.image_id, panoptic, found)
        return _Result(item.image_id, found, panoptic.segments, is_void.size, void_share, picture, compared)

    def _check_labels(self, item: LabelItem, report: Callable[..., None]) -> np.ndarray | None:
        """Cityscapes' label images; the instance ids, where they read."""
        files = item.labels
        instance_ids = read_label_image(files.instance_ids, report, has_instances=True)
        known = None if instance_ids is None else check_instance_ids(instance_ids, report)
        label_ids = read_label_image(files.label_ids, report)
        if label_ids is not None:
            check_label_ids(label_ids, known, report)
        return known

    def _check_sizes(self, item: LabelItem, sizes: list, found: list[Finding]) -> Fingerprint | None:
        if item.picture is not None:
            picture, wrong = check_picture(item.picture, item.image_id, sizes, decode=self._compare_pictures)
            found += wrong
            return picture
        if len({size for _, size in sizes}) > 1:
            text = " and ".join(f"{what} {h}x{w}" for what, (h, w) in sizes)
            found.append(Finding("size-disagrees", item.image_id, text=f"{text} pixels"))
        return None

    def _compare(
        self, file: LabelFile, image_id: ImageId, ids: np.ndarray, listed: list, report: Callable[..., None], found: list[Finding]
    ) -> PanopticMap:
        """A PNG against its list; what both have as a map, all else of which is void."""
        runs = find_runs(ids)
        areas, boxes = runs.areas().tolist(), (tuple(box) for box in runs.boxes().tolist())
        drawn = dict(zip(runs.ids.tolist(), zip(areas, boxes, strict=True), strict=True))
        by_id = {s.segment_id: s for s in listed}
        compare_ids(drawn, list(by_id), lambda k: file.class_name(by_id[k].category_id), report)
        segments = []
        for segment_id, (area, box) in drawn.items():
            segment = by_id.get(segment_id)
            if segment is None:
                continue
            if file.side == "truth":
                found += check_areas(file, image_id, segment, area, box)
            if segment.category_id is not None:
                segments.append(Segment(segment_id, segment.category_id, area, box, segment.is_crowd, segment.score))
        order = {segment_id: k for k, segment_id in enumerate(by_id)}
        segments.sort(key=lambda s: order[s.segment_id])
        sound = {s.segment_id for s in segments}
        if sound >= drawn.keys() - {0}:
            return PanopticMap(ids, tuple(segments))
        keep = np.array([k if k in sound else 0 for k in runs.ids.tolist()], np.uint32)
        return PanopticMap(keep[np.searchsorted(runs.ids, ids)], tuple(segments))

    def _check_prediction(self, image_id: ImageId, truth: PanopticMap, found: list[Finding]) -> object:
        if self._prediction is None:
            return None
        report = finding_reporter(found, image_id, "prediction")
        annotation = self._find_prediction(image_id)
        if annotation is None:
            report("prediction-missing", f"{self._prediction.json_path.name} has no annotation for it")
            return None
        ids = read_png(annotation.png, report)
        listed, of_list = read_segments(self._prediction, annotation)
        # Findings name the image as the truth does.
        found += [Finding(f.kind, image_id, f.side, f.segment_ids, f.box, f.text, f.weight) for f in of_list]
        if ids is None:
            return None
        prediction = self._compare(self._prediction, image_id, ids, listed, report, found)
        if ids.shape != truth.segment_ids.shape:
            (h, w), (height, width) = ids.shape, truth.segment_ids.shape
            report("size-disagrees", f"its PNG is {h}x{w} pixels, but the truth {height}x{width}")
            return None
        return self._judge.compare(image_id, truth, prediction) if self._judge else None

    def _find_prediction(self, image_id: ImageId) -> Annotation | None:
        if image_id in self._by_id:
            return self._by_id[image_id]
        for name in (self._labels.file.files.get(image_id), image_id):
            try:
                other = None if name is None else self._names.find(name)
            except InputError:  # it could be several
                continue
            if other is not None:
                return self._by_id[other]
        return None


def check_split(
    data_set: DataSet,
    split: str | None = None,
    *,
    prediction: Path | None = None,
    judge: Judge | None = None,
    compare_pictures: bool = True,
    workers: int = 1,
    track: Track = _track_nothing,
) -> LabelCheck:
    """Check a split of a data set; against its training split, or the training split against the one for validation.

    Args:
        split: None takes the usual one for validation.
        prediction: run folder or panoptic JSON of a prediction of the split, which is checked, too.
        judge: finds what the prediction contradicts.
        compare_pictures: whether pictures are decoded, and those of both splits compared; else only their sizes are read.
        workers: threads; they change the time, never a finding.
        track: for a progress bar.

    Raises:
        InputError: if nothing can be checked: there is no such split, or no truth of it that reads.
    """
    split = split or data_set.usual_split()
    training = data_set.usual_split(for_training=True)
    is_training = split != training  # whether the other split is the one for training
    other = training if is_training else data_set.usual_split()
    labels = open_labels(data_set, split)
    others = None
    if other != split and other in data_set.splits():
        others = (open_other_labels(data_set, other), is_training)
    options = {"compare_pictures": compare_pictures, "workers": workers, "track": track}
    return LabelCheck(labels, others, prediction, judge, **options)


def check_files(
    json_path: Path,
    folder: Path | None = None,
    images: str | Path | None = None,
    *,
    prediction: Path | None = None,
    judge: Judge | None = None,
    compare_pictures: bool = True,
    workers: int = 1,
    track: Track = _track_nothing,
) -> LabelCheck:
    """Check a panoptic JSON and its PNGs, without a data set.

    Args:
        folder: of the PNGs; default is the JSON's path without `.json`.
        images: a folder or a glob of the pictures, paired by image id or file name; None: there are none.
        prediction, judge, compare_pictures, workers, track: as check_split.

    Raises:
        InputError: if the JSON does not read, or `images` names none.
    """
    labels = open_file(json_path, folder, images)
    options = {"compare_pictures": compare_pictures, "workers": workers, "track": track}
    return LabelCheck(labels, None, prediction, judge, **options)


def _fingerprint(item: LabelItem) -> tuple[ImageId, Fingerprint | None]:
    try:
        return item.image_id, fingerprint(item.picture)
    except (InputError, OSError):  # said where that split is checked
        return item.image_id, None


def _by_image(findings: Iterable[Finding]) -> Iterator[tuple[ImageId | None, tuple[Finding, ...]]]:
    of_image: dict[ImageId | None, list[Finding]] = {}
    for finding in findings:
        of_image.setdefault(finding.image_id, []).append(finding)
    return ((image_id, tuple(found)) for image_id, found in of_image.items())
