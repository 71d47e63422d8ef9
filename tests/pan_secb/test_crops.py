"""Crops are what the image holds around each object; the weights are what is counted in them; a kill changes nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.layouts.cityscapes import CityscapesSplit, read_instance_ids
from data.layouts.coco import CocoSplit
from data.loading.datamodule import MIN_INSTANCE_AREA, PanopticDataset
from data.panoptic_png import read_panoptic_png
from data.taxonomy import CITYSCAPES
from pan_secb import generate_crops
from pan_secb.crop_cutting import MIN_AREA, CropSettings, crop_window, default_crop_size, foreground_weights, generate, survey
from pan_secb.crops import WEIGHTS_FILE, CropSampler, CropSplit, default_folder, read_foreground_weights
from runtime.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = [CITYSCAPES.categories[k].name for k in CITYSCAPES.thing_ids]
SETTINGS = CropSettings(64)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cut_once(streets, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "val"
    generate(CityscapesSplit(streets, "val"), "val", folder, SETTINGS)
    return folder


@pytest.fixture
def folder(cut_once, tmp_path) -> Path:
    return Path(shutil.copytree(cut_once, tmp_path / "crops" / "val"))


@pytest.fixture
def tiny(tmp_path) -> CityscapesSplit:
    """An image 8x16 of road with a crowd of cars, a car, a person and void."""
    instance_ids = np.full((8, 16), 7)
    instance_ids[0, :] = 26  # crowd: 16 pixels
    instance_ids[2:6, 2:6] = 26001  # 16 pixels
    instance_ids[4:8, 12:16] = 24005  # 16 pixels
    instance_ids[7, 0] = 26002  # one pixel: too small for a crop
    instance_ids[1, :] = 3  # void: 16 pixels
    for folder, name, pixels in (
        ("leftImg8bit", "leftImg8bit", np.arange(8 * 16 * 3).reshape(8, 16, 3).astype(np.uint8)),
        ("gtFine", "gtFine_instanceIds", instance_ids.astype(np.uint16)),
    ):
        path = tmp_path / "tiny" / folder / "train" / "ulm" / f"ulm_000000_000001_{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    return CityscapesSplit(tmp_path / "tiny", "train")


def objects(split, index: int):
    """(segment, its mask) of each object that gets a crop."""
    truth = split.truth(index)
    for segment in truth.segments:
        train_id = split.taxonomy.dataset_id_to_train_id[segment.category_id]
        if split.taxonomy.is_thing[train_id] and not segment.is_crowd and segment.area >= MIN_AREA:
            yield segment, truth.segment_ids == segment.segment_id


def test_every_object_has_a_crop_cut_out_of_its_image(streets, cut_once):
    split, expected = CityscapesSplit(streets, "val"), {}
    for index in range(len(split)):
        image, ids = split.image(index), split.truth(index).segment_ids
        for segment, mask in objects(split, index):
            y, x = np.argwhere(mask).mean(0)
            top, left = np.clip([round(y + 0.5 - 32), round(x + 0.5 - 32)], 0, [128 - 64, 256 - 64])
            part = np.s_[top : top + 64, left : left + 64]
            name = f"crops_{segment.category_id}/{split.image_id(index)}_{segment.segment_id}"
            expected[f"{name}.png"], expected[f"{name}_panoptic.png"] = image[part], ids[part]
    found = {str(path.relative_to(cut_once)) for path in cut_once.glob("crops_*/*")}
    assert len(found) > 20
    assert found == set(expected)
    for name, pixels in expected.items():
        is_truth = name.endswith("_panoptic.png")
        read = read_panoptic_png(cut_once / name).segment_ids if is_truth else np.asarray(Image.open(cut_once / name))
        assert np.array_equal(read, pixels), name


def test_a_truth_tells_the_segments_of_its_crop_alone(tiny):
    folder = tiny.root.parent / "crops"
    generate(tiny, "train", folder, CropSettings(8))
    crops = CropSplit(folder, CITYSCAPES)
    person, car = (crops.truth(crops.index_of[f"ulm_000000_000001_{k}"]) for k in (24005, 26001))
    # Columns 8..15: road, the crowd of cars, the person; the row of void is no segment. Columns 0..7 hold both cars.
    listed = [(s.segment_id, s.category_id, s.area, s.is_crowd) for s in person.segments]
    assert listed == [(7, 7, 64 - 8 - 8 - 16, False), (26, 26, 8, True), (24005, 24, 16, False)]
    assert [s.segment_id for s in car.segments] == [7, 26, 26001, 26002]


@pytest.mark.parametrize(
    ("center", "expected"),
    [
        ((4.0, 5.5), (2, 4, 6, 8)),  # pixel 4's middle is at 4.5 from the edge: 2.5 rounds to the even 2
        ((0.0, 0.0), (0, 0, 4, 4)),
        ((7.0, 15.0), (4, 12, 8, 16)),
    ],
)
def test_a_window_is_around_its_centre_and_inside_the_image(center, expected):
    assert crop_window(np.array(center), 4, (8, 16)) == expected


def test_an_image_smaller_than_a_crop_gives_all_it_has():
    assert crop_window(np.array((3.0, 12.0)), 8, (6, 16)) == (0, 8, 6, 16)


def test_weights_are_counted_over_the_crops_and_images_that_hold_the_class(tiny):
    rows = foreground_weights([survey(0, tiny, CropSettings(8))], CITYSCAPES)
    # Car in the middle of columns 0..7: 17 pixels of cars, 8 of crowd and 8 of void for nobody, 64 - 33 of others.
    # The person's crop, columns 8..15, holds no car.
    assert rows["car"] == {"dataset_id": 26, "num_crops": 1, "crops": 31 / 17, "full": (128 - 16 - 16 - 17) / 17}
    # A person's crop holds 16 pixels of it and 8 of void; the crowd of cars is background like any other class.
    assert rows["person"] == {"dataset_id": 24, "num_crops": 1, "crops": (64 - 8 - 16) / 16, "full": (128 - 16 - 16) / 16}
    assert rows["train"] == {"dataset_id": 31, "num_crops": 0, "crops": None, "full": None}


def test_weights_are_those_of_a_plain_count(streets, cut_once):
    crops, split = CropSplit(cut_once, CITYSCAPES), CityscapesSplit(streets, "val")
    for column, maps in (
        ("crops", [crops.truth(k) for k in range(len(crops))]),
        ("full", [split.truth(k) for k in range(len(split))]),
    ):
        weights = read_foreground_weights(cut_once / WEIGHTS_FILE, CITYSCAPES, column)
        for train_id, weight in zip(CITYSCAPES.thing_ids, weights, strict=True):
            inside = outside = 0
            for panoptic in maps:
                category = CITYSCAPES.dataset_ids[train_id]
                own = np.isin(panoptic.segment_ids, [s.segment_id for s in panoptic.segments if s.category_id == category])
                crowd = panoptic.segment_ids == category
                if (own & ~crowd).any():
                    inside += (own & ~crowd).sum()
                    outside += ((panoptic.segment_ids != 0) & ~own).sum()
            assert weight == pytest.approx(outside / inside if inside else 1.0)


def test_a_class_without_objects_has_weight_1(tmp_path):
    rows = {name: {"crops": None if name == "train" else 2.5, "full": 3} for name in NAMES}
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"classes": rows}))
    weights = read_foreground_weights(path, CITYSCAPES, "crops")
    assert dict(zip(NAMES, weights, strict=True)) == dict.fromkeys(NAMES, 2.5) | {"train": 1.0}


@pytest.mark.parametrize("text", ["[]", "{}", '{"classes": {"car": 3}}'])
def test_a_file_without_weights_is_refused(tmp_path, text):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(InputError, match="lacks weights 'full' of every thing class of cityscapes"):
        read_foreground_weights(path, CITYSCAPES, "full")
    with pytest.raises(InputError, match="'half' are unknown; choose crops or full"):
        read_foreground_weights(path, CITYSCAPES, "half")


def test_a_second_run_writes_no_crop(streets, folder):
    moments = {p: p.stat().st_mtime_ns for p in folder.rglob("crops_*/*")}
    before = content(folder)
    generate(CityscapesSplit(streets, "val"), "val", folder, SETTINGS)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("crops_*/*")} == moments
    assert content(folder) == before


def test_threads_do_not_change_a_byte(streets, cut_once, tmp_path):
    generate(CityscapesSplit(streets, "val"), "val", tmp_path / "val", SETTINGS, workers=3)
    assert content(tmp_path / "val") == content(cut_once)


def test_crops_of_another_image_or_truth_are_cut_again(streets, folder, tmp_path):
    root = Path(shutil.copytree(streets, tmp_path / "root"))
    split = CityscapesSplit(root, "val")
    label = split.images[0].label_path
    instance_ids = read_instance_ids(label)
    Image.fromarray(np.where(instance_ids == 23, 11, instance_ids).astype(np.uint16)).save(label)  # sky to building
    Image.fromarray(255 - split.image(1)).save(split.image_path(1))
    before = content(folder)
    generate(split, "val", folder, SETTINGS)
    generate(split, "val", tmp_path / "fresh", SETTINGS)
    assert content(folder) == content(tmp_path / "fresh")
    changed = {name for name, data in content(folder).items() if before[name] != data and name.startswith("crops_")}
    of_both = {name for name in before if any(split.image_id(k) in name for k in (0, 1))}
    assert changed == of_both  # their headers name what they were cut from


def test_kills_at_any_moment_change_nothing_in_the_end(streets, cut_once, tmp_path, kill_at_random_moments):
    folder, split = tmp_path / "val", CityscapesSplit(streets, "val")
    assert kill_at_random_moments(lambda: generate(split, "val", folder, SETTINGS), 0.1, 8) > 0
    generate(split, "val", folder, SETTINGS)
    assert content(folder) == content(cut_once)


def test_an_unfinished_folder_is_not_trained_on(folder):
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(InputError, match=r"unfinished; cut the crops with python pan_secb/generate_crops.py"):
        CropSplit(folder, CITYSCAPES)


def check_crops(crops: CropSplit) -> None:
    """They come class by class, each with its truth, in which the object that names it is of its class."""
    taxonomy = crops.taxonomy
    assert (np.diff(crops.train_ids) >= 0).all()
    assert set(crops.train_ids) <= set(taxonomy.thing_ids)
    assert len(crops.index_of) == len(crops)
    for k in range(len(crops)):
        truth = crops.truth(k)
        assert truth.segment_ids.shape == crops.image(k).shape[:2]
        in_the_middle = int(crops.image_id(k).rsplit("_", 1)[1])
        (segment,) = (s for s in truth.segments if s.segment_id == in_the_middle)
        assert segment.category_id == taxonomy.dataset_ids[crops.train_ids[k]]


def test_crops_come_class_by_class_with_their_truth(cut_once):
    crops = CropSplit(cut_once, CITYSCAPES)
    check_crops(crops)
    assert all(crops.size(k) == (64, 64) for k in range(len(crops)))


def test_the_coco_layout_has_crops_of_its_own_classes(snapshots, tmp_path):
    """133 classes, sizes that differ, segment ids above 16 bits."""
    split = CocoSplit(snapshots, "val2017")
    size = default_crop_size(split)
    weights = generate(split, "val2017", tmp_path, CropSettings(size))
    things = [split.taxonomy.categories[k].name for k in split.taxonomy.thing_ids]
    assert list(weights) == things
    crops = CropSplit(tmp_path, split.taxonomy)
    check_crops(crops)
    of_image = [(index, segment.segment_id) for index in range(len(split)) for segment, _ in objects(split, index)]
    names = {f"{split.image_id(index).replace('/', '__')}_{segment_id}" for index, segment_id in of_image}
    assert names == set(crops.index_of)
    assert max(segment_id for _, segment_id in of_image) >= 2**16
    found = read_foreground_weights(tmp_path / WEIGHTS_FILE, split.taxonomy, "full")
    assert len(found) == len(things)
    assert all(weight > 0 for weight in found)


def test_a_dataset_reads_crops_like_any_split(cut_once):
    item = PanopticDataset(CropSplit(cut_once, CITYSCAPES), None, has_instances=True)[0]
    assert item["image"].shape == (3, 64, 64)
    assert item["instances"]["masks"].shape[1:] == (64, 64)
    assert len(item["instances"]["train_ids"]) >= 1


def draw(sampler: CropSampler, epoch: int) -> list[tuple[int, int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


TRAIN_IDS = np.repeat([11, 13, 16], [90, 900, 10])


@pytest.mark.parametrize(
    ("balance", "shares"),
    [(0.0, (0.09, 0.9, 0.01)), (1.0, (1 / 3, 1 / 3, 1 / 3)), (0.5, np.sqrt([90, 900, 10]) / np.sqrt([90, 900, 10]).sum())],
)
def test_classes_are_drawn_by_a_power_of_their_number(balance, shares):
    drawn = draw(CropSampler(TRAIN_IDS, 20_000, balance, seed=0), epoch=0)
    classes = TRAIN_IDS[[index for index, _ in drawn]]
    found = [(classes == train_id).mean() for train_id in (11, 13, 16)]
    assert found == pytest.approx(shares, abs=0.015)  # four standard deviations of 20,000 draws


def test_draws_depend_on_seed_and_epoch_alone():
    first, again = CropSampler(TRAIN_IDS, 50, seed=3), CropSampler(TRAIN_IDS, 50, seed=3, epoch=2)
    assert list(again) == draw(first, 2)
    assert draw(first, 2) != draw(first, 1)
    assert draw(CropSampler(TRAIN_IDS, 50, seed=4), 2) != draw(first, 2)
    assert len(list(first)) == len(first) == 50


def test_processes_share_the_draws():
    whole = draw(CropSampler(TRAIN_IDS, 50, seed=3), 1)
    shares = [draw(CropSampler(TRAIN_IDS, 50, seed=3, num_processes=2, rank=rank), 1) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)


@pytest.mark.parametrize(
    ("settings", "complaint"), [({"crops_per_epoch": 0}, "crops_per_epoch 0"), ({"balance": 2}, "balance 2")]
)
def test_sampling_out_of_range_is_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        CropSampler(TRAIN_IDS, **settings, seed=0)


@pytest.mark.parametrize(
    ("size", "area", "complaint"), [(60, 16, "multiple of 8"), (0, 16, "multiple of 8"), (64, 0, "min area 0")]
)
def test_settings_out_of_range_are_refused(size, area, complaint):
    with pytest.raises(InputError, match=complaint):
        CropSettings(size, area)


def test_objects_that_are_learned_from_get_crops():
    assert MIN_AREA == MIN_INSTANCE_AREA


def test_the_command_cuts_all_splits_and_says_what_it_wrote(streets, tmp_path, run_command):
    done = run_command("pan_secb/generate_crops.py", "--data-root", streets, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cutting 64x64 crops of {streets} into {tmp_path}\n")  # half the height of 128
    for split in ("train", "val"):
        folder, rows = tmp_path / split, json.loads((tmp_path / split / WEIGHTS_FILE).read_text())["classes"]
        for name, row in rows.items():
            assert len(list((folder / f"crops_{row['dataset_id']}").glob("*_panoptic.png"))) == row["num_crops"], name
        assert f"wrote {sum(row['num_crops'] for row in rows.values())} crops and {WEIGHTS_FILE} in {folder}\n" in done.stdout


def other_settings(root: Path, folder: Path) -> str:
    (folder / "settings.json").write_text('{"crop_size": 32, "min_area": 16}')
    return f"{folder}: holds crops of {{'crop_size': 32, 'min_area': 16}}, but {{'crop_size': 64, 'min_area': 16}} was wanted"


def crop_of_no_object(root: Path, folder: Path) -> str:
    path = folder / "crops_26" / "ulm_000000_000000_26000.png"
    path.touch()
    return f"{path}: is of no object of this data set; remove {folder}"


def truncated_label(root: Path, folder: Path) -> str:
    path = next(root.glob("gtFine/val/*/*_instanceIds.png"))
    path.write_bytes(path.read_bytes()[:200])
    return f"{path}: cannot be decoded"


def truncated_image(root: Path, folder: Path) -> str:
    shutil.rmtree(folder)
    path = CityscapesSplit(root, "val").image_path(0)
    path.write_bytes(path.read_bytes()[:2000])
    return f"{path}: cannot be decoded"


def label_of_another_size(root: Path, folder: Path) -> str:
    path = CityscapesSplit(root, "val").images[0].label_path
    Image.fromarray(read_instance_ids(path)[:64].astype(np.uint16)).save(path)
    return f"{path}: 64x256 pixels, but its image has 128x256"


def no_labels(root: Path, folder: Path) -> str:
    shutil.rmtree(root / "gtFine")
    (root / "gtFine").mkdir()
    return f"{root}: no split has labels, but crops are cut around their objects"


def output_is_a_file(root: Path, folder: Path) -> str:
    shutil.rmtree(folder.parent)
    folder.parent.touch()
    return f"{folder}"


BROKEN = [
    other_settings,
    crop_of_no_object,
    truncated_label,
    truncated_image,
    label_of_another_size,
    no_labels,
    output_is_a_file,
]


@pytest.mark.parametrize("spoil", BROKEN, ids=[spoil.__name__ for spoil in BROKEN])
def test_bad_input_gives_one_line(streets, folder, tmp_path, fails_in_one_line, spoil):
    root = Path(shutil.copytree(streets, tmp_path / "root"))
    shutil.rmtree(root / "leftImg8bit" / "train")
    complaint = spoil(root, folder)
    assert complaint in fails_in_one_line(generate_crops.main, "--data-root", root, "--output", folder.parent)


def test_crops_lie_under_the_name_of_the_data_set(streets):
    assert default_folder(streets) == REPOSITORY / "outputs" / "pan_secb" / "crops" / streets.name


def test_crops_without_their_truth_are_refused(folder):
    truth = next(folder.glob("crops_26/*_panoptic.png"))
    whole = truth.read_bytes()
    truth.write_bytes(whole[:100])
    crops = CropSplit(folder, CITYSCAPES)
    with pytest.raises(InputError, match=f"{truth}: is broken"):
        crops.truth(crops.index_of[truth.name.removesuffix("_panoptic.png")])
    truth.unlink()
    with pytest.raises(InputError, match=f"its truth {truth} is missing"):
        CropSplit(folder, CITYSCAPES)


def test_a_missing_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        CropSplit(tmp_path / "absent", CITYSCAPES)
    (tmp_path / WEIGHTS_FILE).touch()
    with pytest.raises(InputError, match=r"no crops_\*/"):
        CropSplit(tmp_path, CITYSCAPES)
