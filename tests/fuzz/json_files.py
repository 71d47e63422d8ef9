"""Panoptic JSON, class lists, result files with their masks, and the YAML of a configuration."""

import json
import math
import random
import re
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from PIL import Image, ImageColor
from pycocotools import mask as coco_mask

from data.coco_json import is_whole
from data.layouts.image_files import ImageFiles
from data.panoptic_file import PanopticFile, read_panoptic_json, read_panoptic_map, read_taxonomy
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, Taxonomy
from prediction.sources.coco_results import CocoResults
from prediction.sources.foreign import MappedInstances
from runtime.files import InputError
from tests.fuzz.drawn import draw_ids, to_rgb
from tests.fuzz.mutations import mutate_json, mutate_text, places_to_change
from training.arguments import with_bases

SIZE = (6, 9)
THINGS = [int(CITYSCAPES.dataset_ids[k]) for k in CITYSCAPES.thing_ids]


def dump_json(value: object) -> bytes:
    """A seed."""
    return json.dumps(value).encode()


# Panoptic JSON and its PNGs


PNGS = {f"{k}.png": draw_ids(k, SIZE, 12) for k in range(4)}
"""(H, W) ids by file name."""


def _entry(name: str, image_id: int | str, first: int = 1) -> dict:
    """An annotation that lists the ids of a PNG from `first` on."""
    rest = {"area": 3, "bbox": [0, 1, 2, 3], "iscrowd": 0}
    ids = [int(i) for i in np.unique(PNGS[name]) if i >= first]
    infos = [{"id": i, "category_id": int(CITYSCAPES.dataset_ids[i]), **rest} for i in ids]
    return {"image_id": image_id, "file_name": name, "segments_info": infos}


@cache
def truth_seeds() -> dict[bytes, object]:
    """Content -> image ids."""
    plain = {"annotations": [_entry("0.png", "a"), _entry("1.png", "b")]}
    images = [{"id": "a", "file_name": "a.jpg", "height": 6, "width": 9}, {"id": "b", "file_name": "b.jpg"}]
    listed = plain | {"images": images, "categories": CITYSCAPES.to_coco_categories()}
    own = [{"id": c.dataset_id, "name": f"class {k}", "isthing": k % 2} for k, c in enumerate(CITYSCAPES.categories)]
    numbered = {"annotations": [_entry("2.png", 17), _entry("3.png", 4)], "categories": own}
    numbered["annotations"][0]["segments_info"][0] |= {"score": 0.5, "iscrowd": 1}
    from_zero = {"annotations": [_entry("1.png", "a", first=0)]}
    return {
        **{dump_json(plain): ["a", "b"], dump_json(listed): ["a", "b"], dump_json(numbered): [17, 4]},
        dump_json(from_zero): InputError,
    }


@cache
def prediction_seeds() -> dict[bytes, object]:
    """As truth_seeds, where a segment may have id 0."""
    return {content: ["a"] if wanted is InputError else wanted for content, wanted in truth_seeds().items()}


def check_panoptic(content: bytes, folder: Path, expected: list | None, is_prediction: bool = False) -> None:
    """Maps equal to the PNGs, whose segments are those of the JSON with the areas of the PNGs."""
    path, png_folder = folder / "a.json", folder / "a"
    path.write_bytes(content)
    if not png_folder.is_dir():
        png_folder.mkdir()
        for name, ids in PNGS.items():
            Image.fromarray(to_rgb(ids)).save(png_folder / name)
    file = read_panoptic_json(path, is_prediction=is_prediction)
    listed = json.loads(content)["annotations"]
    assert len(file.annotations) == len(listed), "another number of images than in the JSON"
    assert expected is None or list(file.annotations) == expected, "other images than were written"
    refusals = []
    for entry in listed:
        try:
            _check_map(file, entry, is_prediction)
        except InputError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _check_map(file: PanopticFile, entry: dict, is_prediction: bool) -> None:
    assert entry["image_id"] in file.annotations, f"an image is lost: {entry['image_id']!r}"
    found = read_panoptic_map(file, entry["image_id"])
    drawn = PNGS[Path(entry["file_name"]).name]
    assert np.array_equal(found.segment_ids, drawn), "ids differ from the PNG"
    assert [s.segment_id for s in found.segments] == [e["id"] for e in entry["segments_info"]], "other segments than listed"
    for segment, info in zip(found.segments, entry["segments_info"], strict=True):
        assert is_whole(segment.segment_id), "a segment id is no whole number"
        assert segment.segment_id > 0 or is_prediction, "a segment of a truth has id 0"
        assert segment.area == (drawn == segment.segment_id).sum(), "an area differs from the PNG"
        assert segment.category_id == info["category_id"] in file.taxonomy.dataset_id_to_train_id, "another category than listed"
        assert [type(side) for side in segment.bbox] == [int] * 4, "a box is not four whole numbers"
        assert segment.score is None or math.isfinite(segment.score), f"a score is not finite: {segment.score}"
    assert {0, *np.unique(drawn).tolist()} == {0, *(s.segment_id for s in found.segments)}, "segments are not those of the PNG"


# Class lists


@cache
def taxonomy_seeds() -> dict[bytes, object]:
    """Content -> names of the classes."""
    few = [
        {"id": 5, "name": "a", "isthing": "true", "color": "#123"},
        {"id": 0, "name": "b", "isthing": 0, "color": [1, 2, 3]},
    ]
    lists = (few, CITYSCAPES.to_coco_categories()[:4], COCO_PANOPTIC.to_coco_categories()[:3])
    return {dump_json({"categories": listed, "images": []}): [entry["name"] for entry in listed] for listed in lists}


def check_taxonomy(content: bytes, folder: Path, expected: list[str] | None) -> None:
    """Classes as listed, whose tables fit together, and which survive being written and read again."""
    path = folder / "a.json"
    path.write_bytes(content)
    taxonomy = read_taxonomy(path)
    listed = json.loads(content)["categories"]
    assert [c.dataset_id for c in taxonomy.categories] == [entry["id"] for entry in listed], "other ids than listed"
    for category, entry in zip(taxonomy.categories, listed, strict=True):
        assert isinstance(entry["name"], str), f"a name that is no text: {entry['name']!r}"
        assert category.name == entry["name"], "another name than listed"
        flag = str(entry["isthing"]).lower()
        assert flag in ("0", "1", "false", "true"), f"isthing that is no flag: {entry['isthing']!r}"
        assert category.is_thing == (flag in ("1", "true")), "another isthing than listed"
        color = entry.get("color")
        if isinstance(color, list) and color and all(type(part) is int for part in color):
            assert list(category.color) == color[:3], f"another colour than listed: {category.color}"
        elif isinstance(color, str):
            assert category.color == ImageColor.getrgb(color)[:3], f"another colour than listed: {category.color}"
    assert taxonomy.colors.dtype == np.uint8, "colours are not uint8"
    assert len(taxonomy.dataset_id_to_train_id) == taxonomy.num_classes == len(taxonomy.dataset_ids), "tables differ in length"
    segment_ids = [taxonomy.segment_id(k, number) for k in range(taxonomy.num_classes) for number in (0, 1, 999)]
    assert len(set(segment_ids)) == len(segment_ids), "two segments of one id"
    assert all(0 < k < 2**24 for k in segment_ids), f"segment ids that no PNG holds: {min(segment_ids)}, {max(segment_ids)}"
    again = Taxonomy.from_coco_categories(taxonomy.name, json.loads(json.dumps(taxonomy.to_coco_categories())))
    assert again == taxonomy, "classes differ after being written and read"
    assert expected is None or [c.name for c in taxonomy.categories] == expected, "other classes than were written"


# Masks


def compress(mask: np.ndarray) -> dict:
    """An RLE of pycocotools, with text."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def list_runs(mask: np.ndarray) -> dict:
    """An RLE with a list of lengths, background first."""
    rle = compress(mask)
    return rle | {"counts": read_digits(rle["counts"].encode())}


def fill(polygons: list, size: tuple[int, int]) -> np.ndarray:
    """The mask of polygons as pycocotools draws it; those of fewer than three points are none."""
    kept = [polygon for polygon in polygons if len(polygon) >= 6]
    return coco_mask.decode(coco_mask.frPyObjects(kept, *size)).any(-1) if kept else np.zeros(size, bool)


def damage_mask(rng: random.Random, segmentation: dict | list) -> None:
    """Change a whole segmentation: corners of a polygon, lengths, or digits of compressed text."""
    if isinstance(segmentation, list):
        polygon = rng.choice(segmentation)
        corners = (-1, 0, 0.5, 1e-9, 11.999, 20, 25, 1e5, 1e9, -1e9, rng.uniform(-5, 30))
        polygon[rng.randrange(len(polygon))] = rng.choice(corners)
    elif isinstance(segmentation["counts"], list):
        counts = segmentation["counts"]
        at, other = rng.randrange(len(counts)), rng.randrange(len(counts))
        moved = rng.choice((0, 1, -1, counts[at], 2**32, rng.randrange(20)))
        counts[at] -= moved
        if rng.random() < 0.7:
            counts[other] += moved
        if rng.random() < 0.3:
            counts[at:at] = [0, 0]
    else:
        text = list(segmentation["counts"])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text) + 1)
            digit = rng.choice((rng.randrange(48, 112), rng.randrange(48, 112), 47, 112, 63, 80))
            text[at : at + rng.randrange(2)] = chr(digit)
        segmentation["counts"] = "".join(text)


def expand(segmentation: dict, size: tuple[int, int]) -> np.ndarray | None:
    """The mask of an RLE by a plain loop; None where its lengths are none, or are not the image's."""
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = read_digits(counts.encode("utf-8", "surrogatepass"))
    if not isinstance(counts, list) or not all(is_whole(c) and c >= 0 for c in counts) or sum(counts) != size[0] * size[1]:
        return None
    pixels = [k % 2 == 1 for k, count in enumerate(counts) for _ in range(count)]
    return np.array(pixels, bool).reshape(size[::-1]).T


def read_digits(text: bytes) -> list[int] | None:
    """Lengths of a compressed text, by a plain loop over maskApi's rleFrString; None where a number does not end."""
    counts, number, num_bits = [], 0, 0
    for digit in text:
        if not 48 <= digit < 112:
            return None
        number |= (digit - 48 & 31) << num_bits
        num_bits += 5
        if not digit - 48 & 32:  # its last digit, with the sign
            number -= (digit - 48 >> 4 & 1) << num_bits
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = num_bits = 0
    return None if num_bits else counts


# Result files


@cache
def result_seeds() -> dict[bytes, object]:
    """Content -> number of instances of image `a`."""

    def entry(k: int, image_id: int | str, form) -> dict:
        mask = draw_ids(k, SIZE, 1) > 0
        mask[0, 0] = True
        return {"image_id": image_id, "category_id": THINGS[k % 8], "score": (k + 1) / 8, "segmentation": form(mask)}

    named = [entry(k, "a" if k < 3 else "b", (compress, list_runs)[k % 2]) for k in range(4)]
    numbered = [entry(k, 1 if k < 2 else 2, compress) | {"bbox": [0, 0, 1, 1]} for k in range(4)]
    outlined = [entry(k, "x/a.jpg", lambda _: [[1, 1, 6, 1, 6, 5]]) for k in range(2)]
    return {dump_json(named): 3, dump_json(numbered): 2, dump_json(outlined): 2, b"[]": 0}


def mutate_results(rng: random.Random, content: bytes) -> bytes:
    """Damage to the JSON, or to the masks in it."""
    if rng.random() < 0.6 or content == b"[]":
        return mutate_json(rng, content)
    entries = json.loads(content)
    damage_mask(rng, rng.choice(entries)["segmentation"])
    return dump_json(entries)


def check_results(content: bytes, folder: Path, expected: int | None) -> None:
    """The masks, classes and scores of an image's entries, best first; empty masks and stuff are left out."""
    path, annotations, image_folder = folder / "a.json", folder / "images.json", folder / "images"
    path.write_bytes(content)
    if not annotations.exists():
        annotations.write_text('{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]}')
        image_folder.mkdir()
        for name in ("a.png", "b.png"):
            Image.new("RGB", SIZE[::-1]).save(image_folder / name)
    predictor = MappedInstances(CocoResults(path, ImageFiles(image_folder), annotations), CITYSCAPES)
    found = predictor.predict("a", np.zeros((*SIZE, 3), np.uint8)).instances
    wanted = []
    for entry in json.loads(content):
        train_id = CITYSCAPES.dataset_id_to_train_id[int(float(entry["category_id"]))]  # a number may have become text
        if _means_first(entry["image_id"]) and CITYSCAPES.is_thing[train_id]:
            segmentation = entry["segmentation"]
            mask = expand(segmentation, SIZE) if isinstance(segmentation, dict) else fill(segmentation, SIZE)
            assert mask is not None, "broken run lengths are decoded"
            if mask.any():
                wanted.append((np.float32(entry["score"]), train_id, mask))
    wanted.sort(key=lambda item: -item[0])
    assert expected is None or len(found) == expected, "another number of instances than was written"
    assert len(found) == len(wanted), f"another number of instances than is listed: {len(found)}, {len(wanted)}"
    assert found.scores.tolist() == [score for score, _, _ in wanted], "scores differ"
    assert found.train_ids.tolist() == [train_id for _, train_id, _ in wanted], "classes differ"
    for (y1, x1, y2, x2), crop, (_, _, mask) in zip(found.crop_boxes.tolist(), found.crops, wanted, strict=True):
        drawn = np.zeros(SIZE, bool)
        drawn[y1:y2, x1:x2] = crop > 0
        assert np.array_equal(drawn, mask), "a mask differs from the JSON's"


def _means_first(image_id: int | str) -> bool:
    """Whether an image id of a result file is image `a`, which is number 1."""
    if isinstance(image_id, int) or (image_id.isascii() and image_id.isdecimal() and len(image_id) < 19):
        return int(image_id) == 1
    name = PurePosixPath(image_id.replace("\\", "/")).name
    return bool(re.fullmatch(r"a(_gtFine)?(_leftImg8bit)?(?i:\.(png|jpe?g|bmp|webp|tiff?|mp4|avi|mov|mkv|webm|m4v))?", name))


# Configurations


CONFIGS = (
    "base: base.yaml\nmodel:\n  variant: b0\n  widths: [1, 2, 3]\ntrainer:\n  max_epochs: 3\n",
    "base: sub/base.yaml # a comment\ndata: {crop_height: 512, flip_probability: 0.5}\nother: !!str 1\n",
    "model:\n  class_path: a.B\n  init_args: {x: 1e-3, y: null, z: 'text'}\n",
    "base: ''\n",
    "- a list\n- of: two\n",
)
ODD_YAML = (
    *("2020-13-45", "2020-99-99 99:99:99", "1:99:99", "0o9", "0x", "0b", "1_", "._", "!!float x", "!!int x", "!!int 0b"),
    *("!!bool x", "!!timestamp x", "!!binary x", "!!null x", "!!set {a, b}", "!!omap [a]", "!!pairs [a]", "!a b"),
    *("!!python/name:os.system", "&a [*a]", "&a {a: *a}", "*b", "[", "{", "{a: {", "]", "'", '"', '"\\x"', '"\\ud800"', "|", ">"),
    *("? ", "- ", ": ", "%", "@", "`", "{[1]: 2}", "{{}: 1}", "? [a]\n: b", "<<: 1", "<<: [1]", "\t", "\0", "\ufeff", "\x85"),
    *("9" * 5000, "1" + "0" * 400 + ".0", "[" * 300, "[" * 400 + "]" * 400, "{a: " * 200, "a: " * 100, "~", "[base.yaml]"),
    *("{a: b}", "1", "true", "1.5", "/", ".", "..", "a\\0b", "a.yaml", "sub", "sub/loop.yaml", "x" * 300, "x/" * 3000),
    *("base.yaml", '"a\\0b"', "--- ", "...", "!!str", "~/a", "/dev/null"),
)


@cache
def config_seeds() -> dict[bytes, object]:
    """Content -> how many configurations there are in all."""
    return {text.encode(): length for text, length in zip(CONFIGS, (2, 3, 1, 1, 1), strict=True)}


def mutate_config(rng: random.Random, content: bytes) -> bytes:
    """Odd values, odd bases, lines in another order, and damage to the text."""
    lines = content.decode().splitlines()
    for _ in places_to_change(rng):
        at, change = rng.randrange(len(lines)), rng.randrange(6)
        if change <= 1:
            key, colon, _ = lines[at].partition(": ")
            lines[at] = f"{key}{colon}{rng.choice(ODD_YAML)}"
        elif change == 2:
            lines[0] = f"base: {rng.choice(ODD_YAML)}"
        elif change == 3:
            lines.insert(at, rng.choice((f"{rng.choice(ODD_YAML)}: 1", rng.choice(ODD_YAML), rng.choice(lines))))
        elif change == 4:
            lines[at] = rng.choice((" ", "\t", "  ", "- ")) + lines[at]
        elif len(lines) > 1:
            del lines[at]
    text = ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    return mutate_text(rng, text) if rng.random() < 0.2 else text


def check_config(content: bytes, folder: Path, expected: int | None) -> None:
    """The configuration comes last, after those that it builds on, each once."""
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "base.yaml").write_text("model: {}\n")
    (folder / "sub" / "base.yaml").write_text("base: ../base.yaml\n")
    (folder / "sub" / "loop.yaml").write_text("base: ../a.yaml\n")
    path = folder / "a.yaml"
    path.write_bytes(content)
    chain = with_bases(path)
    assert chain[-1] == path, "the configuration is not the last"
    assert len({each.resolve() for each in chain}) == len(chain), "a configuration occurs twice"
    assert all(each.exists() for each in chain), "a base that is not there"
    said = yaml.safe_load(content.decode("utf-8-sig"))
    base = said.get("base") if isinstance(said, dict) else None
    assert (len(chain) > 1) == bool(base), f"a base is left out: {base!r}"
    assert expected is None or len(chain) == expected, "another number of configurations than was written"
