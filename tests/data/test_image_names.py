"""Somebody else's name is taken for an image only where it can be no other."""

import pytest

from data.image_names import ImageNames
from runtime.files import InputError

NAMES = ("000000000139", "000000000285")
COCO = ImageNames({name: (name, int(name), f"{name}.jpg") for name in NAMES})
FOLDERS = ImageNames({"0001": ("0001", "town/0001.png")})
COUNTED = ImageNames({str(k + 1): (str(k + 1), k, f"{k + 1}.png") for k in range(3)})


@pytest.mark.parametrize(
    "name", [139, "139", "000000000139", "000000000139.jpg", "val2017/000000000139.png", "x\\000000000139.jpg"]
)
def test_one_image_has_many_names(name):
    assert COCO.find(name) == "000000000139"


@pytest.mark.parametrize("name", [140, "14", "a.jpg", "000000000139b.jpg", ""])
def test_a_name_that_no_image_has_is_none(name):
    assert COCO.find(name) is None


@pytest.mark.parametrize(("name", "found"), [("0001.png", "0001"), ("a/town/0001.jpg", "0001"), ("village/0001.png", None)])
def test_folders_must_agree_as_far_as_both_go(name, found):
    assert FOLDERS.find(name) == found


def test_numbers_are_the_json_s_ids_and_never_small_numbers_of_files():
    assert COUNTED.find(0) == "1"
    assert COUNTED.find(2) == "3"
    assert ImageNames({"1": ("1", "1.png")}).find(1) is None


def test_text_that_is_one_image_s_id_and_another_s_name_is_refused():
    with pytest.raises(InputError, match="'1' could be 1, 2; give names that tell them apart"):
        COUNTED.find("1")
    assert COUNTED.find("1.png") == "1"


def test_a_name_of_two_images_is_refused():
    with pytest.raises(InputError, match="could be a/x, b/x"):
        ImageNames({"a/x": ("a/x", "a/x.png"), "b/x": ("b/x", "b/x.png")}).find("x.png")
