"""A data set's layout is recognised from its folder; the folder is the argument's, the environment's, or an embedded one."""

import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data.drawn import embedded
from data.drawn.embedded import find_data_set
from data.drawn.snapshots import SnapshotsSettings, ensure_snapshots
from data.drawn.streets import StreetsSettings, ensure_streets
from data.layouts.cityscapes import CityscapesSplit
from data.layouts.coco import CocoSplit
from data.layouts.find import LAYOUTS, DataSet, named_data_set, open_data_set
from data.split import Split
from data.taxonomy import CITYSCAPES, COCO_PANOPTIC, recognise
from prediction.run import predict_split
from prediction.score import score
from prediction.sources.truth import Truth
from runtime.files import InputError

EXAMPLES: dict[str, Callable[[Path], object]] = {
    "cityscapes": lambda root: ensure_streets(root, StreetsSettings(128, 256, num_train=2, num_val=3)),
    "coco": lambda root: ensure_snapshots(root, SnapshotsSettings(num_train=2, num_val=3)),
}
"""Layout -> what writes a small data set of it into a folder, with a split for training and one for validation, all with truth.
A new layout gets the tests that are marked as its contract for one line here."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> dict[str, Path]:
    roots = {layout: tmp_path_factory.mktemp("examples") / layout for layout in EXAMPLES}
    for layout, root in roots.items():
        EXAMPLES[layout](root)
    return roots


@pytest.fixture(params=LAYOUTS)
def drawn(request, examples) -> DataSet:
    """A folder of each layout."""
    assert request.param in examples, f"layout {request.param} has no line in EXAMPLES"
    return DataSet(examples[request.param], request.param)


def test_contract_a_layout_is_recognised_by_itself_alone_or_named(drawn):
    assert drawn.layout == LAYOUTS[drawn.layout].NAME
    assert [name for name, layout in LAYOUTS.items() if layout.recognises(drawn.root)] == [drawn.layout]
    assert open_data_set(drawn.root) == drawn
    assert open_data_set(str(drawn.root), drawn.layout) == drawn


def test_contract_a_folder_of_anything_else_is_refused_with_what_the_layout_holds(drawn, examples, tmp_path):
    layout = LAYOUTS[drawn.layout]
    with pytest.raises(InputError, match=re.escape(layout.FORM)):
        open_data_set(tmp_path)
    others = [root for name, root in examples.items() if name != drawn.layout]
    for root in (tmp_path, tmp_path / "nowhere", *others):
        with pytest.raises(InputError, match=re.escape(str(root))):
            layout.check_root(root)
    for name in ("nowhere", "../train"):
        with pytest.raises(InputError, match=re.escape(name)):
            drawn.split(name)


def test_contract_every_split_that_is_there_opens_with_the_classes_it_was_said_to_have(drawn):
    layout = LAYOUTS[drawn.layout]
    training, validation = drawn.usual_split(for_training=True), drawn.usual_split()
    assert training != validation
    assert {training, validation} <= set(drawn.splits())
    assert training in layout.TRAIN_SPLITS
    assert validation in layout.VAL_SPLITS
    for name in drawn.splits():
        split = drawn.split(name, for_training=True)
        assert isinstance(split, Split)
        assert split.split == name
        assert split.name == f"{name} of {drawn.root}"
        assert drawn.taxonomy(name) == split.taxonomy == recognise(split.taxonomy)


def test_contract_the_truth_of_a_split_gives_it_a_perfect_score(drawn, tmp_path):
    """The loop over images, the files that it writes and the scores know a split by what data/split.py promises alone."""
    split = drawn.split()
    scores = score(predict_split(split, Truth(split), tmp_path), split)
    assert scores.quality["All"]["pq"] == 1
    assert set(scores.per_image) == {split.image_id(index) for index in range(len(split))}


@pytest.mark.parametrize(
    ("layout", "names", "kind", "taxonomy"),
    [
        ("cityscapes", ["train", "val"], CityscapesSplit, CITYSCAPES),
        ("coco", ["train2017", "val2017"], CocoSplit, COCO_PANOPTIC),
    ],
)
def test_each_layout_has_its_splits_and_classes(layout, names, kind, taxonomy, examples):
    drawn = DataSet(examples[layout], layout)
    assert drawn.splits() == names
    assert [drawn.usual_split(for_training=True), drawn.usual_split()] == names
    split = drawn.split()
    assert isinstance(split, kind)
    assert isinstance(split, Split)
    assert split.name == f"{names[1]} of {drawn.root}"
    assert drawn.taxonomy(names[0]) is split.taxonomy is taxonomy
    assert len(drawn.split(names[0])) == len(drawn.split(for_training=True))


def test_contract_every_split_keeps_the_promises_of_the_protocol(drawn):
    split = drawn.split()
    ids = [split.image_id(index) for index in range(len(split))]
    assert len(set(ids)) == len(ids)
    assert len({split.key(index) for index in range(len(split))}) == len(ids)
    assert len({split.digest(index) for index in range(len(split))}) == len(ids)
    for index in range(len(split)):
        image, truth = split.image(index), split.truth(index)
        assert image.shape == (*split.size(index), 3)
        assert image.dtype == "uint8"
        assert split.has_truth(index)
        assert truth.segment_ids.shape == split.size(index)
        assert all(s.category_id in split.taxonomy.dataset_id_to_train_id for s in truth.segments)
    again = drawn.split()
    assert [again.image_id(index) for index in range(len(again))] == ids
    assert [again.digest(index) for index in range(len(again))] == [split.digest(index) for index in range(len(split))]


def test_splits_of_coco_may_be_called_train_and_val(snapshots, tmp_path):
    root = Path(shutil.copytree(snapshots, tmp_path / "own"))
    for name in ("train", "val"):
        for path in (root / f"{name}2017", *root.glob(f"annotations/panoptic_{name}2017*")):
            path.rename(path.with_name(path.name.replace("2017", "")))
    data_set = open_data_set(root)
    assert [data_set.usual_split(for_training=True), data_set.usual_split()] == ["train", "val"]
    assert len(data_set.split()) == 5


def test_a_folder_of_no_layout_is_refused_with_what_is_needed(tmp_path):
    needed = r"no known layout is there; --data-root must name .*leftImg8bit/ and gtFine/.*panoptic_"
    with pytest.raises(InputError, match=needed):
        open_data_set(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder; --data-root must name"):
        open_data_set(tmp_path / "nowhere")


def test_a_folder_of_another_layout_than_named_is_refused(streets, snapshots):
    with pytest.raises(InputError, match="no annotations/ in it; the COCO layout has"):
        open_data_set(streets / "leftImg8bit", "coco")
    with pytest.raises(InputError, match="no leftImg8bit/ and no gtFine/ in it; the Cityscapes layout has"):
        open_data_set(snapshots, "cityscapes")
    with pytest.raises(InputError, match="layout 'voc' is unknown; choose one of auto, cityscapes, coco"):
        open_data_set(streets, "voc")


def test_the_argument_goes_before_the_environment_and_that_before_an_embedded_set(streets, snapshots, tmp_path, monkeypatch):
    other = Path(shutil.copytree(streets, tmp_path / "other"))
    assert named_data_set(None) is None
    monkeypatch.setenv("COCO_DATASET", str(snapshots))
    assert find_data_set() == DataSet(snapshots, "coco")
    monkeypatch.setenv("CITYSCAPES_DIR", str(other))
    assert find_data_set() == DataSet(other, "cityscapes")
    monkeypatch.setenv("CITYSCAPES_DATASET", str(streets))
    assert find_data_set() == DataSet(streets, "cityscapes")
    assert find_data_set(layout="coco") == DataSet(snapshots, "coco")
    assert find_data_set(str(other)) == DataSet(other, "cityscapes")
    monkeypatch.setenv("CITYSCAPES_DATASET", "")
    assert find_data_set() == DataSet(other, "cityscapes")


def test_a_variable_that_names_no_data_set_is_named_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("COCO_DATASET", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere: no such folder; \$COCO_DATASET must name"):
        find_data_set()


def test_a_variable_of_the_other_layout_does_not_count(snapshots, monkeypatch):
    monkeypatch.setenv("COCO_DATASET", str(snapshots))
    assert named_data_set(None, "cityscapes") is None


@pytest.mark.parametrize(
    ("layout", "title", "found"),
    [("auto", "Streets", "cityscapes"), ("cityscapes", "Streets", "cityscapes"), ("coco", "Snapshots", "coco")],
)
def test_without_any_an_embedded_set_is_used_and_one_line_says_so(layout, title, found, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data.drawn.streets.ensure_streets", lambda: tmp_path)
    monkeypatch.setattr("data.drawn.snapshots.ensure_snapshots", lambda: tmp_path)
    importlib.reload(embedded)  # which forgets what another test has said
    assert find_data_set(layout=layout) == find_data_set(layout=layout) == DataSet(tmp_path, found)
    importlib.reload(embedded)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"no --data-root given: using the embedded data set {title} in ")
