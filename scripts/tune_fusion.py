"""Find the settings of a fusion rule with the best PQ, on kept predictions of a split, and write them for --config.

    $ python scripts/tune_fusion.py --instances dumps/val --semantics outputs/run
    $ python scripts/tune_fusion.py --instances predictions.json --semantics class_maps/ --rule heuristic
    $ python fusion/solo_fusion.py --config outputs/tune/logit.yaml --instances dumps/val --semantics outputs/run

Half of the images, chosen by a hash of their ids, are tuned on, and the others say what it is worth; --all tunes on every image,
whose score is then no report. No network runs where both halves are files: keep them first (solov2/eval.py, and solo_fusion.py
--keep semantic).
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import OpenUnitInterval, PositiveInt

from fusion.settings import RULES
from prediction.arguments import (
    add_half_arguments,
    add_input_arguments,
    add_model_arguments,
    add_rule_arguments,
    halves_of,
    in_tiles,
    rule_of,
    split_of,
)
from runtime.command_line import OUTPUTS, current_spelling, make_parser, mark_common, relative_to_repository
from runtime.files import InputError, atomic_path, one_line_errors

if TYPE_CHECKING:
    from prediction.tuning import Trial, Tuning

DUMPS = OUTPUTS / "solov2" / "streets_lite0" / "dumps" / "val"
CHECKPOINT = OUTPUTS / "efficientps" / "streets_lite0" / "best.ckpt"
OUTPUT = OUTPUTS / "tune"


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("tune_fusion.py", __doc__)
    add_input_arguments(parser)
    add_model_arguments(parser, CHECKPOINT, "what `model` means below, of any training here")
    add_half_arguments(parser, relative_to_repository(DUMPS), "model")
    add_rule_arguments(parser)
    group = parser.add_argument_group("tuning")
    help_share = "of the images, which are not tuned on, but reported on"
    group.add_argument("--held-out", type=OpenUnitInterval, default=0.5, metavar="SHARE", help=help_share)
    help_all = "tune on all images: then their score says nothing of other ones, and the output says so"
    group.add_argument("--all", action="store_true", help=help_all)
    help_output = f"YAML for --config; default: {relative_to_repository(OUTPUT)}/RULE.yaml"
    group.add_argument("--output", type=Path | None, default=None, metavar="FILE.yaml", help=help_output)
    group.add_argument("--workers", type=PositiveInt | None, default=None, help="threads; default: one a core, at most 8")
    mark_common(group, "--held-out", "--all", "--output", "--workers")
    return parser


def print_curves(tuning: "Tuning") -> None:
    """A line a value: the best PQ that any trial has with it."""
    for trials in tuning.stages:
        varied = [name for name in trials[0].settings if len({trial.settings[name] for trial in trials}) > 1]
        for name in varied:
            print(f"\n{name:>16s}   PQ, tuned   PQ, held out")
            for value in sorted({trial.settings[name] for trial in trials}):
                best = max((trial for trial in trials if trial.settings[name] == value), key=lambda trial: trial.tuned)
                mark = "  <-" if value == tuning.best.settings[name] else ""
                print(f"{value:16g}   {_percent(best.tuned):>9s}   {_percent(best.held_out):>12s}{mark}")


def describe(tuning: "Tuning") -> list[str]:
    """What was gained, and on which images."""

    def change(name: str) -> str:
        before, after = (getattr(trial, name) for trial in (tuning.start, tuning.best))
        return f"PQ {_percent(before)} -> {_percent(after)}"

    if tuning.num_held_out == 0:
        reason = "tuned and scored on the same images, so this is no score to report"
        return [f"{change('tuned')} on {tuning.num_tuned} images: {reason}"]
    return [
        f"{change('tuned')} on the {tuning.num_tuned} images that were tuned on",
        f"{change('held_out')} on the {tuning.num_held_out} others, which is what to report",
    ]


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f}"


def write_settings(path: Path, rule: str, settings: object, best: "Trial", instances_confidence: float) -> None:
    """The best settings as a YAML of the commands' arguments, with all others that the score depends on.

    Args:
        settings: of the rule, as they were at first.
    """
    found = asdict(settings) | {name: float(value) for name, value in best.settings.items()}
    content = {"rule": rule, RULES[rule][0]: found, "instances_confidence": instances_confidence}
    with atomic_path(path) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False))


def run(args: Namespace) -> None:
    """Everything that the command does."""
    rule = rule_of(args)
    if rule == "argmax":
        raise InputError("--rule argmax has no limit of scores or overlaps to tune; give logit or heuristic")
    if args.output is not None and args.output.suffix not in (".yaml", ".yml"):
        raise InputError(f"--output {args.output}, but a name that ends in .yaml is needed")
    from prediction.fused import RULES as MAKERS
    from prediction.tuning import tune
    from runtime.threads import default_workers

    split = split_of(args)
    fused = in_tiles(args, halves_of(args, split, str(DUMPS), "model", Path(args.checkpoint).expanduser()))
    if fused.instances is None:
        raise InputError("--instances none leaves nothing to tune; give instances")
    tuning = tune(
        split,
        fused.instances,
        fused.semantics,
        MAKERS[rule],
        fused.rule.settings,
        held_out_share=0.0 if args.all else args.held_out,
        workers=args.workers or default_workers(),
    )
    print_curves(tuning)
    named = ", ".join(f"{name} {value:g}" for name, value in tuning.best.settings.items())
    print(f"\nbest: {named}")
    print("\n".join(describe(tuning)))
    output = (args.output or OUTPUT / f"{rule}.yaml").expanduser()
    write_settings(output, rule, fused.rule.settings, tuning.best, args.instances_confidence)
    print(f"wrote {output}; use it with --config {output}")


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        run(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
