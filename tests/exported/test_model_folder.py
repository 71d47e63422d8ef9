"""What an exported model's folder says is what its predictor does, and a folder that does not hold together is refused."""

import numpy as np
import pytest
import yaml

from data.taxonomy import CITYSCAPES, Category, Taxonomy
from prediction.exported.model_folder import MODEL, SETTINGS, read_folder, resized_size, write_settings
from prediction.exported.predictor import load_predictor
from prediction.exported.session import default_threads
from prediction.views import ViewSettings
from runtime.files import InputError, ItemError
from tests.exported.conftest import COLORS, network_by_hand, settings_by_hand

RENAMED = Taxonomy("colors", tuple(Category(n, c.dataset_id, c.is_thing, c.color) for n, c in zip("abc", COLORS.categories)))
FIXED = settings_by_hand()["input"] | {"size": [8, 12]}


def halves(height: int, width: int) -> np.ndarray:
    """An image whose left half is red and whose right half is blue."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, : width // 2, 0] = image[:, width // 2 :, 2] = 200
    return image


def test_logits_are_those_of_the_images_cells(by_hand):
    found = load_predictor(by_hand()).predict("a", halves(8, 16)).semantic
    assert found.logits.argmax(0).tolist() == [[0, 0, 2, 2]] * 2
    assert found.logits.max() == 200


def test_padding_is_no_part_of_the_result(by_hand):
    found = load_predictor(by_hand()).predict("a", halves(6, 16)).semantic
    # The second row of cells is half padding, of which the mean is 0.
    assert found.logits[0, :, 0].tolist() == [200, 100]


def test_an_image_that_does_not_fit_a_fixed_size_is_shrunk_until_it_does(by_hand):
    folder = read_folder(by_hand(input=FIXED))
    assert folder.input.seen_size((6, 9)) == (6, 9)
    assert folder.input.seen_size((16, 12)) == (8, 6)
    assert folder.input.seen_size((8, 24)) == (4, 12)
    found = load_predictor(folder.path).predict("a", halves(16, 32)).semantic
    assert found.logits.argmax(0)[0].tolist() == [0, 0, 0, 0, 2, 2, 2, 2]


def test_the_yaml_says_what_was_written(by_hand):
    folder = read_folder(by_hand(min_score=0.25))
    assert folder.taxonomy == COLORS
    assert folder.min_score == 0.25
    assert folder.input.normalization.std == (1, 1, 1)
    assert folder.settings == {"logit_stride": 4}


def test_both_files_are_names_of_the_model(by_hand):
    folder = by_hand()
    assert read_folder(folder / MODEL).name == read_folder(folder / SETTINGS).name == read_folder(folder).name


def test_the_name_changes_with_each_setting_and_with_the_weights(by_hand):
    names = {read_folder(by_hand()).name, read_folder(folder := by_hand(min_score=0.25)).name}
    with (folder / MODEL).open("ab") as file:
        file.write(b"\0")
    assert len(names | {read_folder(folder).name}) == 3


def test_boxes_of_two_sides_are_sized_as_mmdet_sizes_them():
    rule = {"rule": "box", "longer": 384, "shorter": 192}
    assert resized_size((100, 100), rule) == (192, 192)
    assert resized_size((100, 400), rule) == (96, 384)
    assert resized_size((400, 100), rule) == (384, 96)


@pytest.mark.parametrize("absent", [MODEL, SETTINGS])
def test_a_folder_without_one_of_its_files_is_refused(by_hand, absent):
    folder = by_hand()
    (folder / absent).unlink()
    with pytest.raises(InputError, match=f"has no {absent}"):
        load_predictor(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder; export a model first"):
        load_predictor(tmp_path / "none")


@pytest.mark.parametrize("taxonomy", [CITYSCAPES, RENAMED], ids=["of another number", "of other names"])
def test_a_yaml_of_other_classes_is_refused(by_hand, taxonomy):
    folder = by_hand(taxonomy=taxonomy)
    with pytest.raises(InputError, match=f"the classes of {SETTINGS} are not those of {MODEL}"):
        load_predictor(folder)


def test_an_onnx_file_with_other_outputs_is_refused(by_hand):
    network_by_hand((folder := by_hand()) / MODEL, output="logits")
    with pytest.raises(InputError, match=r"gives logits, but model\.yaml is of efficientps, which gives semantic_logits"):
        load_predictor(folder)


def test_an_onnx_file_of_other_weights_is_refused(by_hand):
    network_by_hand((folder := by_hand()) / MODEL, producer="by-hand-2")
    with pytest.raises(InputError, match=r"is of by-hand-1, .* of by-hand-2; copy both files of one export"):
        load_predictor(folder)


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_truncated_onnx_file_is_refused(by_hand, share):
    model = by_hand() / MODEL
    content = model.read_bytes()
    model.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="onnxruntime cannot read it") as refused:
        load_predictor(model)
    assert "\n" not in str(refused.value)


def test_an_image_smaller_than_the_stride_is_left_out(by_hand):
    predictor = load_predictor(by_hand())
    with pytest.raises(ItemError, match="an image of 3x9 pixels, but the network needs 4 a side"):
        predictor.predict("a", halves(3, 9))
    assert predictor.predict("a", halves(4, 4)).semantic.logits.shape == (3, 1, 1)


def test_a_network_that_gives_nan_is_refused(by_hand):
    # Red is divided by almost 0.
    predictor = load_predictor(by_hand(input=settings_by_hand()["input"] | {"std": [1e-45, 1, 1]}))
    with pytest.raises(InputError, match="a: the exported model gives NaN or infinite semantic_logits"):
        predictor.predict("a", halves(8, 8))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other"}, "of no exported model"),
        ({"version": 2}, "version 2, but this program reads 1"),
        ({"system": "yolo"}, "system yolo is unknown"),
        ({"input": FIXED | {"size": [8, 13]}}, "multiples of 4"),
        ({"input": FIXED | {"std": [1, 0, 1]}}, "std above 0"),
        ({"input": FIXED | {"resize": {"rule": "other"}}}, "resize rule 'other' is unknown"),
        ({"input": {}}, "has no 'size'"),
        ({"settings": {}}, "`settings` do not fit efficientps"),
        ({"min_score": 2}, "min_score must be a share"),
        ({"categories": []}, "0 classes"),
        ({"precision": "bfloat16"}, "precision must be"),
    ],
)
def test_an_impossible_yaml_is_refused_in_one_line(by_hand, change, reason):
    folder = by_hand(**change)
    with pytest.raises(InputError, match=reason) as refused:
        load_predictor(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "format: panoptic-exported-model"])
def test_a_yaml_of_anything_else_is_refused(by_hand, content):
    (folder := by_hand()) / SETTINGS
    (folder / SETTINGS).write_text(content)
    with pytest.raises(InputError, match=SETTINGS):
        load_predictor(folder)


def test_test_time_views_are_not_offered(by_hand):
    with pytest.raises(InputError, match=r"no test-time views; leave --tta\.\* out"):
        load_predictor(by_hand(), views=ViewSettings(flip=True))


def test_a_device_that_onnxruntime_has_not_is_refused(by_hand):
    with pytest.raises(InputError, match="device 'mps': onnxruntime here has"):
        load_predictor(by_hand(), device="mps")


def test_settings_survive_yaml(tmp_path):
    write_settings(tmp_path, wanted := settings_by_hand())
    assert yaml.safe_load((tmp_path / SETTINGS).read_text()) == wanted


def test_as_many_threads_as_torch_has_compute():
    import torch

    assert default_threads() == torch.get_num_threads()
