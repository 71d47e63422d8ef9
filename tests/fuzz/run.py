"""Damage files by the thousand and read them: each result is right, or the file is refused in one line. All else is a finding.

    $ python tests/fuzz/run.py --cases 100000
    $ python tests/fuzz/run.py --cases 20000000 --workers 2         # for a night: about five hours on two cores
    $ python tests/fuzz/run.py --targets png --seed 3 --only 1234   # show one case again
    $ python tests/fuzz/run.py --targets png --file CASE            # read one file

Cases are numbered: the same seed and number give the same bytes. They run in processes of their own, so that a crash, a hang or
a full memory is a finding, too. The first case of each finding is written to --output, whole and made as small as it goes.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import time
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from runtime.command_line import OUTPUTS, make_parser
from runtime.files import InputError, atomic_path, one_line_errors

if TYPE_CHECKING:
    from tests.fuzz.campaign import Finding, Tally
    from tests.fuzz.targets import Target


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("run.py", __doc__, has_config=False)
    parser.add_argument("--cases", type=PositiveInt, default=20000, metavar="N", help="of all targets together")
    parser.add_argument("--targets", nargs="+", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="another seed gives other cases")
    parser.add_argument("--workers", type=PositiveInt, default=1, metavar="N", help="processes at once")
    parser.add_argument("--output", type=Path, default=OUTPUTS / "fuzz", metavar="DIR", help="folder of findings")
    parser.add_argument("--only", type=str | None, default=None, metavar="K", help="case K alone, or K-L one after the other")
    parser.add_argument("--file", type=Path | None, default=None, metavar="FILE", help="read this file instead of cases")
    return parser


def fuzz(args: Namespace) -> bool:
    """Everything that the command does; whether there is a finding."""
    from tests.fuzz.campaign import Campaign
    from tests.fuzz.targets import TARGETS

    strangers = [name for name in args.targets if name not in TARGETS]
    if strangers:
        raise InputError(f"--targets {strangers[0]} is unknown; give some of {', '.join(TARGETS)}")
    targets = {name: TARGETS[name] for name in args.targets or TARGETS}
    if args.only or args.file:
        return show(args, targets)
    output = args.output.expanduser()
    begin = time.monotonic()
    tallies = Campaign(
        targets,
        -(-args.cases // len(targets)),
        seed=args.seed,
        workers=args.workers,
        report=lambda line: print(line, flush=True),
        on_finding=lambda finding: write_finding(output, finding),
    ).run()
    print_table(tallies)
    count = sum(len(tally.findings) for tally in tallies.values())
    done = sum(tally.counts.total() for tally in tallies.values())
    print(f"{done} cases in {time.monotonic() - begin:.0f} s, findings: {count}" + (f", written to {output}" if count else ""))
    return count > 0


def show(args: Namespace, targets: "dict[str, Target]") -> bool:
    """Judge one case, or a file, and print what becomes of it; whether that is a finding."""
    from tests.fuzz.campaign import judge
    from tests.fuzz.targets import make_case

    if len(targets) != 1:
        raise InputError("--only and --file need one target; give --targets NAME")
    ((name, target),) = targets.items()
    if args.file:
        contents = [args.file.expanduser().read_bytes()]
    else:
        first, _, last = args.only.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise InputError(f"--only {args.only}: K or K-L is needed, such as 17")
        contents = [make_case(target, args.seed, k) for k in range(int(first), int(last or first) + 1)]
    verdict = judge(target, contents)
    print(f"{name}, {len(contents[-1])} bytes: {verdict.fault}\n{verdict.detail}".strip(" \n,"))
    return verdict.is_finding


def write_finding(output: Path, finding: "Finding") -> None:
    """The case, the smallest one of its kind, and what was seen, in files of one name."""
    stem = output / finding.target / f"seed{finding.seed}-{finding.number}"
    about = f"{finding.verdict.fault}\n{finding.command}\n\n{finding.verdict.detail}\n".encode("utf-8", "replace")
    for suffix, content in ((".case", finding.content), (".smallest", finding.smallest), (".txt", about)):
        with atomic_path(stem.with_name(stem.name + suffix)) as partial:
            partial.write_bytes(content)


def print_table(tallies: "dict[str, Tally]") -> None:
    """What became of the cases, a target a line."""
    from tests.fuzz.campaign import KINDS

    print(f"{'target':<16}" + "".join(f"{kind:>10}" for kind in (*KINDS, "findings")))
    for name, tally in tallies.items():
        numbers = [*(tally.counts[kind] for kind in KINDS), len(tally.findings)]
        print(f"{name:<16}" + "".join(f"{number:>10}" for number in numbers))


def main() -> None:
    """The command; see above."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with one_line_errors():
        is_found = fuzz(build_parser().parse_args(sys.argv[1:]))
    sys.exit(1 if is_found else 0)


if __name__ == "__main__":
    main()
