"""Kill every command that writes at seeded moments, and check that the same command again ends as if nothing had happened.

    $ python tests/kills/run.py --kills 500 --seed 0 --output outputs/kills --workers 2
    $ python tests/kills/run.py --jobs fuse predict --kills 60
    $ python tests/kills/run.py --jobs fuse --seed 0 --numbers [17]     # one kill again, as a finding names it

Signals are SIGINT, as Ctrl-C sends it, SIGTERM and SIGKILL. After each, the results must be byte-equal in the end, nothing may be
left over, and an interrupted command must say in one line on stderr what it has kept. OUTPUT/findings.json gets what was found.
Exit code 1 where that is anything. Modules are imported once and scripts are read at each run: edit nothing meanwhile.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import OUTPUTS, add_switch, make_parser
from runtime.files import one_line_errors, write_json
from tests.kills import commands

if TYPE_CHECKING:
    from tests.kills.harness import Finding, Tally


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("run.py", __doc__, has_config=False)
    parser.add_argument("--kills", type=PositiveInt, default=500, help="that meet a running command, in all")
    parser.add_argument("--seed", type=int, default=0, help="of signals and moments")
    parser.add_argument(
        "--jobs", nargs="+", default=list(commands.JOBS), choices=tuple(commands.JOBS), metavar="JOB", help="default: all"
    )
    help_numbers = "kills to repeat, of each of the jobs, instead of --kills"
    parser.add_argument("--numbers", type=list[int] | None, default=None, metavar="[N,...]", help=help_numbers)
    parser.add_argument("--output", type=Path, default=OUTPUTS / "kills", metavar="DIR", help="folder of everything")
    parser.add_argument("--workers", type=PositiveInt, default=2, help="jobs at once")
    add_switch(
        parser, "--imports", False, "let each job import everything itself, which takes seconds, so that kills meet that too"
    )
    return parser


def run(args: Namespace) -> bool:
    """Everything that the command does; returns whether something was found."""
    from tests.kills.harness import draw_inputs, kill_all
    from tests.kills.zygote import open_zygotes

    output, jobs = args.output.expanduser().resolve(), {name: commands.JOBS[name] for name in args.jobs}
    say = partial(print, flush=True)
    with open_zygotes(args.workers, () if args.imports else commands.MODULES) as zygotes:
        say("importing, and drawing the inputs")
        inputs = draw_inputs(zygotes[0], output / "inputs")
        about = {"kills": args.kills, "seed": args.seed, "numbers": args.numbers}
        tallies = kill_all(jobs, inputs, output, zygotes=zygotes, say=say, **about)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    print_table(tallies)
    for (job, what), several in group(findings).items():
        imports = " --imports" if args.imports else ""
        again = f"python tests/kills/run.py --jobs {job} --seed {args.seed} --numbers [{several[0].number}]{imports}"
        print(f"\n{job}: {what}, {len(several)} times, first {several[0].history}: {several[0].detail}\n  {again}")
    write_json(output / "findings.json", [asdict(finding) for finding in findings])
    print(f"\nwrote {output / 'findings.json'}")
    return bool(findings)


def print_table(tallies: "Mapping[str, Tally]") -> None:
    """One line a job, and one of all."""
    columns = ("SIGINT", "SIGTERM", "SIGKILL")
    rows = [(name, *(t.landed[c] for c in columns), len(t.findings), round(t.seconds)) for name, t in tallies.items()]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    print(f"\n{'job':28}" + "".join(f"{title:>10}" for title in (*columns, "findings", "seconds")))
    for name, *numbers in rows:
        print(f"{name:28}" + "".join(f"{number:10}" for number in numbers))


def group(findings: "Sequence[Finding]") -> "dict[tuple[str, str], list[Finding]]":
    """Findings of one kind and job together."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.job, finding.what), []).append(finding)
    return groups


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        if run(build_parser().parse_args()):
            sys.exit(1)


if __name__ == "__main__":
    main()
