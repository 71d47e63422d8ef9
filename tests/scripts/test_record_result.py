"""scripts/record_result.py: a number that is quoted can be traced to its command."""

import importlib.util
import json
import os
import sys

import pytest

from runtime.command_line import REPOSITORY
from runtime.files import read_json, write_json


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The script as a module that writes to a folder of the test."""
    spec = importlib.util.spec_from_file_location("record_result", REPOSITORY / "scripts" / "record_result.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "current_commit", lambda: "abc1234")
    return module


def record(command, monkeypatch, *arguments) -> dict:
    monkeypatch.setattr(sys, "argv", ["record_result.py", *map(str, arguments)])
    command.main()
    return read_json(command.FOLDER / "demo.json")


def test_a_run_is_recorded_with_its_command_and_without_its_images(command, tmp_path, monkeypatch):
    run = tmp_path / "run"
    write_json(run / "run.json", {"command": "python fusion/solo_fusion.py --data-root /home/me/photos --output outputs/x"})
    write_json(run / "scores.json", {"All": {"pq": 0.5}, "per_image": [1, 2, 3]})
    found = record(command, monkeypatch, run, "--name", "demo", "--commit", "abc1234")
    assert found["result"] == {"All": {"pq": 0.5}}
    assert found["about"]["command"] == "python fusion/solo_fusion.py --data-root .../photos --output outputs/x"
    assert found["about"]["commit"] == "abc1234"
    assert "seconds" not in found["about"]


def test_a_command_is_run_timed_and_its_result_recorded(command, tmp_path, monkeypatch):
    result = tmp_path / "made.json"
    code = f"import pathlib; sum(range(10**7)); pathlib.Path({str(result)!r}).write_text('{json.dumps({'ms': 3})}')"
    found = record(command, monkeypatch, result, "--name", "demo", "--", sys.executable, "-c", code)
    assert found["result"] == {"ms": 3}
    assert {"seconds", "cpu_seconds"} <= set(found["about"])


def test_without_a_result_the_printed_lines_are_recorded(command, monkeypatch, capfd):
    code = "print('fusion: 3.5 ms'); print(); print('of /home/me/photos')"
    found = record(command, monkeypatch, "--name", "demo", "--", sys.executable, "-c", code)
    assert found["result"] == {"printed": ["fusion: 3.5 ms", "of .../photos"]}
    assert "fusion: 3.5 ms" in capfd.readouterr().out


def test_what_cannot_be_recorded_is_refused_in_one_line(command, tmp_path, fails_in_one_line):
    write_json(tmp_path / "list.json", [1])
    assert "no such file" in fails_in_one_line(command.main, tmp_path / "none.json", "--name", "demo", "--commit", "abc1234")
    assert "--commit HASH is needed" in fails_in_one_line(command.main, tmp_path / "list.json", "--name", "demo")
    assert "both are needed" in fails_in_one_line(command.main, "--name", "demo")
    assert "letters, digits and _" in fails_in_one_line(command.main, tmp_path / "list.json", "--name", "a/b")
    failing = ("--", sys.executable, "-c", "raise SystemExit(3)")
    assert "ended with exit code 3" in fails_in_one_line(command.main, tmp_path / "list.json", "--name", "demo", *failing)
    idle = ("--", sys.executable, "-c", "")
    write_json(tmp_path / "old.json", {"ms": 3})
    os.utime(tmp_path / "old.json", (0, 0))
    assert "the command did not write it" in fails_in_one_line(command.main, tmp_path / "old.json", "--name", "demo", *idle)
    assert not (tmp_path / "results").exists()
