"""The bar goes to stderr and changes nothing of what it wraps."""

import io
import time

import pytest
from rich.console import Console

from runtime import progress
from runtime.progress import track


def test_items_come_as_they_are_and_nothing_is_printed_to_stdout(capsys):
    assert list(track([3, 1, 2], "working")) == [3, 1, 2]
    assert list(track(iter("ab"), "working", total=2)) == ["a", "b"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "working" in said.err
    assert "3/3" in said.err


def test_an_error_of_the_items_is_raised_at_its_place():
    def items():
        yield 1
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(track(items(), "working", total=2))
    assert seen == [1]


def test_without_a_terminal_a_line_says_how_far_it_is_also_while_one_item_takes_long(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    file = io.StringIO()
    with progress.progress_bar(Console(file=file, width=100)) as bar:
        bar.advance(bar.add_task("predicting", total=3))
        deadline = time.monotonic() + 20
        while "predicting: 1 of 3" not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "predicting: 1 of 3" in file.getvalue()


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    file = io.StringIO()
    with progress.progress_bar(Console(file=file, width=100, force_terminal=True)) as bar:
        bar.advance(bar.add_task("predicting", total=3))
    assert "predicting: 1 of 3" not in file.getvalue()
