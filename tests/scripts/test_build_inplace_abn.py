"""scripts/build_inplace_abn.py where nothing can be built: it fails, and one line says what is missing."""

import runpy
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_inplace_abn.py"


def test_without_a_compiler_it_fails_in_one_line_that_names_it(monkeypatch, tmp_path, fails_in_one_line):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    line = fails_in_one_line(runpy.run_path(str(SCRIPT))["main"])
    assert "could not be built" in line
    assert "C++ compiler" in line
