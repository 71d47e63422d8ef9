"""Parts of shards: read in the order of the images whatever the cut, and refused by name where something is missing or twice."""

import json
import random
from collections import Counter

import pytest

from prediction import parts
from prediction.parts import Whole, change_records, open_parts, part_path, read_part, read_records, remove_parts, write_part
from prediction.selection import Shard
from runtime.files import InputError

IDS = [f"town_{k:06d}" for k in range(40)]
WHOLE = Whole.of(IDS)


def write_all(folder, count, numbers=None, ids=IDS, about=None):
    for number in numbers or range(1, count + 1):
        shard = Shard(number, count)
        with write_part(folder, "prediction", shard, Whole.of(ids), about or {}) as write:
            for index, image_id in enumerate(ids):
                if shard.holds(image_id):
                    write({"index": index, "image_id": image_id, "text": "ä" * index})
    return folder


def edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines))


@pytest.mark.parametrize("count", [1, 3, 7, 100])
@pytest.mark.parametrize("block", [1, 200, 1 << 14])
def test_any_cut_in_any_order_gives_the_images_in_their_own_order(count, block, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "BLOCK", block)
    numbers = list(range(1, count + 1))
    random.Random(count).shuffle(numbers)
    records = list(read_records(open_parts(write_all(tmp_path, count, numbers))))
    assert [(r["index"], r["image_id"], len(r["text"])) for r in records] == [(k, i, k) for k, i in enumerate(IDS)]


def test_the_part_of_an_image_depends_on_nothing_but_its_id():
    found = {image_id: [n for n in (1, 2, 3) if Shard(n, 3).holds(image_id)] for image_id in IDS}
    assert all(len(numbers) == 1 for numbers in found.values())
    assert Counter(n for (n,) in found.values()).keys() == {1, 2, 3}
    # Known values: another version of this program must cut in the same way, or a restarted shard would be another one.
    assert [found[image_id][0] for image_id in IDS[:6]] == [2, 3, 3, 3, 3, 1]


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(InputError, match="has no parts/part-"):
        open_parts(tmp_path)
    with pytest.raises(InputError, match=r"the parts of --shard 2/5, 4/5 are missing; run these shards first"):
        open_parts(write_all(tmp_path, 5, (1, 3, 5)))


@pytest.mark.parametrize("place", [0, 20, len(IDS) - 1])
def test_a_missing_image_is_named_by_its_neighbour(place, tmp_path):
    write_all(tmp_path, 1)
    edit(
        part_path(tmp_path, Shard()), lambda lines: (lines.pop(place + 1), lines.__setitem__(-1, f'{{"end": {len(IDS) - 1}}}\n'))
    )
    words = "an image is missing at the beginning" if place == 0 else f"an image is missing behind '{IDS[place - 1]}'"
    if place == len(IDS) - 1:
        words = f"1 images are missing, all behind '{IDS[-2]}'"
    with pytest.raises(InputError, match=words):
        list(read_records(open_parts(tmp_path)))


def test_an_image_that_two_parts_hold_is_named(tmp_path):
    write_all(tmp_path, 2)
    second = part_path(tmp_path, Shard(2, 2))
    line = part_path(tmp_path, Shard(1, 2)).read_text().splitlines(keepends=True)[1]

    def add(lines):
        lines.insert(1, line)
        lines[1:-1] = sorted(lines[1:-1], key=lambda text: json.loads(text)["index"])
        lines[-1] = f'{{"end": {len(lines) - 2}}}\n'

    edit(second, add)
    with pytest.raises(InputError, match=f"{json.loads(line)['image_id']!r} is there twice"):
        list(read_records(open_parts(tmp_path)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines.pop(), "cut off behind 40 images"),
        (lambda lines: lines.__setitem__(5, lines[5][:20]), "line 6 is broken"),
        (lambda lines: lines.append(lines[1]), "line 43 is broken .*behind the end"),
        (lambda lines: lines.insert(3, lines[2]), "line 4 is broken .*index 1 behind 1"),
        (lambda lines: lines.__setitem__(0, "{}\n"), "is no part of a run"),
        (lambda lines: lines.clear(), "is no part of a run"),
    ],
)
def test_a_broken_part_is_named_with_its_line(change, words, tmp_path):
    write_all(tmp_path, 1)
    edit(part_path(tmp_path, Shard()), change)
    with pytest.raises(InputError, match=rf"part-00001.jsonl: .*{words}"):
        list(read_records(open_parts(tmp_path)))


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    write_all(tmp_path, 2, about={"settings": "one model"})
    kept = part_path(tmp_path, Shard(2, 2)).read_text()
    for about, ids, words in (({"settings": "another"}, IDS, "settings"), ({"settings": "one model"}, IDS[:-1], "images")):
        write_all(tmp_path, 2, (1,), ids, about)
        part_path(tmp_path, Shard(2, 2)).write_text(kept)
        with pytest.raises(InputError, match=f"part-00002.jsonl: is of other {words} than part-00001.jsonl"):
            open_parts(tmp_path)


def test_a_new_cut_replaces_the_parts_of_an_older_one(tmp_path):
    write_all(tmp_path, 7)
    write_all(tmp_path, 2)
    assert len(list(read_records(open_parts(tmp_path)))) == len(IDS)
    remove_parts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_not_finished_is_not_there(tmp_path):
    with pytest.raises(KeyError), write_part(tmp_path, "prediction", Shard(), WHOLE, {}) as write:
        write({"index": 0, "image_id": IDS[0]} | {}["what fails in the middle"])
    assert not list((tmp_path / "parts").iterdir())


def test_lines_are_changed_one_by_one(tmp_path):
    write_all(tmp_path, 2, about={"settings": "x"})
    part = read_part(tmp_path, Shard(1, 2))
    change_records(part, lambda records: (record | {"text": ""} for record in records), {"truth": "val"})
    changed = read_part(tmp_path, Shard(1, 2))
    assert changed.about == {"settings": "x", "truth": "val"}
    assert {r["text"] for r in read_records(open_parts(tmp_path)) if Shard(1, 2).holds(r["image_id"])} == {""}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, Shard()),
        ({"SLURM_ARRAY_TASK_ID": "3"}, Shard()),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"}, Shard(4, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, Shard(3, 4)),
        (
            {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "3"}
            | {"SLURM_ARRAY_TASK_STEP": "2", "RANK": "0", "WORLD_SIZE": "2"},
            Shard(4, 4),
        ),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Shard(1, 2)),
    ],
)
def test_a_scheduler_says_which_part_it_is(environment, shard):
    assert Shard.of_environment(environment)[0] == shard


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 WORLD_SIZE=2: is no part of a whole"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x', but a whole number"),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, "SLURM_ARRAY_TASK_MIN is '', but"),
    ],
)
def test_a_scheduler_that_contradicts_itself_is_refused(environment, words):
    with pytest.raises(InputError, match=words):
        Shard.of_environment(environment)
