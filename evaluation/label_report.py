"""The picture book of a check of labels: the images with findings in the viewer, each with what was found in it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data.images import read_image_size
from data.label_checks.check import LabelCheck
from data.label_checks.findings import Finding, FindingLog
from data.label_checks.json_checks import LabelClass
from data.label_checks.kinds import KINDS
from data.panoptic_file import ImageId
from data.panoptic_png import PanopticMap
from data.taxonomy import Taxonomy, recognise
from evaluation import viewer
from evaluation.error_kinds import ErrorKinds
from evaluation.file_scores import Comparison, compare_maps
from evaluation.viewer import Summary, ViewedRun, open_viewer
from runtime.files import InputError

MOST_IMAGES = 1000
PREDICTION = "PQ of the prediction on these images alone"


def write_label_report(
    folder: Path,
    check: LabelCheck,
    log: FindingLog,
    facts: Mapping[str, object],
    track: Callable[[Iterable, str, int], Iterable],
) -> int:
    """Write the images with findings, those of broken kinds first, at most MOST_IMAGES; return how many.

    Args:
        check: that has been iterated. log: of all its findings.
        facts: what stands above the images.
        track: for a progress bar.

    Raises:
        InputError: if `folder` holds anything but a report.
    """
    kinds = log.kinds()
    by_image: dict[ImageId, list[Finding]] = {}
    for kind in kinds:
        for finding in log.of(kind):
            if finding.image_id is not None:
                by_image.setdefault(finding.image_id, []).append(finding)
    shown = [image_id for image_id in by_image if check.has(image_id)][:MOST_IMAGES]
    taxonomy = to_taxonomy(check.name, check.classes)
    pictures = {image_id: path for image_id in shown if (path := check.picture(image_id)) is not None}
    has_prediction, errors = check.has_prediction, ErrorKinds(taxonomy)
    with open_viewer(folder, taxonomy, shown, pictures) as page:
        for image_id in track(shown, "drawing", len(shown)):
            truth, prediction = (_known(panoptic, taxonomy) for panoptic in check.read(image_id))
            comparison = _compare(image_id, truth, prediction)
            is_broken = any(f.kind == "picture-unreadable" for f in by_image[image_id])
            size, has_picture = _size_of(truth, None if is_broken else pictures.get(image_id))
            if size is None:
                continue  # nothing of it can be shown; the findings are in the list
            if comparison is not None:
                errors.add(comparison.outcomes, comparison.matches, comparison.num_pixels)
            findings = [
                viewer.Finding(kinds.index(f.kind), f.in_words(), f.side, f.segment_ids, f.box) for f in by_image[image_id]
            ]
            comparisons = [comparison] if has_prediction else []
            entry = page.write_image(image_id, truth, comparisons, findings, size=size, has_picture=has_picture)
            page.add(entry)
        problems = [viewer.Problem(KINDS[k].level, k, log.counts[k], KINDS[k].definition, KINDS[k].effect) for k in kinds]
        runs = [ViewedRun(PREDICTION, errors.quality.scores(taxonomy), errors)] if has_prediction else []
        num_found = sum(check.has(image_id) for image_id in by_image)
        said = f"{len(shown)} of {check.num_images}, those with findings"
        if num_found > len(shown):
            said += f"; {num_found - len(shown)} more have some"
        page.finish(Summary(f"Labels of {check.name}", {"Images": said} | dict(facts), runs, problems=problems))
    return len(shown)


def to_taxonomy(name: str, classes: Mapping[int, LabelClass]) -> Taxonomy:
    """The classes of labels, which may be broken; a class that does not say what it is counts as a thing."""
    entries = [{"id": k, "name": c.name, "isthing": int(c.is_thing is not False)} for k, c in classes.items()]
    return recognise(Taxonomy.from_coco_categories(name, entries))


def _known(panoptic: PanopticMap | None, taxonomy: Taxonomy) -> PanopticMap | None:
    """Without segments of classes that nobody knows, whose pixels are shown as void."""
    if panoptic is None:
        return None
    segments = tuple(s for s in panoptic.segments if s.category_id in taxonomy.dataset_id_to_train_id)
    return PanopticMap(panoptic.segment_ids, segments)


def _compare(image_id: ImageId, truth: PanopticMap | None, prediction: PanopticMap | None) -> Comparison | None:
    if truth is None or prediction is None or truth.segment_ids.shape != prediction.segment_ids.shape:
        return None
    try:
        return compare_maps(image_id, truth, prediction)
    except InputError:  # ids that are not listed: said among the findings
        return None


def _size_of(truth: PanopticMap | None, picture: Path | None) -> tuple[tuple[int, int] | None, bool]:
    """(height, width) of what is shown, and whether the picture can be."""
    try:
        of_picture = None if picture is None else read_image_size(picture)
    except (InputError, OSError):  # said among the findings
        of_picture = None
    if truth is None:
        return of_picture, of_picture is not None
    return truth.segment_ids.shape, of_picture == truth.segment_ids.shape
