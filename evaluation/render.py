"""Panoptic maps as images: colours, overlay on the image with a legend, error map, several side by side."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.panoptic_png import MAX_SEGMENT_ID, PanopticMap, Segment
from data.segment_runs import look_up
from data.taxonomy import Taxonomy
from evaluation.panoptic_quality import match_segments

SMALLEST_WIDTH = 960
"""Images narrower than this are enlarged by a whole factor, so that outlines and legend stay readable."""
LARGEST_FACTOR = 8
LARGEST_SHEET = 2560
"""Width of the sheet and height of an image, in pixels, beyond which side_by_side shrinks its images."""
INK, PAPER = (33, 37, 41), (255, 255, 255)
GOLDEN_RATIO = 0.6180339887498949
"""Multiples of it modulo 1 are spread evenly however many there are: each new instance differs from all before."""

ERROR_COLORS = {
    "right": (206, 221, 210),
    "right class, wrong segment": (255, 190, 60),
    "wrong class": (214, 47, 57),
    "nothing predicted": (112, 79, 160),
    "not counted (void, crowd)": (56, 60, 66),
}
"""The key of error_map, in the order of its codes."""


def color_panoptic(panoptic: PanopticMap, taxonomy: Taxonomy, borders: bool = True, by_id: bool = False) -> np.ndarray:
    """(H, W, 3) uint8: stuff in its class's colour, each thing in a variation of it, crowd hatched, void black, borders white.

    The same map gives the same image; a thing's variation depends on its rank among the ids of its class.
    """
    index = segment_index(panoptic)
    colors = np.concatenate([np.zeros((1, 3), dtype=np.uint8), segment_colors(panoptic.segments, taxonomy, by_id)])
    picture = colors[index]
    is_crowd = np.array([False, *(s.is_crowd for s in panoptic.segments)])
    if is_crowd.any():
        rows, columns = np.indices(index.shape, sparse=True)
        picture[is_crowd[index] & ((rows + columns) % 8 < 3)] //= 2
    if borders:
        picture[_borders(index)] = PAPER
    return picture


def segment_colors(segments: Sequence[Segment], taxonomy: Taxonomy, by_id: bool = False) -> np.ndarray:
    """(N, 3) uint8: of stuff and crowds the class's colour, of each thing a variation of it by its rank among its class's ids.

    Args:
        by_id: by the id itself, so that a track keeps its colour.
    """
    colors = np.zeros((len(segments), 3), dtype=np.uint8)
    ranks: dict[int, int] = {}
    for k, segment in sorted(enumerate(segments), key=lambda item: item[1].segment_id):
        train_id = taxonomy.dataset_id_to_train_id[segment.category_id]
        color = taxonomy.colors[train_id]
        if taxonomy.is_thing[train_id] and not segment.is_crowd:
            rank = ranks[segment.category_id] = ranks.get(segment.category_id, -1) + 1
            color = _vary(color, segment.segment_id % 1000 if by_id else rank)
        colors[k] = color
    return colors


def overlay(
    image: np.ndarray,
    panoptic: PanopticMap,
    taxonomy: Taxonomy,
    legend: bool = True,
    opacity: float = 0.55,
    by_id: bool = False,
) -> np.ndarray:
    """The image under its panoptic map, with a legend below of the classes that occur and how many objects each has.

    Args:
        image: (H, W, 3) uint8 RGB, of the map's size.

    Returns:
        (H', W', 3) uint8; small images come back enlarged by a whole factor.
    """
    assert image.shape[:2] == panoptic.segment_ids.shape, (image.shape, panoptic.segment_ids.shape)
    factor = enlarging_factor(image.shape[1])
    large = PanopticMap(_enlarge(panoptic.segment_ids, factor), panoptic.segments)
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else image
    colors = color_panoptic(large, taxonomy, borders=False, by_id=by_id)
    weight = np.where(large.segment_ids[..., None] == 0, 0.75 * opacity, opacity)
    picture = (image * (1 - weight) + colors * weight).astype(np.uint8)
    picture[_borders(segment_index(large))] = PAPER
    return np.concatenate([picture, draw_legend(panoptic, taxonomy, picture.shape[1])]) if legend else picture


def draw_instances(
    picture: np.ndarray, masks: Sequence[np.ndarray], boxes: np.ndarray, names: Sequence[str], opacity: float = 0.5
) -> np.ndarray:
    """The image with each object's mask, box and name, in colours that tell neighbours apart, the first object on top.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: N of (H, W) bool.
        boxes: (N, 4), (x1, y1, x2, y2) in pixels.
        names: N.

    Returns:
        (H', W', 3) uint8; small images come back enlarged by a whole factor.
    """
    factor = enlarging_factor(picture.shape[1])
    canvas = np.ascontiguousarray(_enlarge(picture, factor))
    order = range(len(masks) - 1, -1, -1)
    # Light, so that dark letters stand on them, and as far apart in hue as they are many.
    hls = [(0.55 + k * GOLDEN_RATIO, 0.68, 0.95) for k in range(len(masks))]
    colors = [tuple(round(255 * c) for c in colorsys.hls_to_rgb(hue % 1, light, full)) for hue, light, full in hls]
    for k in order:
        inside = _enlarge(masks[k], factor)
        canvas[inside] = (canvas[inside] * (1 - opacity) + np.array(colors[k]) * opacity).astype(np.uint8)
    drawn = Image.fromarray(canvas)
    pen, font = ImageDraw.Draw(drawn), _font(max(12, canvas.shape[1] // 56))
    corners = [(factor * box).tolist() for box in boxes]
    for k in order:
        x1, y1, x2, y2 = corners[k]
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colors[k], width=max(1, canvas.shape[1] // 500))
    taken: list[tuple[float, float, float, float]] = []
    for k, name in enumerate(names):
        place = _free_place(corners[k][:2], (font.getlength(name) + 6, font.size + 4), taken, canvas.shape[:2])
        taken.append(place)
        pen.rectangle(place, fill=colors[k])
        pen.text((place[0] + 3, (place[1] + place[3]) / 2), name, INK, font, anchor="lm")
    return np.asarray(drawn)


def _free_place(
    corner: Sequence[float],
    needed: tuple[float, float],
    taken: Sequence[tuple[float, float, float, float]],
    size: tuple[int, int],
) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) of a name: above a box's corner (x, y), or further down where other names are; inside the image."""
    width, height = needed
    x = max(0.0, min(corner[0], size[1] - width))
    first = max(0.0, corner[1] - height)
    for y in np.arange(first, size[0] - height, height / 2).tolist():
        if not any(x < x2 and x1 < x + width and y < y2 and y1 < y + height for x1, y1, x2, y2 in taken):
            return x, y, x + width, y + height
    return x, first, x + width, first + height  # no room: better over another name than nowhere


def error_map(truth: PanopticMap, prediction: PanopticMap, taxonomy: Taxonomy) -> np.ndarray:
    """(H, W, 3) uint8 in ERROR_COLORS: where the prediction is right, and in which way it is wrong.

    "Right class, wrong segment" is a pixel of an object whose class is right, but whose segment did not match the
    truth's there (IoU at most one half). On the truth's crowd the class alone counts.

    Raises:
        InputError: if the sizes differ.
    """
    matched = {(m[0], m[1]) for m in match_segments(truth, prediction).matches}
    real, guess = segment_index(truth), segment_index(prediction)
    pairs, place = np.unique(real * (len(prediction.segments) + 1) + guess, return_inverse=True)
    names, verdicts = list(ERROR_COLORS), []
    for t, p in zip(*np.divmod(pairs, len(prediction.segments) + 1), strict=True):  # only those that meet
        true_segment = truth.segments[t - 1] if t else None
        segment = prediction.segments[p - 1] if p else None
        if true_segment is None or (segment is None and true_segment.is_crowd):
            verdict = "not counted (void, crowd)"
        elif segment is None:
            verdict = "nothing predicted"
        elif segment.category_id != true_segment.category_id:
            verdict = "wrong class"
        elif true_segment.is_crowd or (true_segment.segment_id, segment.segment_id) in matched:
            verdict = "right"
        else:
            verdict = "right class, wrong segment"
        verdicts.append(names.index(verdict))
    colors = np.array(list(ERROR_COLORS.values()), dtype=np.uint8)
    picture = colors[np.array(verdicts)[place.reshape(real.shape)]]
    picture[_borders(real)] = INK
    return picture


def draw_legend(panoptic: PanopticMap, taxonomy: Taxonomy, width: int) -> np.ndarray:
    """(h, width, 3) uint8: a swatch, the name and, for things, the number of objects of each class that occurs."""
    entries = []
    for category in taxonomy.categories:
        own = [s for s in panoptic.segments if s.category_id == category.dataset_id]
        if not own:
            continue
        count = sum(not s.is_crowd for s in own)
        parts = [f"{count}"] * (category.is_thing and count > 0) + ["crowd"] * any(s.is_crowd for s in own)
        entries.append((category.name + (f" ({' + '.join(parts)})" if parts else ""), category.color))
    return draw_key(entries or [("no segments", PAPER)], width)


def draw_key(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """(h, width, 3) uint8: swatches with names, in as many lines as they need."""
    font = _font(max(14, round(width / 58)))
    line, pad = round(font.size * 1.7), round(font.size * 0.8)
    places, x, y = [], pad, pad
    for name, _ in entries:
        needed = line + round(font.getlength(name)) + 2 * pad
        if x > pad and x + needed > width:
            x, y = pad, y + line
        places.append((x, y))
        x += needed
    picture = Image.new("RGB", (width, y + line + pad // 2), PAPER)
    draw = ImageDraw.Draw(picture)
    for (name, color), (x, y) in zip(entries, places, strict=True):
        side = round(font.size * 1.1)
        draw.rounded_rectangle((x, y, x + side, y + side), radius=side // 4, fill=tuple(color), outline=(173, 181, 189))
        draw.text((x + side + font.size // 2, y + side // 2), name, INK, font, anchor="lm")
    return np.asarray(picture)


def side_by_side(images: Sequence[np.ndarray], titles: Sequence[str], columns: int | None = None) -> np.ndarray:
    """Images of one shape of frame in a grid, each under its title; all get the width of the widest, within LARGEST_SHEET.

    Args:
        columns: default is one row, or two columns where four or more wide images would make a long thin strip.
    """
    assert len(images) == len(titles) > 0, (len(images), len(titles))
    if columns is None:
        is_wide = images[0].shape[1] >= 1.5 * images[0].shape[0]
        columns = 2 if is_wide and len(images) >= 4 else len(images)
    width = int(np.clip(max(p.shape[1] for p in images), SMALLEST_WIDTH // columns, LARGEST_SHEET // columns))
    font = _font(max(13, width // 40))
    gap = font.size // 2
    cells = []
    for picture, title in zip(images, titles, strict=True):
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        own_width = width if height <= LARGEST_SHEET else max(1, round(width * LARGEST_SHEET / height))  # of a tall strip
        height, grows = min(height, LARGEST_SHEET), own_width > picture.shape[1]
        scaled = np.full((height, width, 3), 255, dtype=np.uint8)
        interpolation = cv2.INTER_NEAREST if grows else cv2.INTER_AREA
        scaled[:, :own_width] = cv2.resize(picture, (own_width, height), interpolation=interpolation)
        head = Image.new("RGB", (width, 2 * font.size), PAPER)
        ImageDraw.Draw(head).text((font.size // 4, font.size), title, INK, font, anchor="lm")
        cells.append(np.concatenate([np.asarray(head), scaled]))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    sheet = np.full((sum(heights) + gap * (len(rows) + 1), columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for k, cell in enumerate(row):
            left = gap + k * (width + gap)
            sheet[top : top + cell.shape[0], left : left + width] = cell
        top += height + gap
    return sheet


def enlarging_factor(width: int) -> int:
    """The whole factor by which an image of this width is shown."""
    return min(max(round(SMALLEST_WIDTH / width), 1), LARGEST_FACTOR)


def _enlarge(pixels: np.ndarray, factor: int) -> np.ndarray:
    return pixels.repeat(factor, 0).repeat(factor, 1)


def segment_index(panoptic: PanopticMap) -> np.ndarray:
    """(H, W) int32: 1-based position of each pixel's segment in `segments`; 0 for void and for ids that are not listed."""
    table = np.zeros(MAX_SEGMENT_ID + 1, dtype=np.int32)  # of zeros that are not touched no memory is taken
    for k, segment in enumerate(panoptic.segments, start=1):
        table[segment.segment_id] = k
    return look_up(table, panoptic.segment_ids)


def _borders(index: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels beside another segment; one pixel wide per thousand of the image's width, at least one."""
    borders = np.zeros(index.shape, dtype=bool)
    borders[:, 1:] |= index[:, 1:] != index[:, :-1]
    borders[1:] |= index[1:] != index[:-1]
    width = round(index.shape[1] / 1000)
    if width > 1:
        borders = cv2.dilate(borders.astype(np.uint8), np.ones((width, width), np.uint8)).astype(bool)
    return borders


def _vary(color: np.ndarray, rank: int) -> tuple[int, int, int]:
    """A colour near the class's own; rank 0 is the class's own. Dark colours are lifted, or nobody could tell them apart."""
    if rank == 0:
        return tuple(int(c) for c in color)
    hue, _, saturation = colorsys.rgb_to_hls(*(color / 255))
    step, other = rank * GOLDEN_RATIO % 1, rank * GOLDEN_RATIO**2 % 1
    varied = colorsys.hls_to_rgb((hue + 0.14 * (other - 0.5)) % 1, 0.3 + 0.48 * step, min(max(saturation, 0.45), 0.85))
    return tuple(round(255 * c) for c in varied)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that images are the same on every machine."""
    return ImageFont.load_default(size)
