"""The bar goes to stderr and changes nothing of what it wraps."""

import pytest

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
