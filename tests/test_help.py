"""`--help` of every command is there at once: nothing that it needs imports torch, which takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("scripts", "solov2", "efficientps", "fusion", "panoptic_fpn", "pan_secb", "tests/fuzz")
COMMANDS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in FOLDERS
    for path in (REPOSITORY / folder).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise RuntimeError("torch is imported")

sys.meta_path.insert(0, NoTorch())
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_torch(command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)  # Python itself imports it first
    words = [sys.executable, REPOSITORY / command, "--help"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run(words, capture_output=True, text=True, cwd="/", env=environment, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")
    assert result.stderr == ""


def test_importing_torch_fails_where_the_commands_are_tested(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, text=True, env=environment)
    assert "torch is imported" in result.stderr


def test_all_commands_are_found():
    assert {"solov2/train.py", "efficientps/train_net.py", "fusion/solo_fusion.py", "scripts/predict.py"} <= set(COMMANDS)
    assert len(COMMANDS) >= 20
