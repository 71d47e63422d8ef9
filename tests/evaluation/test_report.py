"""The report is one valid, self-contained page that shows the numbers it was given."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from evaluation.figures import COLORS, bar_chart, scatter_chart
from evaluation.panoptic_quality import PanopticQuality
from evaluation.report import LARGEST_PANEL, Table, compare_scores, typical_image, write_report
from runtime.files import InputError

VOID_ELEMENTS = {"meta", "img", "link", "br"}


class BalanceChecker(HTMLParser):
    """Every element that opens closes, in order; remembers tags, texts and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def read_page(path):
    checker = BalanceChecker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


@pytest.fixture
def scene_scores(draw, toy):
    truth, guess = draw("rrraa", "rrraa", "rrrrr"), draw("rrraa", "rrrar", "rrrrr")
    quality = PanopticQuality()
    quality.add(truth, guess)
    return quality.scores(toy)


def test_figures_are_embedded_below_the_tables(tmp_path, toy, scene_scores):
    picture = bar_chart({"ours": {"a": 0.5, "b": None}, "theirs": {"a": 0.25, "b": 1.0}}, "PQ (%)")
    write_report(tmp_path / "r.html", "A title", scene_scores, toy, figures={"By size": picture})
    page = read_page(tmp_path / "r.html")
    (address,) = page.addresses
    assert "script" not in page.tags
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert "By size" in page.texts
    assert shown.shape[1] <= LARGEST_PANEL


def test_bars_are_as_high_as_their_shares():
    picture = bar_chart({"ours": {"a": 0.25, "b": 1.0}}, "PQ (%)")
    is_bar = (picture == np.array([0x2A, 0x6F, 0x97])).all(2)
    is_bar[: len(is_bar) // 8] = False  # the legend
    heights = is_bar.sum(0)
    first, second = (heights[: heights.size // 2].max(), heights[heights.size // 2 :].max())
    assert 0.2 < first / second < 0.3


def test_the_page_shows_the_scores_in_percent_and_the_absent_as_not_available(tmp_path, toy, scene_scores):
    scores = scene_scores
    write_report(tmp_path / "r.html", "A title", scores, toy)
    text = " ".join(read_page(tmp_path / "r.html").texts)
    assert "All 83.3" in text  # road is 11 of 12, car 3 of 4
    assert scores["per_class"]["car"]["pq"] == 3 / 4
    assert "car thing 75.0 75.0 100.0 1 0 0" in re.sub(r" +", " ", text)
    assert "sky stuff n/a n/a n/a 0 0 0" in re.sub(r" +", " ", text)


def test_tables_and_facts_are_shown(tmp_path, toy, scene_scores):
    scores = scene_scores
    runs = compare_scores("Stages", {"floor": None, "ours": scores}, "Things", emphasis="ours")
    assert runs.rows == (("floor", "not run", "not run", "not run", "not run"), ("ours", "75.0", "75.0", "100.0", 1))
    extra = Table("Masks", ("class", "AP"), (("bus", None), ("car", 12.5)), note="from pycocotools")
    facts = {"Config": "configs/a.py", "Command": "make demo", "Hardware": None}
    write_report(tmp_path / "r.html", "A title", scores, toy, tables=[runs, extra], facts=facts, introduction="Two stages.")
    texts = read_page(tmp_path / "r.html").texts
    assert {"Stages", "not run", "Masks", "from pycocotools", "12.5", "n/a", "configs/a.py", "Two stages."} <= set(texts)
    assert "Hardware" not in texts


def test_names_cannot_break_the_page(tmp_path, toy, scene_scores):
    scores = scene_scores
    write_report(tmp_path / "r.html", "<b>&</b></title>", scores, toy)
    assert "<b>&</b></title>" in read_page(tmp_path / "r.html").texts


def test_a_group_without_classes_makes_a_page_too(tmp_path, toy):
    write_report(tmp_path / "r.html", "Empty", PanopticQuality().scores(toy), toy)
    assert "n/a" in read_page(tmp_path / "r.html").texts


def test_the_typical_image_has_the_median_pq():
    assert typical_image({"a": 0.1, "b": 0.9, "c": None, "d": 0.5}) == "d"
    assert typical_image({"a": 0.1, "b": 0.9, "d": 0.5, "e": 0.3}) == "e"
    with pytest.raises(InputError, match="no image has a PQ"):
        typical_image({"c": None})


def test_points_stand_where_their_numbers_say():
    picture = scatter_chart(
        {"slow": (400, 0.3), "fast": (100, 0.4), "in between": (200, 0.4), "nothing": (9, None)}, "ms", "PQ (%)"
    )
    places = []
    for color in COLORS[:3]:
        rows, columns = (picture == np.array(bytearray.fromhex(color[1:]))).all(2).nonzero()
        places.append((rows.mean(), columns.mean()))
    slow, fast, between = places
    assert fast[0] == pytest.approx(between[0], abs=1)
    assert slow[0] > fast[0] + 50
    assert slow[1] - between[1] == pytest.approx(between[1] - fast[1], abs=2)  # twice the time is as far everywhere
    assert not (picture == np.array(bytearray.fromhex(COLORS[3][1:]))).all(2).any()
