"""Ids that stay through a film: a thing keeps the id of the track whose last mask it overlaps most.

A rule of a few lines, for any model. Things of one class are paired with tracks by mask IoU, the best pair first, with the last
mask where it was or moved on by the track's speed. What is left, such as what was seen once and has no speed yet, is paired by
form: with the nearest track whose mask fits, laid on the thing. No looks are compared, so that a thing that was hidden for long
gets a new id; an id is never used again.

A run's maps are read film by film and in order, after all are predicted, so that workers and shards, which predict them in any
order, make no difference.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from data.images import read_image_size, read_png_text
from data.panoptic_file import PANOPTIC_ENDING, write_panoptic_json
from data.panoptic_png import MAX_SEGMENT_ID, PRODUCER_CHUNK, PanopticMap, Segment, read_segments, write_panoptic_png
from data.png_file import has_end
from data.segment_runs import find_runs, look_up
from data.split import Split, numbered_frames
from data.taxonomy import MAX_INSTANCES_PER_IMAGE, Taxonomy
from prediction.run_folder import Run
from runtime.files import InputError, digest_of, remove_partial_files
from runtime.progress import track as show_progress

VERSION = 1
"""Raise it whenever the same maps get other tracks."""
KIND = "tracks"
"""Folder of the PNGs in a run folder, and the name of the JSON beside it."""


@dataclass(frozen=True)
class TrackingSettings:
    """When a thing is one that was seen before. The defaults were chosen on drawn drives, with true masks and with a model's.

    Raises:
        InputError: if a value is out of range.
    """

    min_iou: float = 0.1
    """Least IoU of a thing's mask with its track's last one, more than 0 and at most 1."""
    max_age: int = 5
    """Frames for which a track waits for a thing that has vanished; 0 ends it at once."""
    follows_motion: bool = True
    """Whether the last mask is also compared where it should be by now, by the speed of its box."""
    min_form_iou: float = 0.3
    """Least IoU of the masks, laid on each other, of a thing and a track that do not overlap enough; above 1 pairs none."""
    reach: float = 1.5
    """How far off its track such a thing may be, in longer sides of its box."""

    def __post_init__(self):
        if not 0 < self.min_iou <= 1:
            raise InputError(f"tracking: min_iou is {self.min_iou}, but more than 0 and at most 1 was needed; try 0.1")
        if isinstance(self.max_age, bool) or not isinstance(self.max_age, int) or self.max_age < 0:
            raise InputError(f"tracking: max_age is {self.max_age!r}, but a whole number of frames from 0 on was needed; try 5")
        for name in ("min_form_iou", "reach"):
            if not getattr(self, name) >= 0:
                raise InputError(f"tracking: {name} is {getattr(self, name)}, but a number from 0 on was needed; leave it out")


@dataclass
class _Track:
    """What is kept of a thing: the runs of its last mask (starts, ends: (R,) int64 as in data/segment_runs.py), no pixels."""

    number: int
    segment_id: int
    category_id: int
    starts: np.ndarray
    ends: np.ndarray
    center: tuple[float, float]
    side: int
    """Of its box, the longer one."""
    frame: int
    speed: tuple[float, float] = (0.0, 0.0)
    """(right, down), pixels a frame."""

    @property
    def area(self) -> int:
        """In pixels."""
        return int((self.ends - self.starts).sum())

    def moved_by(self, shift: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """(N,) int64 positions x * H + y of the mask, (right, down) pixels further; what moved out of the image is left out."""
        positions = _expand(self.starts, self.ends)
        dx, dy = shift
        if dx == dy == 0:
            return positions
        height, width = size
        x, y = positions // height + dx, positions % height + dy
        is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return x[is_inside] * height + y[is_inside]


_Pair = tuple[float, int, int, _Track]
"""(what they are ordered by, number of the track, place of the thing, track)."""


class Tracker:
    """Gives the things of a film, frame by frame, ids that stay.

    The n-th track of a class has the segment id base * 1000 + n (data.taxonomy.Taxonomy.segment_id); after 999 of a class its
    tracks have running numbers behind those of all classes. Stuff, and crowds, have the id of their class.

    Memory is the runs of the masks that were seen in the last `max_age` frames.
    """

    def __init__(self, taxonomy: Taxonomy, settings: TrackingSettings = TrackingSettings()):
        self.taxonomy, self.settings = taxonomy, settings
        self._tracks: list[_Track] = []
        self._frame = 0
        self._size: tuple[int, int] | None = None
        self._num_tracks = 0
        self._num_of_class: dict[int, int] = {}
        bases = [taxonomy.segment_id(train_id) for train_id in range(taxonomy.num_classes)]
        self._next_running = (max(bases) + 1) * 1000

    def step(self, panoptic: PanopticMap) -> PanopticMap:
        """The next frame with track ids as segment ids; pixels, classes and scores are as they were.

        Segments of one stuff class become one. The result depends on the frames so far alone.

        Raises:
            InputError: if the frame is of another size than those before, a category is not in the taxonomy, or the ids that a
                PNG can hold are used up.
        """
        size = panoptic.segment_ids.shape
        if self._size not in (None, size):
            (h, w), (before_h, before_w) = size, self._size
            raise InputError(f"a frame of {h}x{w} pixels after frames of {before_h}x{before_w}; track films of one size only")
        self._size = size
        strangers = sorted({s.category_id for s in panoptic.segments} - self.taxonomy.dataset_id_to_train_id.keys())
        if strangers:
            raise InputError(f"category ids {strangers[:5]} are not in {self.taxonomy.name}; give the tracker the maps' classes")
        new_ids = {s.segment_id: self.taxonomy.segment_id(self._train_id(s)) for s in panoptic.segments}
        things = self._cut_out(panoptic)
        for thing, found in zip(things, self._match(things, size), strict=True):
            new_ids[thing.segment_id] = self._keep(thing, found)
        self.skip()
        return _renumber(panoptic, new_ids)

    def skip(self) -> None:
        """Let a frame pass that could not be read: the tracks grow older."""
        self._frame += 1
        self._tracks = [t for t in self._tracks if self._frame - t.frame <= self.settings.max_age + 1]

    def _train_id(self, segment: Segment) -> int:
        return self.taxonomy.dataset_id_to_train_id[segment.category_id]

    def _cut_out(self, panoptic: PanopticMap) -> list[_Track]:
        """The things of a frame as tracks that have no number yet, ascending by segment id."""
        by_id = {s.segment_id: s for s in panoptic.segments if self.taxonomy.is_thing[self._train_id(s)] and not s.is_crowd}
        runs = find_runs(panoptic.segment_ids)
        bounds = np.append(runs.firsts, len(runs.starts)).tolist()
        things = []
        for k, (segment_id, (x, y, width, height)) in enumerate(zip(runs.ids.tolist(), runs.boxes().tolist(), strict=True)):
            if segment_id in by_id:
                part = slice(bounds[k], bounds[k + 1])
                center, side = (x + width / 2, y + height / 2), max(width, height)
                starts, ends = runs.starts[part].copy(), runs.ends[part].copy()  # not a view, which would keep all runs
                things.append(_Track(0, segment_id, by_id[segment_id].category_id, starts, ends, center, side, self._frame))
        return things

    def _match(self, things: list[_Track], size: tuple[int, int]) -> list[_Track | None]:
        """The track of each thing, or None: first by overlap, then by form."""
        found: list[_Track | None] = [None] * len(things)
        for pairs in (self._overlapping, self._alike):
            taken = {track.number for track in found if track is not None}
            for _, number, k, track in sorted(pairs(things, found, size), key=lambda pair: pair[:3]):
                if found[k] is None and number not in taken:
                    found[k] = track
                    taken.add(number)
        return found

    def _overlapping(self, things: list[_Track], found: list[_Track | None], size: tuple[int, int]) -> Iterator[_Pair]:
        """Pairs of a class by falling IoU; of equal ones the older track, and the smaller segment id, is first.

        The larger IoU counts of the mask where it was and where it should be by now: the speed of a box is a poor guess where
        the model's masks change from frame to frame.
        """
        places = np.zeros(size[0] * size[1], np.int32)
        for k, thing in enumerate(things):
            places[_expand(thing.starts, thing.ends)] = k + 1
        areas = np.array([0, *(thing.area for thing in things)])
        for track in self._tracks:
            ious = np.zeros(len(areas))
            for shift in {(0, 0), _rounded(self._shift_of(track))}:
                mask = track.moved_by(shift, size)
                overlaps = np.bincount(places[mask], minlength=len(areas))
                ious = np.maximum(ious, overlaps / (len(mask) + areas - overlaps + (areas == 0)))
            for k, iou in enumerate(ious[1:].tolist()):
                if things[k].category_id == track.category_id and iou >= self.settings.min_iou:
                    yield -iou, track.number, k, track

    def _alike(self, things: list[_Track], found: list[_Track | None], size: tuple[int, int]) -> Iterator[_Pair]:
        """Pairs of what is left, by rising distance in longer sides of the thing's box."""
        taken = {track.number for track in found if track is not None}
        free = [track for track in self._tracks if track.number not in taken]
        for k, thing in enumerate(things):
            if found[k] is not None:
                continue
            mask = _expand(thing.starts, thing.ends)
            for track in free:
                distance = math.dist(thing.center, np.add(track.center, self._shift_of(track))) / thing.side
                if track.category_id != thing.category_id or distance > self.settings.reach:
                    continue
                laid_on = track.moved_by(_rounded(np.subtract(thing.center, track.center)), size)
                overlap = len(np.intersect1d(mask, laid_on, assume_unique=True))
                if overlap >= self.settings.min_form_iou * (len(laid_on) + len(mask) - overlap):
                    yield distance, track.number, k, track

    def _shift_of(self, track: _Track) -> tuple[float, float]:
        """How far a track has moved since it was seen, as far as one knows."""
        if not self.settings.follows_motion:
            return 0.0, 0.0
        gap = self._frame - track.frame
        return track.speed[0] * gap, track.speed[1] * gap

    def _keep(self, thing: _Track, found: _Track | None) -> int:
        """Let a thing be the newest sight of its track, or of a new one; return the track's segment id."""
        if found is None:
            self._num_tracks += 1
            found = replace(thing, number=self._num_tracks, segment_id=self._new_id(thing.category_id))
            self._tracks.append(found)
            return found.segment_id
        gap = self._frame - found.frame
        found.speed = tuple((now - before) / gap for now, before in zip(thing.center, found.center, strict=True))
        found.starts, found.ends, found.frame = thing.starts, thing.ends, thing.frame
        found.center, found.side = thing.center, thing.side
        return found.segment_id

    def _new_id(self, category_id: int) -> int:
        number = self._num_of_class[category_id] = self._num_of_class.get(category_id, 0) + 1
        if number <= MAX_INSTANCES_PER_IMAGE:
            return self.taxonomy.segment_id(self.taxonomy.dataset_id_to_train_id[category_id], number)
        self._next_running += 1
        if self._next_running > MAX_SEGMENT_ID:
            raise InputError(f"more tracks than the {MAX_SEGMENT_ID} ids of a panoptic PNG; track the film in parts")
        return self._next_running


def _rounded(shift: Sequence[float]) -> tuple[int, int]:
    return round(float(shift[0])), round(float(shift[1]))


def _expand(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(N,) int64: every position of the runs, in order."""
    lengths = ends - starts
    skipped = starts - np.append(0, np.cumsum(lengths)[:-1]) if len(lengths) else starts
    return np.repeat(skipped, lengths) + np.arange(int(lengths.sum()))


def _renumber(panoptic: PanopticMap, new_ids: Mapping[int, int]) -> PanopticMap:
    """The same map under new ids; segments that get the same one become one, with the sum of areas, and without a score."""
    table = np.zeros(max([0, *new_ids]) + 1, np.uint32)
    for old, new in new_ids.items():
        table[old] = new
    segments: dict[int, Segment] = {}
    for segment in panoptic.segments:
        new = replace(segment, segment_id=new_ids[segment.segment_id])
        other = segments.get(new.segment_id)
        segments[new.segment_id] = new if other is None else _join(other, new)
    ordered = tuple(segments[k] for k in sorted(segments))
    return PanopticMap(look_up(table, panoptic.segment_ids), ordered)


def _join(a: Segment, b: Segment) -> Segment:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.bbox, b.bbox
    x, y = min(ax, bx), min(ay, by)
    box = (x, y, max(ax + aw, bx + bw) - x, max(ay + ah, by + bh) - y)
    return replace(a, area=a.area + b.area, bbox=box, score=None, is_crowd=a.is_crowd or b.is_crowd)


def films_of(split: Split) -> dict[str, list[int]]:
    """The films of a split: name -> indices of the frames, in order. Images of their own are of none."""
    films: dict[str, list[int]] = {}
    for index in range(len(split)):
        name = split.video_of(index)
        if name is not None:
            films.setdefault(name, []).append(index)
    return films


def numbered_images_of(split: Split) -> dict[str, list[int]]:
    """Images of their own as films: name -> indices of those whose ids differ in their last number alone, by that number.

    So `0002/000000` and `0002/000001` are of `0002`, and `city_000000_000019` is of `city_000000`.
    """
    alone = ((split.image_id(index), index) for index in range(len(split)) if split.video_of(index) is None)
    return {name or split.split: indices for name, indices in numbered_frames(alone).items()}


def track_run(
    run: Run,
    split: Split,
    settings: TrackingSettings = TrackingSettings(),
    films: Mapping[str, Sequence[int]] | None = None,
    taxonomy: Taxonomy | None = None,
) -> Path | None:
    """Give the panoptic maps of a run's films ids that stay: `tracks/` and `tracks.json` beside `panoptic/` and `panoptic.json`.

    Call it when all frames are predicted. The maps of the run stay as they are, so that what is done stays done; a film whose
    tracks are there and were made from the same maps by the same settings is left. Frames that the run left out are skipped, and
    objects are followed across them as far as `max_age` reaches.

    Args:
        films: name -> indices of the split, in order of time. Default: films_of(split). An image is of one film at most.
        taxonomy: whose things are tracked, with the category ids of the run's maps. Default: the run's. With
            data.layouts.kitti_step.KITTI_STEP what has no tracks in its truth becomes stuff.

    Returns:
        The JSON, in COCO panoptic form; None if there is no film with a map.

    Raises:
        InputError: if the run keeps no panoptic maps; or, after all other films are done and their JSON is written, if a map of
            a film is broken, or Tracker.step refuses it.
    """
    if "panoptic" not in run.kept:
        raise InputError(f"{run.folder}: keeps no panoptic maps, but tracks are made of them; predict with --keep panoptic")
    films = films_of(split) if films is None else films
    taxonomy = run.taxonomy if taxonomy is None else taxonomy
    if not films:
        return None
    for folder in {tracks_png(run, split.image_id(index)).parent for indices in films.values() for index in indices}:
        if folder.is_dir():
            remove_partial_files(folder)
    entries, problems = [], []
    for name, indices in films.items():
        try:
            entries += _track_film(run, split, taxonomy, settings, name, list(indices))
        except InputError as error:
            problems.append(f"film {name!r}: {error}")
            print(f"left out: {problems[-1]}", file=sys.stderr, flush=True)
    path = run.folder / f"{KIND}.json"
    if entries:
        write_panoptic_json(path, taxonomy, entries)
    if problems:
        raise InputError(f"{len(problems)} of {len(films)} films got no tracks, the first one: {problems[0]}")
    return path if entries else None


def tracks_png(run: Run, image_id: str) -> Path:
    """The PNG of a frame whose ids are tracks."""
    return run.place(KIND) / f"{image_id}{PANOPTIC_ENDING}.png"


def _track_film(
    run: Run, split: Split, taxonomy: Taxonomy, settings: TrackingSettings, film: str, indices: list[int]
) -> list[tuple]:
    """Write the PNGs of a film, unless they are there; the entries of its frames for the JSON."""
    rule = digest_of(KIND, VERSION, asdict(settings), taxonomy.to_coco_categories())
    producers = _producers(run, split, rule, indices)
    pngs = {index: tracks_png(run, split.image_id(index)) for index in producers}
    found = {index: _segments_by(pngs[index], producer) for index, producer in producers.items()}
    if None in found.values():
        (run.folder / f"{KIND}.json").unlink(missing_ok=True)  # it would name ids that are no more
        tracker = Tracker(taxonomy, settings)
        for index in show_progress(indices, f"tracking {film}", len(indices)):
            if index not in producers:
                tracker.skip()
                continue
            try:
                tracked = tracker.step(run.panoptic(split.image_id(index)))
            except InputError as error:
                raise InputError(f"{split.image_id(index)}: {error}") from None
            if found[index] is None:
                write_panoptic_png(pngs[index], tracked, producers[index])
                found[index] = tracked.segments
    return [
        (
            split.key(index),
            split.file_name(index),
            png.relative_to(run.place(KIND)).as_posix(),
            read_image_size(png),
            found[index],
        )
        for index, png in pngs.items()
    ]


def _producers(run: Run, split: Split, rule: str, indices: list[int]) -> dict[int, str]:
    """What makes the tracks of each frame that has a map: the rule, and what made the maps of this frame and of all before."""
    producers, before = {}, rule
    for index in indices:
        png = run.png(split.image_id(index))
        is_there = png.is_file()
        before = digest_of(before, read_png_text(png).get(PRODUCER_CHUNK, "") if is_there else None)
        if is_there:
            producers[index] = f"tracks-{before}"
    return producers


def _segments_by(path: Path, producer: str) -> tuple[Segment, ...] | None:
    """The segments of a whole PNG of this producer, without decoding a pixel; None of any other."""
    if not path.is_file():
        return None
    try:
        is_made = read_png_text(path).get(PRODUCER_CHUNK) == producer and has_end(path)
        return read_segments(path) if is_made else None
    except InputError:
        return None
