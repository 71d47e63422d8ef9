"""Every reader stands some thousand damaged files; and the harness reports whatever a reader can do wrong, with its case."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.files import InputError
from tests.fuzz.campaign import MOST_LOST, Campaign, Limits, judge
from tests.fuzz.run import main
from tests.fuzz.targets import TARGETS, Target, make_case

CASES = 2500


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_right_or_refused(name):
    lines: list[str] = []
    tally = Campaign({name: TARGETS[name]}, CASES, report=lines.append).run()[name]
    assert not tally.findings, "\n".join([*lines, *(finding.verdict.detail for finding in tally.findings.values())])
    assert tally.counts.total() == CASES
    assert min(tally.counts["accepted"], tally.counts["refused"]) > 0  # else nothing was tried


def raise_error(error: Exception) -> None:
    raise error


FAULTS = {
    "dies": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crash, SIGSEGV, "),
    "hangs": (lambda: time.sleep(100), "hang, no end, "),
    "eats memory": (lambda: bytearray(2**33), "memory, MemoryError, "),
    "gives a wrong value": (lambda: raise_error(AssertionError("a wrong value: 3")), "wrong, a wrong value"),
    "raises an error": (lambda: {}["a"], "error, KeyError, "),
    "refuses in two lines": (lambda: raise_error(InputError("a\nb")), "wrong, its message is not one line, "),
    "starts a program": (lambda: os.system("true"), "wrong, starts another program (os.system)"),
}
LIMITS = Limits(memory_gb=1, case_seconds=1)


def faulty_target(fault: Callable[[], object]) -> Target:
    """A reader with this fault at each file that holds an exclamation mark, which one in eight does."""

    def check(content: bytes, folder: Path, expected: object) -> None:
        if b"!" in content:
            fault()

    def mutate(rng: random.Random, content: bytes) -> bytes:
        return content + rng.choice((b"a!b", *(bytes([k]) for k in b"abcdefg")))

    return Target(lambda: {b"{}": None}, mutate, check)


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=FAULTS)
def test_a_reader_that(fault, words):
    target = faulty_target(fault)
    tally = Campaign({"reader": target}, 16, limits=LIMITS, report=lambda _: None).run()["reader"]
    (finding,) = tally.findings.values()
    faulty = [k for k in range(16) if b"!" in make_case(target, 0, k)]
    assert finding.verdict.fault.startswith(words)
    assert finding.number == finding.first == faulty[0]
    assert finding.content == make_case(target, 0, faulty[0])
    assert finding.smallest == b"!"
    assert tally.counts == {"accepted": 16 - len(faulty), finding.verdict.kind: len(faulty)}  # it goes on behind each


def test_a_reader_that_always_dies_is_given_up():
    target = Target(lambda: {b"a": None}, lambda rng, content: content, lambda *_: os.abort())
    lines: list[str] = []
    tally = Campaign({"reader": target}, 1000, limits=LIMITS, report=lines.append).run()["reader"]
    assert tally.counts == {"crash": MOST_LOST}
    assert any("the rest of this target is left out" in line for line in lines)


def test_whole_files_must_be_read_and_others_refused():
    seeds = {b"whole": np.arange(3), b"odd": InputError}
    refusing = Target(lambda: seeds, lambda rng, content: content, lambda *_: raise_error(InputError("no")))
    reading = Target(lambda: seeds, lambda rng, content: content, lambda *_: None)
    assert judge(refusing, [b"whole"], LIMITS).fault == "wrong, refuses a whole file"
    assert judge(reading, [b"odd"], LIMITS).fault == "wrong, reads what must be refused"
    assert not judge(refusing, [b"odd"], LIMITS).is_finding
    assert not judge(reading, [b"whole"], LIMITS).is_finding


def test_damaged_memory_is_told_with_the_cases_that_damaged_it():
    processes: list[int] = []

    def check(content: bytes, folder: Path, expected: object) -> None:
        processes.append(os.getpid())
        if processes.count(os.getpid()) == 5:
            os.abort()

    target = Target(lambda: {b"a": None}, lambda rng, content: content, check)
    tally = Campaign({"reader": target}, 7, limits=LIMITS, report=lambda _: None).run()["reader"]
    (finding,) = tally.findings.values()
    assert finding.command.endswith("--targets reader --seed 0 --only 0-4")


def test_the_command_writes_each_finding_and_exits_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TARGETS, "reader", faulty_target(FAULTS["gives a wrong value"][0]))
    monkeypatch.setattr(sys, "argv", ["run.py", "--targets", "reader", "--cases", "30", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    (smallest,) = tmp_path.rglob("*.smallest")
    assert smallest.read_bytes() == b"!"
    assert "python tests/fuzz/run.py --targets reader --seed 0 --only" in smallest.with_suffix(".txt").read_text()
    assert "30 cases in" in capsys.readouterr().out
