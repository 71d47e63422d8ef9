"""Killed commands end as if nobody had disturbed them, and the harness finds those that do not."""

import pytest

from tests.kills.commands import JOBS, MODULES, Job
from tests.kills.harness import draw_inputs, kill_all
from tests.kills.zygote import open_zygotes

NUM_KILLS = 24


@pytest.mark.everything  # 80 s; each loop has a kill of its own in every run
def test_no_command_suffers_from_being_killed(tmp_path):
    with open_zygotes(2, MODULES) as zygotes:
        inputs = draw_inputs(zygotes[0], tmp_path / "inputs")
        tallies = kill_all(JOBS, inputs, tmp_path, kills=NUM_KILLS, seed=0, zygotes=zygotes)
    assert [finding for tally in tallies.values() for finding in tally.findings] == []
    assert sum(tally.landed.total() for tally in tallies.values()) >= NUM_KILLS


WHOLE = "time.sleep(0.2); partial.write_text('ab'); partial.replace(result)"
HALVES = "file = result.open('w', 1); file.write('a\\n'); time.sleep(0.2); file.write('b\\n')"
NOTHING = "interrupted: nothing was kept"
SCRIPTS = {
    "a careful one": (WHOLE, NOTHING, set()),
    "one that writes in place": (HALVES, "interrupted: kept in {output}; run it again to go on", {"results differ"}),
    "one that promises too much": (
        WHOLE,
        "interrupted: run it again to go on",
        {"the line promises to go on, but nothing was kept"},
    ),
    "one that says nothing": (WHOLE, "", {"not one line on stderr"}),
    "one that forgets a file": ("partial.touch(); time.sleep(0.2); result.touch()", NOTHING, {"a partial file is left"}),
}
"""Name -> how it writes, what it says when interrupted, what is to be found."""


@pytest.mark.parametrize(("write", "line", "wanted"), SCRIPTS.values(), ids=SCRIPTS)
def test_the_harness_finds_what_a_command_does_wrong(write, line, wanted, tmp_path):
    script = tmp_path / "command.py"
    script.write_text(f"""
import sys, time
from pathlib import Path
result, partial = (Path(sys.argv[1]) / name for name in ("result", ".partial-result"))
try:
    if not result.exists():
        {write}
except KeyboardInterrupt:
    print({line!r}.format(output=sys.argv[1]), end="", file=sys.stderr)
    sys.exit(130)
""")
    job = Job(str(script), "{output}", ("*",))
    with open_zygotes(1, ()) as zygotes:
        tallies = kill_all({"command": job}, tmp_path, tmp_path, kills=8, seed=0, zygotes=zygotes)
    assert {finding.what for finding in tallies["command"].findings} == wanted
    assert tallies["command"].landed.total() >= 8
