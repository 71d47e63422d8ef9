"""Two panoptic files compared in shards: what scripts/evaluate.py --shard writes, and what scripts/collect.py makes of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from data.panoptic_file import PanopticFile
from data.taxonomy import Taxonomy, recognise
from evaluation.image_records import count_records, record_images
from evaluation.per_image import write_per_image
from evaluation.provenance import describe_digests
from evaluation.run_report import check_same_truth, write_scores
from evaluation.run_scores import Extras
from evaluation.slices import read_image_table, slice_images
from prediction.parts import Record, Whole, open_parts, read_records, write_part
from prediction.selection import Shard
from runtime.files import digest_of
from runtime.progress import track

COMPARISON = "comparison"
"""The kind of the parts that are written here."""
BOUNDARY, DAGGER = "boundary", "dagger"


@dataclass(frozen=True)
class Wanted:
    """What all shards together are to give.

    also: of BOUNDARY and DAGGER. scores: by the name of each prediction its scores where these were given instead, in the order
    in which they are shown. output: name of the JSON. per_image, slices: paths of tables. class_maps: of truth and predictions.
    """

    command: str
    also: Sequence[str]
    scores: Mapping[str, dict | None]
    output: str
    per_image: str | None
    slices: str | None
    class_maps: Sequence[str | None]


def write_comparisons(
    folder: Path,
    shard: Shard,
    truth: PanopticFile,
    predictions: Mapping[str, PanopticFile],
    wanted: Wanted,
    *,
    workers: int = 1,
) -> None:
    """Compare the images of a shard with each prediction, and write its part; errors as record_images and write_part."""
    classes = {"name": truth.taxonomy.name, "categories": truth.taxonomy.to_coco_categories()}
    files = {"truth": (truth, wanted.class_maps[0])} | {n: (file, wanted.class_maps[1]) for n, file in predictions.items()}
    described = {name: describe_digests(file, (), class_map) for name, (file, class_map) in files.items()}
    made_of = (classes, list(wanted.scores), list(wanted.also), [entry["digest"] for entry in described.values()])
    about = {"settings": digest_of(made_of), "taxonomy": classes, "described": described, "wanted": asdict(wanted)}
    images = [(index, image_id) for index, image_id in enumerate(truth.annotations) if shard.holds(str(image_id))]
    image_ids = [image_id for _, image_id in images]
    records = record_images(truth, predictions, image_ids, workers=workers, has_boundary=BOUNDARY in wanted.also)
    with write_part(folder, COMPARISON, shard, Whole.of(map(str, truth.annotations)), about) as write:
        for (index, _), record in zip(images, track(records, "comparing", len(images))):
            write({"index": index} | record)


def collect_comparisons(folder: Path) -> list[Path]:
    """Join the parts of a folder: print and write the scores, and the table of images where it was wanted; return the paths.

    Raises:
        InputError: if a part or an image is missing, broken, or there twice.
    """
    parts = open_parts(folder, COMPARISON)
    about, wanted = parts[0].about, Wanted(**parts[0].about["wanted"])
    taxonomy = recognise(Taxonomy.from_coco_categories(about["taxonomy"]["name"], about["taxonomy"]["categories"]))
    make_slices = None
    if wanted.slices is not None:
        names = {r["key"]: [r["file_name"]] if r["file_name"] else [] for r in read_records(parts)}
        make_slices = partial(slice_images, read_image_table(Path(wanted.slices)), names, taxonomy)
        for text in make_slices().notes:
            print(text, flush=True)
    compared = {name: scores for name, scores in wanted.scores.items() if scores is not None}
    for name, scores in compared.items():
        check_same_truth(f"--compare {name}", scores, about["described"]["truth"])
    digests: list[list[str]] = []

    def records() -> Iterator[Record]:
        for record in read_records(parts):
            digests.append(record["digests"])
            yield record

    per_image = None if wanted.per_image is None else Path(wanted.per_image)
    own_names = [name for name in wanted.scores if name not in compared]
    with write_per_image(per_image) as write_row:
        runs = count_records(records(), own_names, taxonomy, Extras(BOUNDARY in wanted.also, make_slices), write_row)
    described = about["described"]
    for entry, of_file in zip(described.values(), zip(*digests, strict=True), strict=True):
        entry |= {"pngs": len(of_file), "pngs_digest": digest_of(*of_file)}
    scored = {run.name: run.scores for run in runs} | compared
    output = folder / wanted.output
    write_scores(runs, output, {name: scored[name] for name in wanted.scores}, wanted.command, described, DAGGER in wanted.also)
    return [output] if per_image is None else [output, per_image]
