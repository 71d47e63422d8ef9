"""Crops are what the picture holds around each object; the weights are what is counted in them; a kill changes nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import read_image
from data.layouts.cityscapes import find_frames, instance_ids_to_panoptic, read_instance_ids
from data.loading.datamodule import MIN_INSTANCE_AREA, PanopticDataset
from data.taxonomy import CITYSCAPES
from pan_secb import generate_crops
from pan_secb.crop_cutting import MIN_AREA, CropSettings, crop_window, foreground_weights, generate, survey
from pan_secb.crops import WEIGHTS_FILE, CropPictures, CropSampler, default_folder, read_foreground_weights
from runtime.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = [CITYSCAPES.categories[k].name for k in CITYSCAPES.thing_ids]
SETTINGS = CropSettings(64)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cut_once(streets, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "val"
    generate(streets, "val", folder, SETTINGS)
    return folder


@pytest.fixture
def folder(cut_once, tmp_path) -> Path:
    return Path(shutil.copytree(cut_once, tmp_path / "crops" / "val"))


@pytest.fixture
def tiny_frame(tmp_path):
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
    return find_frames(tmp_path / "tiny", "train")[0]


def test_every_object_has_a_crop_cut_out_of_its_picture(streets, cut_once):
    expected = {}
    for frame in find_frames(streets, "val"):
        picture, instance_ids = read_image(frame.image_path), read_instance_ids(frame.label_path)
        values, areas = np.unique(instance_ids, return_counts=True)
        for value in values[(values >= 1000) & (areas >= MIN_AREA)].tolist():
            if value // 1000 in CITYSCAPES.dataset_ids[list(CITYSCAPES.thing_ids)]:
                y, x = np.argwhere(instance_ids == value).mean(0)
                top, left = np.clip([round(y + 0.5 - 32), round(x + 0.5 - 32)], 0, [128 - 64, 256 - 64])
                part = np.s_[top : top + 64, left : left + 64]
                name = f"crops_{value // 1000}/{frame.image_id}_{value}"
                expected[f"{name}_leftImg8bit.png"] = picture[part]
                expected[f"{name}_gtFine_instanceIds.png"] = instance_ids[part]
    found = {str(path.relative_to(cut_once)) for path in cut_once.glob("crops_*/*")}
    assert len(found) > 20
    assert found == set(expected)
    for name, pixels in expected.items():
        assert np.array_equal(np.asarray(Image.open(cut_once / name)), pixels), name


@pytest.mark.parametrize(
    ("center", "expected"),
    [
        ((4.0, 5.5), (2, 4, 6, 8)),  # pixel 4's middle is at 4.5 from the edge: 2.5 rounds to the even 2
        ((0.0, 0.0), (0, 0, 4, 4)),
        ((7.0, 15.0), (4, 12, 8, 16)),
    ],
)
def test_a_window_is_around_its_centre_and_inside_the_picture(center, expected):
    assert crop_window(np.array(center), 4, (8, 16)) == expected


def test_a_picture_smaller_than_a_crop_gives_all_it_has():
    assert crop_window(np.array((3.0, 12.0)), 8, (6, 16)) == (0, 8, 6, 16)


def test_weights_are_counted_over_the_crops_and_images_that_hold_the_class(tiny_frame):
    rows = foreground_weights([survey(tiny_frame, CropSettings(8))])
    # Car in the middle of columns 0..7: 17 pixels of cars, 8 of crowd and 8 of void for nobody, 64 - 33 of others.
    # The person's crop, columns 8..15, holds no car.
    assert rows["car"] == {"dataset_id": 26, "num_crops": 1, "crops": 31 / 17, "full": (128 - 16 - 16 - 17) / 17}
    # A person's crop holds 16 pixels of it and 8 of void; the crowd of cars is background like any other class.
    assert rows["person"] == {"dataset_id": 24, "num_crops": 1, "crops": (64 - 8 - 16) / 16, "full": (128 - 16 - 16) / 16}
    assert rows["train"] == {"dataset_id": 31, "num_crops": 0, "crops": None, "full": None}


def test_weights_are_those_of_a_plain_count(streets, cut_once):
    pictures = CropPictures(cut_once)
    for column, maps in (
        ("crops", [pictures.read(k)[1] for k in range(len(pictures))]),
        ("full", [instance_ids_to_panoptic(read_instance_ids(f.label_path)) for f in find_frames(streets, "val")]),
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
    generate(streets, "val", folder, SETTINGS)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("crops_*/*")} == moments
    assert content(folder) == before


def test_threads_do_not_change_a_byte(streets, cut_once, tmp_path):
    generate(streets, "val", tmp_path / "val", SETTINGS, workers=3)
    assert content(tmp_path / "val") == content(cut_once)


def test_crops_older_than_their_picture_are_cut_again(streets, folder, tmp_path):
    root = Path(shutil.copytree(streets, tmp_path / "root"))
    frame = find_frames(root, "val")[0]
    instance_ids = read_instance_ids(frame.label_path)
    Image.fromarray(np.where(instance_ids == 23, 11, instance_ids).astype(np.uint16)).save(frame.label_path)  # sky to building
    generate(root, "val", folder, SETTINGS)
    generate(root, "val", tmp_path / "fresh", SETTINGS)
    assert content(folder) == content(tmp_path / "fresh")


def test_kills_at_any_moment_change_nothing_in_the_end(streets, cut_once, tmp_path, kill_at_random_moments):
    folder = tmp_path / "val"
    assert kill_at_random_moments(lambda: generate(streets, "val", folder, SETTINGS), 0.3, 8) > 0
    generate(streets, "val", folder, SETTINGS)
    assert content(folder) == content(cut_once)


def test_an_unfinished_folder_is_not_trained_on(streets, folder):
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(InputError, match=r"unfinished; cut the crops with python pan_secb/generate_crops.py"):
        CropPictures(folder)


def test_pictures_come_class_by_class_with_their_truth(cut_once):
    pictures = CropPictures(cut_once)
    assert (np.diff(pictures.train_ids) >= 0).all()
    assert set(pictures.train_ids) <= set(CITYSCAPES.thing_ids)
    assert len({pictures.image_id(k) for k in range(len(pictures))}) == len(pictures)
    for k in range(0, len(pictures), 7):
        picture, panoptic = pictures.read(k)
        assert picture.shape == (64, 64, 3)
        assert panoptic.segment_ids.shape == (64, 64)
        in_the_middle = int(pictures.image_id(k).rsplit("_", 1)[1])
        (segment,) = (s for s in panoptic.segments if s.segment_id == in_the_middle)
        assert segment.category_id == CITYSCAPES.dataset_ids[pictures.train_ids[k]]


def test_a_dataset_reads_crops_like_any_pictures(cut_once):
    item = PanopticDataset(CropPictures(cut_once), None, has_instances=True)[0]
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
            assert len(list((folder / f"crops_{row['dataset_id']}").glob("*_leftImg8bit.png"))) == row["num_crops"], name
        assert f"wrote {sum(row['num_crops'] for row in rows.values())} crops and {WEIGHTS_FILE} in {folder}\n" in done.stdout


def other_settings(root: Path, folder: Path) -> str:
    (folder / "settings.json").write_text('{"crop_size": 32, "min_area": 16}')
    return f"{folder}: holds crops of {{'crop_size': 32, 'min_area': 16}}, but {{'crop_size': 64, 'min_area': 16}} was wanted"


def crop_of_no_object(root: Path, folder: Path) -> str:
    path = folder / "crops_26" / "ulm_000000_000000_26000_leftImg8bit.png"
    path.touch()
    return f"{path}: is of no object of this data set; remove {folder}"


def truncated_label(root: Path, folder: Path) -> str:
    path = next(root.glob("gtFine/val/*/*_instanceIds.png"))
    path.write_bytes(path.read_bytes()[:200])
    return f"{path}: cannot be decoded"


def truncated_picture(root: Path, folder: Path) -> str:
    shutil.rmtree(folder)
    path = find_frames(root, "val")[0].image_path
    path.write_bytes(path.read_bytes()[:2000])
    return f"{path}: cannot be decoded"


def label_of_another_size(root: Path, folder: Path) -> str:
    path = find_frames(root, "val")[0].label_path
    Image.fromarray(read_instance_ids(path)[:64].astype(np.uint16)).save(path)
    return f"{path}: 64x256 pixels, but its image has 128x256"


def no_labels(root: Path, folder: Path) -> str:
    shutil.rmtree(root / "gtFine")
    (root / "gtFine").mkdir()
    return f"{root}: no split has images and labels"


def output_is_a_file(root: Path, folder: Path) -> str:
    shutil.rmtree(folder.parent)
    folder.parent.touch()
    return f"{folder}"


BROKEN = [
    other_settings,
    crop_of_no_object,
    truncated_label,
    truncated_picture,
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


def test_crops_without_their_labels_are_refused(folder):
    label = next(folder.glob("crops_26/*_instanceIds.png"))
    label.unlink()
    with pytest.raises(InputError, match=f"its label {label} is missing"):
        CropPictures(folder)


def test_a_missing_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        CropPictures(tmp_path / "absent")
    (tmp_path / WEIGHTS_FILE).touch()
    with pytest.raises(InputError, match=r"no crops_\*/"):
        CropPictures(tmp_path)
