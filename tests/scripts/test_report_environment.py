"""The report of a machine: what it says is so, it names no place, and it needs no torch."""

import os
import platform
import re
import subprocess
import sys

import pytest

from runtime.command_line import REPOSITORY
from scripts import report_environment
from scripts.report_environment import (
    VARIABLES,
    Requirements,
    control_group_limit,
    describe_packages,
    describe_variables,
    read_pins,
    read_project,
    read_requirements,
    without_paths,
)

WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv[0] = "scripts/report_environment.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
HOME = "/home/somebody"
SECRET = f"{HOME}/secret-project"


@pytest.fixture(scope="module")
def report() -> str:
    """What the command prints where torch is not installed and variables name folders."""
    environment = os.environ | {"HOME": HOME, "CITYSCAPES_DATASET": SECRET, "OMP_NUM_THREADS": "3"}
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_report_says_what_runs_without_torch(report):
    (project_version,) = re.findall(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"\nproject: {project_version}, " in report
    assert f"\npython: {platform.python_version()} " in report
    assert "\ntorch: not installed\n" in report
    assert "CPUExecutionProvider" in report


def test_the_report_names_no_place(report):
    assert "\nCITYSCAPES_DATASET: set\n" in report
    assert "\nOMP_NUM_THREADS: 3\n" in report
    for private in ("secret", "somebody", str(REPOSITORY), sys.prefix):
        assert private not in report


def test_only_numbers_and_locales_are_shown_of_variables():
    given = {
        "OMP_NUM_THREADS": "2,1",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "secret",
        "COCO_DATASET": "coco",
        "RANK": "",
        "HOME": SECRET,
    }
    expected = {"OMP_NUM_THREADS": "2,1", "LANG": "de_DE.UTF-8", "LC_ALL": "set", "COCO_DATASET": "set", "RANK": "set"}
    assert describe_variables(given) == expected


def test_every_variable_that_the_code_reads_is_reported():
    forms = (
        r"""environ(?:\.get\(|\.setdefault\(|\[)\s*"([A-Z_]+)\"""",
        r'"((?:CITYSCAPES|COCO)_D[A-Z]+)"',
        r'"((?:SLURM_ARRAY_TASK|[A-Z]+_NUM)_[A-Z]+)"',
    )
    folders = [path.parent for path in REPOSITORY.glob("*/__init__.py")] + [REPOSITORY / "scripts"]
    code = [path.read_text() for folder in folders if folder.name != "tests" for path in folder.rglob("*.py")]
    read = {name for text in code for form in forms for name in re.findall(form, text)}
    assert {"CITYSCAPES_DIR", "COCO_DATASET", "PL_GLOBAL_SEED", "OMP_NUM_THREADS", "SLURM_ARRAY_TASK_ID"} <= read
    assert read <= set(VARIABLES)


def test_a_pin_holds_for_the_pythons_that_its_line_names():
    text = '# pins\nNum_Py==2.2.6; python_version == "3.10"\nnum-py==2.5.5; python_version >= "3.11"\ntorch==2.11.0+cpu\n'
    assert read_pins(text, (3, 10)) == {"num-py": "2.2.6", "torch": "2.11.0+cpu"}
    assert read_pins(text, (3, 9)) == {"torch": "2.11.0+cpu"}
    assert read_pins(text, (3, 13))["num-py"] == "2.5.5"  # 3.13 > 3.11, though not as text or decimals


def test_an_extra_holds_what_the_extras_that_it_names_hold():
    own = report_environment.PROJECT
    lines = [
        "numpy>=2",
        f'{own}[hf,run.time]; extra == "test"',
        f"{own}[run.time]; extra == 'hf'",
        'transformers>=5; extra == "hf"',
        'onnxruntime; extra == "run.time"',
        'pytest>=8 ; extra == "test"',
    ]
    base, extras = read_requirements(lines)
    assert base == {"numpy"}
    assert extras["hf"] == {"transformers", "onnxruntime"}
    assert extras["test"] == {"transformers", "onnxruntime", "pytest"}


def test_packages_that_differ_from_the_pins_or_are_missing_are_told_apart():
    needed = Requirements({"numpy", "numba", "rich"}, {"train": {"torch"}, "runtime": {"onnxruntime"}, "lint": set()})
    said = describe_packages(needed, {"numpy": "2.4", "rich": "15", "torch": "2.12"}, {"numpy": "2.4", "torch": "2.11"})
    assert said == {
        "as pinned": "numpy 2.4",
        "not as pinned": "rich 15 (pinned: not), torch 2.12 (pinned: 2.11)",
        "missing": "numba",
        "complete extras": "lint, train",
        "extra runtime": "incomplete, without onnxruntime",
    }


def test_a_project_without_pyproject_is_described_as_installed(tmp_path):
    from_folder, installed = read_project(REPOSITORY / "pyproject.toml"), read_project(tmp_path / "pyproject.toml")
    assert "numpy" in read_requirements(from_folder[1]).base & read_requirements(installed[1]).base


def test_the_smallest_limit_of_the_groups_around_a_process_counts(tmp_path):
    inner = tmp_path / "outer/inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert control_group_limit("cpu.max", tmp_path, "outer/inner") is None
    (tmp_path / "outer/cpu.max").write_text("150000 100000\n")
    assert control_group_limit("cpu.max", tmp_path, "outer/inner") == 1.5
    (inner / "memory.max").write_text("4096\n")
    (tmp_path / "memory.max").write_text("8192\n")
    assert control_group_limit("memory.max", tmp_path, "outer/inner") == 4096


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/home/a/.venv/libc.so.6: cannot open", ".../libc.so.6: cannot open"),
        ("no 'C:\\Users\\a\\x.dll' there", "no '...\\x.dll' there".replace("\\", "/")),
        ("and/or 1/2 stay", "and/or 1/2 stay"),
    ],
)
def test_an_error_is_told_without_its_folders(message, expected):
    assert without_paths(message) == expected


def test_output_holds_what_is_printed(tmp_path, monkeypatch, capsys):
    output = tmp_path / "new/environment.txt"
    monkeypatch.setattr(sys, "argv", ["report_environment.py", "--output", str(output)])
    report_environment.main()
    assert capsys.readouterr().out == f"{output.read_text()}\nwrote {output}\n"


def test_a_folder_is_no_output(tmp_path, fails_in_one_line):
    line = fails_in_one_line(report_environment.main, "--output", tmp_path)
    assert line.endswith("is a folder, but the name of a file is needed")
