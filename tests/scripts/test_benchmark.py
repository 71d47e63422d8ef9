"""The benchmark command: its rows, what it writes, and that a difference is an error. No test looks at the clock."""

import json
import sys

import pytest
import torch

from benchmarks import networks, peers, write
from benchmarks.side_by_side import Contest, additional_peak_memory, time_contest
from scripts import benchmark


def test_every_step_has_rows_with_a_promise():
    rows = benchmark.find_rows("all")
    assert len(rows) >= 17
    assert [name for name in rows if name.startswith("fusion, 30")] == [
        "fusion, 30 instances, compiled",
        "fusion, 30 instances, torch",
    ]
    assert set(benchmark.find_rows("pq")) < set(rows)


def test_a_contest_is_timed_on_both_sides_and_checked():
    calls = []
    contest = Contest("x", 1, ours=lambda: calls.append("ours"), theirs=lambda: calls.append("theirs"), same=lambda a, b: a is b)
    ours, theirs, equal = time_contest(contest, repeats=3)
    assert calls == ["ours", "theirs"] * 4  # once untimed, then in turns
    assert equal
    assert 0 <= ours.smallest <= ours.median
    assert theirs.cpu >= 0


def test_memory_is_what_a_call_adds_at_its_peak():
    grown = additional_peak_memory(lambda: len(b"x" * 50_000_000))
    assert 45 < grown < 60


def test_an_unequal_row_ends_with_an_error_after_writing(tmp_path, monkeypatch, fails_in_one_line):
    row = Contest("broken", 1, ours=lambda: 1, theirs=lambda: 2, same=lambda a, b: a == b)
    monkeypatch.setattr(write, "ROWS", {"broken": lambda: row})
    monkeypatch.setattr(benchmark, "print_versions", lambda: None)
    assert "broken" in fails_in_one_line(benchmark.main, "write", "--json", tmp_path / "rows.json", "--repeats", 1)
    (entry,) = json.loads((tmp_path / "rows.json").read_text())
    assert list(entry) == ["name", "ratio", "at_least", "memory_ratio", "equal", "ours_ms", "theirs_ms"]
    assert entry["equal"] is False


@pytest.mark.parametrize(
    ("side", "writer", "memory", "ratio", "is_short"),
    [
        ("hotcoco", "pillow", "kept", 1.79, True),
        ("hotcoco", "pillow", "kept", 1.81, False),
        ("vernier", "ours", "kept", 1.49, True),
        ("hotcoco", "ours", "fresh", 1.0, False),
        (peers.PLAIN, "ours", "kept", 1.0, False),
    ],
)
def test_a_peer_that_is_nearer_than_promised_is_marked(side, writer, memory, ratio, is_short):
    row = peers.Row(side, writer, 1, memory, 10.0, ratio, num_bit_equal=2, num_classes=3, pq=0.5)
    assert ("SHORT" in peers.line(row)) == is_short
    assert "2 of 3 classes bit-equal" in peers.line(row)
    assert not row.is_bit_equal


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_that_is_not_installed_is_named_with_what_to_do(name, monkeypatch, fails_in_one_line):
    for other in peers.PEERS:
        monkeypatch.setitem(sys.modules, f"{other}.panoptic", None if other == name else object())
        monkeypatch.setitem(sys.modules, other, type(sys)(other))
    monkeypatch.setattr(benchmark, "print_versions", lambda: None)
    error = fails_in_one_line(benchmark.main, "peers")
    assert f"{name} does not load" in error
    assert "pip install -e '.[peers]'" in error


def test_an_unknown_row_is_refused(fails_in_one_line):
    assert "rows are" in fails_in_one_line(benchmark.main, "--memory-of", "nothing", "ours")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["pq", "--repeats", "0"]])
def test_wrong_arguments_name_what_is_needed(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit, match="NAME"):
        benchmark.main()


def test_every_network_is_timed_in_both_precisions(monkeypatch):
    passes = networks.forward_passes()
    few = {name: passes[name] for name in ("EfficientPS semantics Lite0", "original EfficientPS Lite0", "Pan-SECB")}
    monkeypatch.setattr(networks, "forward_passes", lambda: few)
    rows = list(networks.measure(torch.device("cpu"), 1, (64, 64), (64, 64)))
    expected = [(name, "forward", precision) for name in few for precision in networks.PRECISIONS]
    expected += [(f"EfficientPS semantics {v}", "step", precision) for v in ("lite0", "b5") for precision in networks.PRECISIONS]
    assert [(row.network, row.what, row.precision) for row in rows] == expected
    assert all(row.milliseconds > 0 and row.images_per_second > 0 and row.megabytes is None for row in rows)


def test_a_device_that_is_not_there_is_refused(monkeypatch, fails_in_one_line):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "cuda" in fails_in_one_line(benchmark.main, "networks")
