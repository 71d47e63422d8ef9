"""Train and score all systems on the same split with the same budget, and say where they differ.

    $ python scripts/compare.py
    $ python scripts/compare.py --seeds 3 --systems two_stages original
    $ python scripts/compare.py --epochs stage1=12 stage2=4 joint=6 panoptic_fpn=26 crops=4 finetune=6 --output outputs/longer

Without arguments it uses the embedded data set and trains each system for some minutes: the original EfficientPS about as long as
SOLOv2 and the semantic model together, Panoptic FPN and Pan-SECB as long as their own configurations.
Everything that is trained or predicted lies under --output; run the same command again after a kill, and only what is missing is
done. Seconds are CPU time of the training commands, which a busy machine does not change much; set OMP_NUM_THREADS=1 for numbers
that are not those of threads waiting for each other.
"""

import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from runtime.command_line import OUTPUTS, REPOSITORY, add_data_arguments, current_spelling, make_parser, mark_common
from runtime.files import InputError, atomic_path, one_line_errors, read_json, write_json

if TYPE_CHECKING:
    from data.taxonomy import Taxonomy

CONFIGS = REPOSITORY / "configs"
SYSTEMS = ("two_stages", "original", "semantics_alone", "panoptic_fpn", "pan_secb")
"""The functions of benchmarks/systems.py, whose import takes seconds, which --help has not."""
TRAININGS = {
    "stage1": (CONFIGS / "solov2" / "streets_lite0.py", 6),
    "stage2": (CONFIGS / "efficientps" / "streets_lite0.yaml", 2),
    "joint": (CONFIGS / "efficientps" / "streets_lite0_maskrcnn.yaml", 3),
    "panoptic_fpn": (CONFIGS / "panoptic_fpn" / "streets_r18.yaml", 13),
    "crops": (CONFIGS / "pan_secb" / "streets.yaml", 2),
    "finetune": (CONFIGS / "pan_secb" / "streets_finetune.yaml", 3),
}
"""Of each training its configuration and its length in epochs: the joint one is to take as long as both stages."""


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("compare.py", __doc__, has_config=False)
    add_data_arguments(parser)
    parser.add_argument("--split", type=str | None, default=None, help="to score on; default: val or val2017")
    parser.add_argument("--output", default=str(OUTPUTS / "compare"), metavar="DIR", help="default: outputs/compare")
    shown = " ".join(f"{name}={epochs}" for name, (_, epochs) in TRAININGS.items())
    parser.add_argument("--epochs", nargs="+", default=[], metavar="TRAINING=N", help=f"default: {shown}")
    known = " ".join(f"{name}={config.relative_to(REPOSITORY)}" for name, (config, _) in TRAININGS.items())
    parser.add_argument("--configs", nargs="+", default=[], metavar="TRAINING=FILE", help=f"default: {known}")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help=f"default: {' '.join(SYSTEMS)}")
    help_seeds = "train each N times, with seeds 0, 1, ..., and give mean and spread (sample standard deviation)"
    parser.add_argument("--seeds", type=PositiveInt, default=1, metavar="N", help=help_seeds)
    help_more = "flags for one training, such as panoptic_fpn='--trainer.devices 2 --trainer.strategy ddp --data.batch_size 2'"
    parser.add_argument("--more", nargs="+", default=[], metavar="TRAINING=FLAGS", help=help_more)
    mark_common(parser, "--split", "--output", "--epochs", "--systems", "--seeds")
    return parser


def read_choices(flag: str, given: list[str], kind: type) -> dict:
    """TRAINING=VALUE entries by training.

    Raises:
        InputError: if a training is unknown, or a value is none.
    """
    choices = {}
    for entry in given:
        name, _, value = entry.partition("=")
        is_wrong = kind is int and not (value.isdigit() and int(value) > 0)
        if name not in TRAININGS or not value or is_wrong:
            needed = {int: "N, at least 1", Path: "FILE", str: "FLAGS"}[kind]
            raise InputError(f"--{flag} {entry}: needed are {' '.join(TRAININGS)}, each =" + needed)
        # Trainings run in another folder.
        choices[name] = Path(value).resolve() if kind is Path and Path(value).exists() else kind(value)
    return choices


def run(*command: str | Path) -> None:
    """Run a command of this repository, as a user would type it.

    Raises:
        InputError: if it fails.
    """
    shown = " ".join(str(part) for part in command)
    print(f"$ python {shown}", flush=True)
    done = subprocess.run([sys.executable, *(str(part) for part in command)], cwd=REPOSITORY)
    if done.returncode:
        raise InputError(f"`python {shown}` failed; see its message above, and run the same comparison again")


def train(name: str, output: Path, *command: str | Path) -> None:
    """Run a training unless it is done, and add its CPU time to what earlier, interrupted runs of it took.

    Of a run that was killed no time is known: then the record says that it is not exact.

    Raises:
        InputError: if the record is of another command, or it fails.
    """
    record = output / f"{name}.json"
    wanted = [str(part) for part in command]
    known = {"command": wanted, "seconds": 0.0, "is_done": False, "is_exact": True}
    if record.exists():
        known |= read_json(record)
    if known["command"] != wanted:
        raise InputError(f"{record}: was made by {' '.join(known['command'])}; give another --output for another comparison")
    if known["is_done"]:
        return
    write_json(record, known | {"is_exact": False})  # what stays if this process is killed
    start = children_seconds()
    try:
        run(*command)
        known["is_done"] = True
    finally:
        write_json(record, known | {"seconds": known["seconds"] + children_seconds() - start})


def children_seconds() -> float:
    """CPU time of all commands that have been run and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(args: Namespace) -> None:
    """Everything that the command does."""
    epochs = {name: default for name, (_, default) in TRAININGS.items()} | read_choices("epochs", args.epochs, int)
    configs = {name: config for name, (config, _) in TRAININGS.items()} | read_choices("configs", args.configs, Path)
    more = {name: tuple(shlex.split(flags)) for name, flags in read_choices("more", args.more, str).items()}

    from benchmarks.comparison import score_system
    from benchmarks.systems import Configs, all_systems
    from data.drawn.embedded import find_data_set
    from prediction.score import describe_truth

    data_set = find_data_set(args.data_root, args.layout, args.truth_classes)
    root, out = data_set.root.resolve(), Path(args.output).expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    split = data_set.split(args.split)
    is_file = args.truth_classes is not None and Path(args.truth_classes).is_file()
    classes = Path(args.truth_classes).resolve() if is_file else args.truth_classes  # trainings run in another folder
    truth_classes = () if classes is None else ("--truth-classes", classes)
    about = (Configs(**configs, epochs=epochs, more=more), data_set.usual_split(for_training=True), truth_classes)
    # A single comparison keeps the seeds of its configurations, and its results right below the output.
    folders = {None: out} if args.seeds == 1 else {seed: out / f"seed{seed}" for seed in range(args.seeds)}
    of_seeds = []
    for seed, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        systems = all_systems(root, folder, *about, seed, args.systems)
        for system in systems:
            for command in system.preparations:
                run(*command)
            for name, command in system.trainings.items():
                train(name, folder, *command)
        of_seeds.append([score_system(system, split, folder) for system in systems])
    results = [list(of_system) for of_system in zip(*of_seeds, strict=True)]
    note = (
        f"{len(split)} images, {split.name}. Training: CPU seconds of the commands; each system has its last epoch's "
        "weights, averaged ones where its configuration says so. ms: median from "
        "pixels to panoptic ids, one thread. Instances are merged from a score of 0.2 (SOLOv2) and 0.5 (Mask R-CNN) on; AP "
        "counts those above 0.05."
    )
    if args.seeds > 1:
        note += f" Mean and sample standard deviation of {args.seeds} trainings with seeds 0 to {args.seeds - 1}."
    for path in write_comparison(results, note, out, split.taxonomy, len(split), describe_truth(split)):
        print(f"wrote {path}")


def write_comparison(
    results: list[list[dict]], note: str, out: Path, taxonomy: "Taxonomy", num_images: int, truth: dict
) -> list[Path]:
    """Print the tables; write them, all numbers, the report and its figures into `out`, and return what was written.

    Args:
        results: of each system those of benchmarks.comparison.score_system, one a seed; classes in the report are those of the
            first system's first.
        truth: what describes it, for the provenance.
    """
    from benchmarks.comparison import classes_table, gains_of, gains_table, sizes_table, systems_table, to_markdown
    from data.images import write_image
    from evaluation.figures import bar_chart, scatter_chart
    from evaluation.provenance import provenance
    from evaluation.report import write_report
    from evaluation.size_breakdown import SIZES

    tables = [systems_table(results, note), sizes_table(results), classes_table(results, taxonomy)]
    if len(results) > 1:
        tables.insert(1, gains_table(results))
    print("\n\n".join(f"{t.title}\n{to_markdown(t)}\n{t.note}" for t in tables))
    systems = [[{k: v for k, v in seed.items() if k != "counts"} for seed in seeds] for seeds in results]
    command = shlex.join(["python", "scripts/compare.py", *sys.argv[1:]])
    content = {"tables": [vars(table) for table in tables], "systems": systems, "gains": gains_of(results)}
    content["provenance"] = provenance(command, {"truth": truth})
    write_json(out / "compare.json", content)
    with atomic_path(out / "compare.md") as partial:
        partial.write_text("\n\n".join(f"{to_markdown(t)}\n\n{t.note}" for t in tables) + "\n")

    named = {seeds[0]["name"]: seeds for seeds in results}
    kinds = ("All", "Things", "Stuff")
    groups = {name: {g: _mean(s["scores"][g]["pq"] for s in seeds) for g in kinds} for name, seeds in named.items()}
    recalls = {name: {z: _mean(s["sizes"][z]["recall"] for s in seeds) for z in SIZES} for name, seeds in named.items()}
    speeds = {name: (_mean(s["milliseconds"] for s in seeds), groups[name]["All"]) for name, seeds in named.items()}
    figures = {
        "PQ": bar_chart(groups, "PQ (%)"),
        "PQ against time": scatter_chart(speeds, "milliseconds an image, one CPU thread", "PQ (%)"),
        "Things found, by size": bar_chart(recalls, "found (%)"),
    }
    written = [out / name for name in ("compare.md", "compare.json", "report.html")]
    for name, figure in figures.items():
        written.append(out / f"{name.lower().replace(',', '').replace(' ', '_')}.png")
        write_image(written[-1], figure)
    write_report(
        out / "report.html",
        "Comparison of systems",
        results[0][0]["scores"],
        taxonomy,
        tables=tables,
        figures=figures,
        facts={"command": f"python scripts/compare.py {' '.join(sys.argv[1:])}", "images": num_images},
        introduction=f"Classes and groups below are those of {next(iter(named))}" + (", seed 0." if len(results[0]) > 1 else "."),
    )
    return written


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        compare(build_parser().parse_args(current_spelling(sys.argv[1:])))


if __name__ == "__main__":
    main()
