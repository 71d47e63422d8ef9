"""The results table: the published rows and columns, in percent, for people and for programs."""

import json

from evaluation.panoptic_quality import ClassCounts, PanopticQuality
from evaluation.results_table import markdown_table, results_table, scores_line, write_results

AP = {"AP": 0.25, "AP50": 0.5, "per_class": {"person": None, "car": 0.25}}
IOU = {"miou": 0.5, "pixel_accuracy": 0.9, "per_class": {"road": 0.5, "sky": None, "person": None, "car": 0.5}}


def toy_scores(toy) -> dict:
    """Two roads of IoU 0.75 and one missed; one car of IoU 0.9, one invented and one missed."""
    quality = PanopticQuality({7: ClassCounts(1.5, 2, 0, 1), 26: ClassCounts(0.9, 1, 1, 1)})
    return quality.scores(toy)


def test_the_table_has_the_published_form(toy):
    # road: SQ .75, RQ 2 / 2.5 = .8, PQ .6; car: SQ .9, RQ 1 / 2, PQ .45; all: their means
    assert results_table(toy_scores(toy)).splitlines() == [
        "|        |   PQ |   SQ |   RQ |   N |",
        "| :----- | ---: | ---: | ---: | --: |",
        "| All    | 52.5 | 82.5 | 65.0 |   2 |",
        "| Things | 45.0 | 90.0 | 50.0 |   1 |",
        "| Stuff  | 60.0 | 75.0 | 80.0 |   1 |",
    ]


def test_a_group_without_classes_is_not_zero(toy):
    things = results_table(PanopticQuality({7: ClassCounts(1.0, 1, 0, 0)}).scores(toy)).splitlines()[3]
    assert [cell.strip() for cell in things.strip("|").split("|")] == ["Things", "n/a", "n/a", "n/a", "0"]


def test_ap_and_miou_stand_in_one_line():
    assert scores_line(AP, IOU) == "mask AP 25.0 (AP50 50.0), mIoU 50.0"
    assert scores_line({"AP": None, "AP50": None}, {"miou": None}) == "mask AP n/a (AP50 n/a), mIoU n/a"
    assert scores_line(None, None) == "mask AP not kept, mIoU not kept (--keep panoptic semantic)"


def test_columns_are_as_wide_as_their_widest_cell():
    lines = markdown_table(["", "N"], [["a longer name", "1"], ["b", "12345"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "| a longer name |     1 |"


def test_both_files_say_the_same_and_where_it_is_from(toy, tmp_path):
    scores = toy_scores(toy)
    markdown, json_path = write_results(tmp_path, scores, AP, IOU, {"command": "python evaluate.py"}, {**scores, "mask_ap": AP})
    text, content = markdown.read_text(), json.loads(json_path.read_text())
    assert text.startswith(results_table(scores))
    assert "- command: python evaluate.py" in text
    assert {name: content[name] for name in scores} == scores
    assert content["mask_ap"] == AP
    assert content["facts"] == {"command": "python evaluate.py"}
    rows = {cells[0].strip(): [c.strip() for c in cells[1:]] for line in text.splitlines() if (cells := line.split("|")[1:-1])}
    assert rows["car"] == ["45.0", "90.0", "50.0", "25.0", "50.0"]
    assert rows["person"] == ["n/a", "n/a", "n/a", "n/a", "n/a"]
    assert rows["road"][3] == "n/a"  # stuff has no AP


def test_what_was_not_kept_is_no_column(toy, tmp_path):
    markdown, _ = write_results(tmp_path, None, None, IOU, {}, {})
    text = markdown.read_text()
    assert text.startswith("mask AP not kept, mIoU 50.0")
    assert [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")] == ["class", "IoU"]
