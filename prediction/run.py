"""The one loop over images: predict those that are missing, write what is to be kept, and say what is where.

A run folder holds
  run.json                          classes, command, what is kept
  panoptic/ID_panoptic.png and panoptic.json    COCO panoptic form, which any scorer reads
  instances/ID.instances.safetensors            scored mask logits
  semantic/ID.semantic.safetensors or .png      logits, or a class map where there are none
  tracks/ID_panoptic.png and tracks.json        of the frames of videos: the maps again, with ids that stay
  parts/part-00001.jsonl                        what each shard has done, until all are joined
  overlay/ID.png, overlay/VIDEO.mp4 and .json   the image under its panoptic map, with a legend; frames under their tracks
Each file names in its header (a video in the JSON beside it) what made it: the predictor's fingerprint and the digest of the
image. That alone decides what is done, so that a run goes on after a kill, and is done anew for another checkpoint, setting or
image.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from data import instance_dump, semantic_dump
from data.images import is_made_by, read_png_text, write_image
from data.instance_dump import write_instances
from data.layouts.image_files import ImageFiles
from data.panoptic_file import PANOPTIC_ENDING, ImageId, write_panoptic_json
from data.panoptic_png import PanopticMap, Segment, read_panoptic_png, write_panoptic_png
from data.semantic_dump import SemanticMap, write_semantics
from data.split import Split
from data.targets import panoptic_to_scored_instances, panoptic_to_semantic
from data.taxonomy import Taxonomy
from data.videos import open_video, video_writer
from evaluation.render import draw_legend, overlay
from prediction.fused import FusedPredictor
from prediction.parts import (
    FOLDER,
    LEFT_OUT,
    Record,
    Whole,
    open_parts,
    part_path,
    read_records,
    remove_parts,
    write_part,
)
from prediction.predictor import Prediction, Predictor, image_for
from prediction.run_folder import FORMAT, VERSION, Run
from prediction.selection import KINDS, Shard
from prediction.tracking import films_of, track_run, tracks_png
from runtime.files import InputError, ItemError, digest_of, on_interruption, read_json, remove_partial_files, write_json
from runtime.progress import track
from runtime.threads import in_threads

PREDICTION = "prediction"
"""The kind of the parts that are written here."""
LEGEND_SHARE = 8
"""A video's legend has this part of the frame's width as its height: frames must be of one size, whatever they show."""


SUMMARIES = ("panoptic.json", "tracks.json", "scores.json", "results.md")
"""Files on all images, which are not those of other images' results; removed before the first new one."""


def predict_split(
    split: Split,
    predictor: Predictor,
    output: Path,
    keep: Sequence[str] = ("panoptic",),
    *,
    workers: int = 2,
    shard: Shard = Shard(),
    resume: bool = True,
    command: str = "",
    places: Mapping[str, Path] | None = None,
    films: Mapping[str, Sequence[int]] | None = None,
    about: Mapping[str, object] | None = None,
) -> Run:
    """Predict the images of a split that are not done, and write the run folder; shows progress.

    The result does not depend on the number of workers, on interruptions, or on how the split was cut into shards. A shard writes
    no file on all images, but its part (prediction/parts.py); scripts/collect.py joins the parts, and so does the same call
    without a shard, which finds everything done.

    Args:
        keep: of KINDS. Instances and semantics of a predictor that gives only a panoptic map are taken from it.
        workers: images that are read, fused and written at once; a network takes one at a time, or a batch of those that wait.
        shard: the part of the split to do.
        resume: whether what is done stays; else all is predicted anew.
        command: kept in run.json.
        places: folders outside of the run folder for some kinds.
        films: name -> indices in order of time, whose objects get ids that stay; default: the split's videos.
        about: what the part says of itself, for the one who joins it.

    Raises:
        InputError: if the predictor cannot give what is to be kept, knows other classes than the split, or fails; if the
            output would be read as input; or, after all others are done, if images are broken.
    """
    _check(split, predictor, keep)
    wanted = {*keep, "panoptic"} if "overlay" in keep else {*keep}  # the frames of a video are drawn from their maps
    kept = tuple(kind for kind in KINDS if kind in wanted)
    run = Run(Path(output), predictor.taxonomy, kept, predictor.min_score, places or {})
    for folder in (run.folder, *run.places.values()):
        check_outside(split, folder)
    own_min_score = predictor.instances_min_score if isinstance(predictor, FusedPredictor) else predictor.min_score
    _prepare_folder(run, split, shard, command, own_min_score)
    indices = [index for index in range(len(split)) if shard.holds(split.image_id(index))]
    whole = Whole.of(split.image_id(index) for index in range(len(split)))
    about = {"settings": _settings_of(predictor), "kept": list(kept), "problems": list(split.problems), **(about or {})}
    counts = _Counts()

    def describe_done() -> str:
        again = "run the same command again"
        return f"{counts.done} of {len(indices)} images are done in {run.folder}; {again} to go on" if counts.done else again

    work = partial(_predict_image, split, predictor, run, resume)
    start = time.perf_counter()
    with on_interruption(describe_done), write_part(run.folder, PREDICTION, shard, whole, about) as write:
        for record, seconds in track(in_threads(work, indices, workers), "predicting", len(indices)):
            counts.add(record, seconds)
            write(record)
    elapsed = time.perf_counter() - start
    problems = [*split.problems, *counts.problems]
    if shard.count == 1:
        join_parts(run)
        films = films_of(split) if films is None else films
        problems += _finish_films(split, run, films) if films and counts.done else []
        remove_parts(run.folder)
    _report(run, shard, counts, elapsed)
    check_problems(problems, counts.done)
    return run


def _report(run: Run, shard: Shard, counts: "_Counts", elapsed: float) -> None:
    """Print what was done, in how many seconds, and where it is."""
    print(f"{counts.new} images predicted, {counts.done - counts.new} were done: {', '.join(run.kept)} in {run.folder}")
    if counts.new:
        print(counts.shares(elapsed))
    if "panoptic" in run.kept and counts.done:
        print(f"wrote {run.panoptic_json if shard.count == 1 else part_path(run.folder, shard)}")
        if "overlay" in run.kept:
            print(f"to look at: {run.folder / 'overlay'}")


@dataclass
class _Counts:
    """What became of the images so far."""

    done: int = 0
    new: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: Counter = field(default_factory=Counter)
    """By kind of work, added up over all workers."""

    def add(self, record: Record, seconds: Mapping[str, float] | None) -> None:
        if LEFT_OUT in record:
            self.problems.append(record[LEFT_OUT])
            print(f"left out: {record[LEFT_OUT]}", file=sys.stderr, flush=True)
        else:
            self.done += 1
            self.new += seconds is not None
            self.seconds.update(seconds or {})

    def shares(self, elapsed: float) -> str:
        """What the work was, in words."""
        total = sum(self.seconds.values())
        shares = ", ".join(f"{name} {100 * spent / total:.0f} %" for name, spent in self.seconds.items())
        rate = f"{self.new / elapsed:.1f} images a second" if self.new > elapsed else f"{elapsed / self.new:.1f} s an image"
        return f"{rate}; {shares} of {total:.1f} s of work, done in {elapsed:.1f} s"


def check_problems(problems: Sequence[str], num_done: int) -> None:
    """Say in the end that images were left out.

    Raises:
        InputError: if any were.
    """
    if problems:
        raise InputError(f"{len(problems)} of {len(problems) + num_done} images were left out, the first one: {problems[0]}")


def join_parts(run: Run) -> None:
    """Write panoptic.json from the parts of all shards, image by image.

    Raises:
        InputError: as open_parts and read_records.
    """
    parts = open_parts(run.folder, PREDICTION)
    if "panoptic" not in run.kept:
        for _ in read_records(parts):  # all images must be there
            pass
        return
    done = (record for record in read_records(parts) if LEFT_OUT not in record)
    first = next(done, None)
    if first is not None:
        write_panoptic_json(run.panoptic_json, run.taxonomy, (_to_entry(record) for record in chain([first], done)))


def _to_entry(record: Record) -> tuple[ImageId, str, str, tuple[int, int], list[Segment]]:
    segments = [Segment.from_json(entry, may_be_zero=True) for entry in record["segments_info"]]
    png = f"{record['image_id']}{PANOPTIC_ENDING}.png"
    return record["key"], record["file_name"], png, tuple(record["size"]), segments


def check_outside(split: Split, output: Path) -> None:
    """Refuse to read what the command itself writes.

    Raises:
        InputError: if an image lies in the folder `output`.
    """
    output = Path(output).expanduser().resolve()
    if isinstance(split, ImageFiles) and any(output in path.resolve().parents for path in split.files.values()):
        raise InputError(f"{split.name}: also finds images in the output {output}; give an --output outside of it")


def _check(split: Split, predictor: Predictor, keep: Sequence[str]) -> None:
    strangers = [kind for kind in keep if kind not in KINDS]
    if strangers or not keep:
        raise InputError(f"--keep {' '.join(keep)}: give one or more of {' '.join(KINDS)}")
    for kind in ("panoptic" if kind == "overlay" else kind for kind in keep):
        if kind not in predictor.gives and "panoptic" not in predictor.gives:
            raise InputError(f"this model gives {' and '.join(predictor.gives)}; leave `{kind}` out of --keep, or fuse it first")
    if split.taxonomy is not None and (difference := predictor.taxonomy.difference(split.taxonomy)):
        raise InputError(
            f"{split.name}: the model knows other classes, {difference}; give a checkpoint and a data set that belong together"
        )


def _prepare_folder(run: Run, split: Split, shard: Shard, command: str, instances_min_score: float | None) -> None:
    if shard.count == 1:  # else other shards may be writing there
        for kind in ("", *run.kept):
            folders = {(run.place(kind) / split.image_id(k)).parent for k in range(len(split))} if kind else set()
            folders |= set() if kind else {run.folder, run.folder / FOLDER}
            for folder in folders:
                remove_partial_files(folder)
    content = describe_run(run, split.name, command, instances_min_score)
    for folder in (run.folder, *run.places.values()):  # what lies outside is used without the run folder
        write_json(folder / "run.json", content)


def describe_run(run: Run, split: str, command: str, instances_min_score: float | None) -> dict:
    """What run.json says of a run.

    Args:
        split: name of what was predicted.
        command: that writes the run.
        instances_min_score: score below which the instances' own model gives none, 0..1; None where it does not say.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "command": command,
        "split": split,
        "kept": list(run.kept),
        "min_score": run.min_score,
        "instances_min_score": instances_min_score,
        "taxonomy": run.taxonomy.name,
        "categories": run.taxonomy.to_coco_categories(),
    }


def _settings_of(predictor: Predictor) -> str | None:
    """What must be the same in all shards; None where it depends on the image, as of files of predictions."""
    return getattr(predictor, "name", None)


def _predict_image(
    split: Split, predictor: Predictor, run: Run, resume: bool, index: int
) -> tuple[Record, Mapping[str, float] | None]:
    """All the work on one image, so that workers can do several at once: its line in the part, and the seconds that it took.

    A broken image has a line that says why it was left out. Of what was done before there are no seconds.
    """
    start = time.perf_counter()
    image_id = split.image_id(index)
    about = {"index": index, "image_id": image_id, "key": split.key(index), "file_name": split.file_name(index)}
    try:
        producer = f"{predictor.fingerprint(image_id)}-{split.digest(index)[:8]}"
        if resume and (found := _find_done(split, run, index, producer)):
            return about | _to_record(*found), None
        image = split.image(index) if "overlay" in run.kept else image_for(predictor, split, index)
    except InputError as error:
        return about | {LEFT_OUT: str(error)}, None
    times = [start, time.perf_counter()]
    for name in SUMMARIES:
        (run.folder / name).unlink(missing_ok=True)
    try:
        prediction = predictor.predict(image_id, image)
        times.append(time.perf_counter())
        seconds = prediction.seconds or {"prediction": times[2] - times[1]}
        prediction = _complete(prediction, run, image_id)
    except ItemError as error:
        return about | {LEFT_OUT: f"image {image_id!r}: {error}"}, None
    _write(run, image_id, image, prediction, producer, has_overlay=_has_own_overlay(split, index))
    segments = None if prediction.panoptic is None else prediction.panoptic.segments
    seconds = {"reading": times[1] - times[0], **seconds, "writing": time.perf_counter() - times[2]}
    return about | _to_record(image.shape[:2], segments), seconds


def _to_record(size: tuple[int, int], segments: Sequence[Segment] | None) -> Record:
    return {"size": list(size), "segments_info": None if segments is None else [segment.to_json() for segment in segments]}


def _has_own_overlay(split: Split, index: int) -> bool:
    """Whether an image's overlay is a PNG, and not a part of a video."""
    return split.video_of(index) is None


def _find_done(split: Split, run: Run, index: int, producer: str) -> tuple[tuple[int, int], tuple[Segment, ...] | None] | None:
    """Size and segments of an image of which everything is there that is kept; else None."""
    image_id = split.image_id(index)
    checks: dict[str, Callable[[], bool]] = {
        "instances": lambda: instance_dump.is_dumped_by(run.place("instances"), image_id, producer),
        "semantic": lambda: (
            semantic_dump.is_dumped_by(run.place("semantic"), image_id, producer)
            or semantic_dump.is_map_by(run.place("semantic"), image_id, run.taxonomy, producer)
        ),
        "overlay": lambda: not _has_own_overlay(split, index) or is_made_by(run.drawing(image_id), producer),
    }
    if not all(check() for kind, check in checks.items() if kind in run.kept):
        return None
    if "panoptic" not in run.kept:
        return split.size(index), None
    panoptic = read_panoptic_png(run.png(image_id), producer)
    return None if panoptic is None else (panoptic.segment_ids.shape, panoptic.segments)


def _complete(prediction: Prediction, run: Run, image_id: str) -> Prediction:
    """The prediction with what is kept of it, taken from its panoptic map where it is absent."""
    panoptic = prediction.panoptic
    if "instances" in run.kept and prediction.instances is None:
        about = {"image_id": image_id, "taxonomy": run.taxonomy, "producer": ""}
        prediction = replace(prediction, instances=panoptic_to_scored_instances(panoptic, **about))
    if "semantic" in run.kept and prediction.semantic is None:
        semantic = SemanticMap(image_id, run.taxonomy.name, "", panoptic_to_semantic(panoptic, run.taxonomy))
        prediction = replace(prediction, semantic=semantic)
    return prediction


def _write(run: Run, image_id: str, image: np.ndarray, prediction: Prediction, producer: str, *, has_overlay: bool) -> None:
    if "instances" in run.kept:
        write_instances(run.place("instances"), replace(prediction.instances, producer=producer))
    if "semantic" in run.kept:
        write_semantics(run.place("semantic"), replace(prediction.semantic, producer=producer))
    if "overlay" in run.kept and has_overlay:
        write_image(run.drawing(image_id), overlay(image, prediction.panoptic, run.taxonomy), producer)
    if "panoptic" in run.kept:
        write_panoptic_png(run.png(image_id), prediction.panoptic, producer)


def _finish_films(split: Split, run: Run, films: Mapping[str, Sequence[int]]) -> list[str]:
    """Write what is of films as a whole, their tracks and videos of overlays; what was left out of it, a line each."""
    problems = []
    try:
        tracks = track_run(run, split, films=films) if "panoptic" in run.kept else None
        if tracks is not None:
            print(f"wrote {tracks}: the frames' maps, with ids that stay")
    except InputError as error:
        problems.append(str(error))
    if "overlay" in run.kept:
        _write_video_overlays(split, run)
    return problems


def _write_video_overlays(split: Split, run: Run) -> None:
    """One video of overlays for each video of the split, from the frames' tracks, unless it was made of the same ones.

    Beside each lies a JSON that says what it was made of, since a video has no place for it.
    """
    videos: dict[str, list[int]] = {}
    for index in range(len(split)):
        if not _has_own_overlay(split, index):
            videos.setdefault(split.video_of(index), []).append(index)
    for name, of_video in videos.items():
        indices = [index for index in of_video if run.png(split.image_id(index)).is_file()]
        path, about = run.place("overlay") / f"{name}.mp4", run.place("overlay") / f"{name}.json"
        maps = {index: _frame_png(run, split.image_id(index)) for index in indices}
        wanted = {"made_from": digest_of([(split.image_id(i), read_png_text(maps[i])) for i in indices])}
        if path.is_file() and about.is_file() and read_json(about) == wanted:
            continue
        about.unlink(missing_ok=True)
        if not indices:
            path.unlink(missing_ok=True)
            continue
        with open_video(split.image_path(indices[0])) as video:
            rate = video.rate
        with video_writer(path, rate) as write:
            for index in track(indices, f"drawing {name}", len(indices)):
                write(frame_overlay(split.image(index), read_panoptic_png(maps[index]), run.taxonomy))
        write_json(about, wanted)


def _frame_png(run: Run, image_id: str) -> Path:
    """The map that a frame is drawn from: that of its tracks, where there is one."""
    tracked = tracks_png(run, image_id)
    return tracked if tracked.is_file() else run.png(image_id)


def frame_overlay(frame: np.ndarray, panoptic: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """As evaluation.render.overlay, with a colour of its own for each track, and a legend of the same height below each frame."""
    drawn = overlay(frame, panoptic, taxonomy, legend=False, by_id=True)
    width = drawn.shape[1]
    strip = np.full((width // LEGEND_SHARE, width, 3), 255, dtype=np.uint8)
    legend = draw_legend(panoptic, taxonomy, width)[: len(strip)]
    strip[: len(legend)] = legend
    return np.concatenate([drawn, strip])
