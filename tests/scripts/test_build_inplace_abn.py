"""scripts/build_inplace_abn.py where nothing can be built: one line, no failure."""

import runpy
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_inplace_abn.py"


def test_without_a_compiler_one_line_says_so_and_the_setup_goes_on(monkeypatch, tmp_path, capsys):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    runpy.run_path(str(SCRIPT))["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "could not be built" in lines[1]
    assert "C++ compiler" in lines[1]
