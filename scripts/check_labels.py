"""Say what is broken and what is suspicious in panoptic labels, before a score or a training stumbles over it.

    $ python scripts/check_labels.py
    $ python scripts/check_labels.py --data-root /path/to/mydata --split train
    $ python scripts/check_labels.py --data-root /path/to/mydata --prediction outputs/mydata_val
    $ python scripts/check_labels.py --truth a.json --truth-folder pngs/ --images images/

Where the other commands stop at the first fault, this one lists all. A split is checked with its pictures and against the
training split (the training split against the one for validation): classes and pictures of one or of both. Prints how often
each kind of problem was found, and single findings; problems.json has up to 1000 of each kind, and counts all. Exit code 1 where
something is broken. Without --data-root: the embedded data set. What each kind means: docs/label_checks.md.
"""

import shlex
import sys
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from runtime.command_line import OUTPUTS, add_switch, current_spelling, make_parser, relative_to_repository
from runtime.files import InputError, check_outputs, one_line_errors, shorten, write_json
from runtime.progress import track
from runtime.threads import default_workers

if TYPE_CHECKING:
    from data.label_checks.check import LabelCheck
    from data.label_checks.findings import Finding, FindingLog

OUTPUT = OUTPUTS / "labels"
PROBLEMS = "problems.json"
MOST_ADVICE = 3
"""Kinds of problems that the last lines name."""
LONGEST_DEFINITION = 90
"""Characters of one in the table; problems.json and docs/label_checks.md have the whole."""


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("check_labels.py", __doc__, has_config=False)
    labels = parser.add_argument_group("labels: a data set, or a panoptic JSON alone")
    help_root = "a data set's folder; default: $CITYSCAPES_DATASET, $CITYSCAPES_DIR or $COCO_DATASET, else an embedded one"
    labels.add_argument("--data-root", type=str | None, metavar="DIR", help=help_root)
    labels.add_argument(
        "--layout", default="auto", help="of the data set: cityscapes, coco, or auto, which recognises the folder"
    )
    labels.add_argument("--split", type=str | None, help="default: the one for validation")
    labels.add_argument("--truth", type=Path | None, metavar="A.json", help="COCO panoptic JSON, instead of a data set")
    labels.add_argument("--truth-folder", type=Path | None, metavar="DIR", help="its PNGs; default: A.json without .json")
    help_images = (
        "the pictures of --truth: a folder or a quoted glob; paired by image id or file name; default: none are looked at"
    )
    labels.add_argument("--images", type=str | None, metavar="PATH", help=help_images)
    help_prediction = "a run folder or COCO panoptic JSON of the same images: is checked, too, and what it contradicts is listed"
    labels.add_argument("--prediction", type=Path | None, metavar="DIR|B.json", help=help_prediction)
    result = parser.add_argument_group("result")
    help_output = f"folder of problems.json; default: {relative_to_repository(OUTPUT)}"
    result.add_argument("--output", type=Path | None, metavar="DIR", help=help_output)
    result.add_argument("--show", type=NonNegativeInt, default=20, metavar="N", help="single findings that are printed")
    help_report = "a folder to open by double click: the images with findings, and where in them"
    result.add_argument("--report", type=Path | None, metavar="DIR", help=help_report)
    help_pictures = "decode all pictures and look for those that are there twice; without, only their sizes are read"
    add_switch(result, "--pictures", True, help_pictures)
    help_workers = "images that are checked at once; never change the result"
    result.add_argument("--workers", type=PositiveInt, default=default_workers(), help=help_workers)
    return parser


def check(args: Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises:
        InputError: if there are such.
    """
    if args.truth is None and (args.truth_folder is not None or args.images is not None):
        raise InputError("--truth-folder and --images belong to --truth; a data set has its own, so leave them out")
    if args.report is not None:
        from evaluation.viewer import check_viewer_folder

        read = {"--truth": args.truth, "--truth-folder": args.truth_folder, "--prediction": args.prediction}
        check_outputs({"--report": args.report, "--output": (args.output or OUTPUT) / PROBLEMS}, read, "--report")
        check_viewer_folder(args.report)
    if args.truth is not None and (args.data_root is not None or args.split is not None):
        raise InputError("--truth is a JSON alone, and --data-root and --split name one of a data set; leave one of both out")


def open_check(args: Namespace) -> "LabelCheck":
    """The check that the arguments name.

    Raises:
        InputError: if nothing can be checked.
    """
    from data.drawn.embedded import find_data_set
    from data.label_checks.check import check_files, check_split
    from evaluation.label_disagreements import LabelDisagreements

    if args.prediction is not None and not args.prediction.exists():
        raise InputError(f"{args.prediction}: no such file or folder; --prediction names a run folder or a panoptic JSON")
    options = {"prediction": args.prediction, "judge": LabelDisagreements() if args.prediction else None}
    options |= {"compare_pictures": args.pictures, "workers": args.workers, "track": track}
    if args.truth is not None:
        return check_files(args.truth, args.truth_folder, args.images, **options)
    return check_split(find_data_set(args.data_root, args.layout), args.split, **options)


def select(log: "FindingLog", most: int) -> "list[Finding]":
    """The findings to print: of the broken kinds and then of the others, the heaviest of each kind in turns."""
    from data.label_checks.kinds import KINDS, LEVELS

    found: list[Finding] = []
    for level in LEVELS:
        of_kinds = [log.of(kind) for kind in log.kinds() if KINDS[kind].level == level]
        found += _in_turns(of_kinds)
    chosen = {id(finding) for finding in found[:most]}
    return [finding for kind in log.kinds() for finding in log.of(kind) if id(finding) in chosen]


def _in_turns(lists: "Iterable[list[Finding]]") -> "Iterator[Finding]":
    for row in zip_longest(*lists):
        yield from (finding for finding in row if finding is not None)


def report(log: "FindingLog", most: int) -> list[str]:
    """The lines of the result: counts by kind, single findings, what to do first."""
    from data.label_checks.kinds import BROKEN, KINDS

    if not log.kinds():
        return ["", "Nothing is broken, and nothing looks suspicious."]
    lines = ["", f"{'level':10s} {'kind':22s} {'found':>7s} {'images':>7s}  what"]
    for kind in log.kinds():
        images = f"{log.images[kind]:7d}" if kind in log.images else f"{'-':>7s}"
        what = shorten(KINDS[kind].definition, LONGEST_DEFINITION)
        lines.append(f"{KINDS[kind].level:10s} {kind:22s} {log.counts[kind]:7d} {images}  {what}")
    shown, total = select(log, most), sum(log.counts.values())
    if shown:
        left_out = f"; the first {len(shown)} of {total}, some of each kind" if len(shown) < total else ""
        lines += ["", f"Findings{left_out}:"]
        lines += [f"  {finding.kind:22s} {finding.in_words()}" for finding in shown]
    broken = [kind for kind in log.kinds() if KINDS[kind].level == BROKEN]
    lines += ["", "What to do first:"]
    for kind in (broken or log.kinds())[:MOST_ADVICE]:
        lines.append(f"  {kind}: {KINDS[kind].remedy}. If not: {KINDS[kind].effect}")
    return lines


def run(args: Namespace) -> bool:
    """Check, print, write; return whether something is broken."""
    from data.label_checks.findings import FindingLog
    from evaluation.label_report import write_label_report

    check(args)
    work, log = open_check(args), FindingLog()
    for _, findings in work:
        log.add(findings)
    print(f"{work.name}: {work.num_images} images, {work.num_segments} segments that could be read")
    print("\n".join(report(log, args.show)))
    path = (args.output or OUTPUT).expanduser() / PROBLEMS
    sums = {"images": work.num_images, "segments": work.num_segments, "broken": log.num_broken}
    write_json(path, {"format": 1, "labels": work.name, **sums, "problems": log.to_json()})
    written = [path]
    if args.report is not None:
        write_label_report(args.report, work, log, facts_of(args), track)
        written.append(args.report / "index.html")
    print(f"\nwrote {' and '.join(map(str, written))}")
    return log.num_broken > 0


def facts_of(args: Namespace) -> dict[str, object]:
    """What stands above the images of the report."""
    command = shlex.join(["python", "scripts/check_labels.py", *sys.argv[1:]])
    return {"Prediction": args.prediction, "Command": command, "Date": date.today().isoformat()}


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        is_broken = run(build_parser().parse_args(current_spelling(sys.argv[1:])))
        sys.exit(int(is_broken))


if __name__ == "__main__":
    main()
