"""Join what shards have done into one result: panoptic.json, or scores; with the bytes that one process would have written.

    $ for i in 1 2 3; do python fusion/solo_fusion.py --shard $i/3 --output outputs/run; done
    $ python scripts/collect.py outputs/run
    $ for i in 1 2 3; do python scripts/evaluate.py --shard $i/3 --output outputs/scores/scores.json; done
    $ python scripts/collect.py outputs/scores

FOLDER is the --output of the shards, of evaluate.py the folder that it is in. FOLDER/parts stays, and can be deleted then.
docs/scale.md shows it for SLURM.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import current_spelling, make_parser
from runtime.files import one_line_errors


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("collect.py", __doc__, has_config=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="--output of the shards, in which parts/ lies")
    return parser


def run(args: Namespace) -> None:
    """Join the parts.

    Raises:
        InputError: if a part or an image is missing, broken, or there twice; or, in the end, if images were left out.
    """
    from prediction.collecting import check_collected, collect_run
    from prediction.comparing import COMPARISON, collect_comparisons
    from prediction.parts import open_parts

    folder = args.folder.expanduser()
    if open_parts(folder)[0].kind == COMPARISON:
        print(f"\nwrote {' and '.join(map(str, collect_comparisons(folder)))}")
        return
    collected = collect_run(folder)
    if "panoptic" in collected.run.kept and collected.num_done:
        print(f"wrote {collected.run.panoptic_json}")
    print(f"{collected.num_done} images of {collected.num_parts} parts")
    if collected.has_films:
        print("the tracks of films are made by the command of the shards, without --shard")
    check_collected(collected)


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
