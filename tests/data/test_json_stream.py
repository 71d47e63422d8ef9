"""A JSON list read entry by entry: the same entries as json.loads, from their places too, whatever the blocks cut through."""

import json
import random
from array import array

import pytest

from data import json_stream
from data.json_stream import JsonList
from runtime.files import InputError


def entries(numbers: random.Random, count: int) -> list[dict]:
    """Objects with what a scanner may stumble over: brackets and quotes in text, escapes, letters of several bytes."""
    texts = ['}],{"', "\\", '\\"', "ä", "日本", "😀", "[[", "a\nb", "", " "]
    make = lambda: "".join(numbers.choices(texts, k=numbers.randrange(6)))  # noqa: E731
    return [{"image_id": make(), "n": k, make(): [make(), {"x": make()}], "f": numbers.random()} for k in range(count)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_entries_and_their_places_do_not_depend_on_the_blocks(seed, block, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK", block)
    monkeypatch.setattr(json_stream, "SMALL_BLOCK", block)
    numbers = random.Random(seed)
    wanted = entries(numbers, numbers.randrange(12))
    text = json.dumps(wanted, ensure_ascii=bool(seed % 2), indent=numbers.choice([None, 2, "\t"]))
    content = (b"\xef\xbb\xbf" if seed % 3 == 0 else b"") + f" \r\n{text}\n ".encode()
    (tmp_path / "a.json").write_bytes(content)
    found = list(JsonList(tmp_path / "a.json"))
    assert [entry for _, entry in found] == wanted
    assert all(content[start : start + 1] == b"{" for start, _ in found)
    places = [start for start, _ in found]
    numbers.shuffle(places)
    assert JsonList(tmp_path / "a.json").at(array("q", places)) == [dict(found)[start] for start in places]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no list"),
        (b"{}", "holds no list"),
        (b"[", "is cut off|Expecting value"),
        (b'[{"a": 1}', "it is cut off"),
        (b'[{"a": 1},', "Expecting value"),
        (b'[{"a": 1},]', "Expecting value"),
        (b'[{"a": 1} {"a": 2}]', "no comma at byte 10"),
        (b'[{"a": 1}] x', "more follows"),
        (b'[{"a": 1', "entry at byte 1"),
        (b"[1]", "entry at byte 1 is 1, but an object"),
        (b'[{"a": "\xff"}]', "not valid JSON"),
        (b'[{"a": "\\ud800"}]', "half of a character"),
        (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "lists in lists without end"),
    ],
)
def test_what_is_no_list_of_objects_is_refused_in_one_line(content, words, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        list(JsonList(tmp_path / "a.json"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path, words in ((tmp_path / "none.json", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=words):
            list(JsonList(path))
