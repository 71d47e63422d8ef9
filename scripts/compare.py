"""Train and score all systems on the same split with the same budget, and say where they differ.

    $ python scripts/compare.py
    $ python scripts/compare.py --epochs stage1=26 stage2=20 joint=26 panoptic_fpn=26 crops=4 finetune=6 --output outputs/longer

Without arguments it uses the embedded data set and trains each system for 15 to 27 minutes of CPU time: the original EfficientPS
as long as SOLOv2 and the semantic model together, Panoptic FPN and Pan-SECB as long as their own configurations.
Everything that is trained or predicted lies under --output; run the same command again after a kill, and only what is missing is
done. Seconds are CPU time of the training commands, which a busy machine does not change much; set OMP_NUM_THREADS=1 for numbers
that are not those of threads waiting for each other.
"""

import argparse
import resource
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.comparison import score, sizes_table, systems_table, to_markdown
from benchmarks.systems import Configs, all_systems
from data.images import write_image
from data.layouts.cityscapes import data_root, ensure_instances_json, find_frames
from data.taxonomy import CITYSCAPES
from evaluation.figures import bar_chart, scatter_chart
from evaluation.report import write_report
from evaluation.size_breakdown import SIZES
from runtime.files import InputError, atomic_path, one_line_errors, read_json, write_json

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"
TRAININGS = {
    "stage1": (CONFIGS / "solov2" / "streets_r18.py", 13),
    "stage2": (CONFIGS / "efficientps" / "streets_b0.yaml", 10),
    "joint": (CONFIGS / "efficientps" / "streets_b0_maskrcnn.yaml", 13),
    "panoptic_fpn": (CONFIGS / "panoptic_fpn" / "streets_r18.yaml", 13),
    "crops": (CONFIGS / "pan_secb" / "streets.yaml", 2),
    "finetune": (CONFIGS / "pan_secb" / "streets_finetune.yaml", 3),
}
"""Of each training its configuration and its length in epochs: the joint one takes as long as both stages."""


def parse_arguments() -> argparse.Namespace:
    """The command line; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="Cityscapes folder; else $CITYSCAPES_DATASET or $CITYSCAPES_DIR, else Streets")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "outputs" / "compare", help="default: %(default)s")
    shown = " ".join(f"{name}={epochs}" for name, (_, epochs) in TRAININGS.items())
    parser.add_argument("--epochs", nargs="+", default=[], metavar="TRAINING=N", help=f"default: {shown}")
    known = " ".join(f"{name}={config.relative_to(REPOSITORY)}" for name, (config, _) in TRAININGS.items())
    parser.add_argument("--configs", nargs="+", default=[], metavar="TRAINING=FILE", help=f"default: {known}")
    help_more = "flags for one training, such as panoptic_fpn='--trainer.devices 2 --trainer.strategy ddp --data.batch_size 2'"
    parser.add_argument("--more", nargs="+", default=[], metavar="TRAINING=FLAGS", help=help_more)
    arguments = parser.parse_args()
    more = [entry.partition("=") for entry in arguments.more]
    if strangers := [name for name, _, _ in more if name not in TRAININGS]:
        parser.error(f"--more {strangers[0]}: needed are {' '.join(TRAININGS)}, each =FLAGS")
    arguments.more = {name: tuple(shlex.split(flags)) for name, _, flags in more}
    for flag in ("epochs", "configs"):
        given = [entry.partition("=") for entry in getattr(arguments, flag)]
        for name, _, value in given:
            if name not in TRAININGS or not value or (flag == "epochs" and (not value.isdigit() or int(value) < 1)):
                needed = "at least 1" if flag == "epochs" else "a file"
                parser.error(f"--{flag} {name}={value}: needed are {' '.join(TRAININGS)}, each =N, {needed}")
        defaults = {name: default[0 if flag == "configs" else 1] for name, default in TRAININGS.items()}
        kind = int if flag == "epochs" else Path
        setattr(arguments, flag, defaults | {name: kind(value) for name, _, value in given})
    return arguments


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


def compare(args: argparse.Namespace) -> None:
    """Everything that the command does."""
    root = data_root(args.data_root).resolve()
    out = args.output.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    frames = find_frames(root, "val")
    ensure_instances_json(root, "val")
    systems = all_systems(root, out, Configs(**args.configs, epochs=args.epochs, more=args.more))
    for system in systems:
        for command in system.preparations:
            run(*command)
        for name, command in system.trainings.items():
            train(name, out, *command)
        for command in system.predictions():
            run(*command)
    results = [score(system, frames, root, out) for system in systems]
    note = (
        f"{len(frames)} images of {root.name}, val. Training: CPU seconds of the commands; each system has its last epoch's "
        "weights, averaged ones of SOLOv2 and of Panoptic FPN, which trains in bfloat16 where the CPU has it. ms: median from "
        "pixels to panoptic ids, one thread. Instances are merged from a score of 0.2 (SOLOv2) and 0.5 (Mask R-CNN) on; AP "
        "counts those above 0.05."
    )
    for path in write_comparison(results, note, out, len(frames)):
        print(f"wrote {path}")


def write_comparison(results: list[dict], note: str, out: Path, num_images: int) -> list[Path]:
    """Print the tables; write them, all numbers, the report and its figures into `out`, and return what was written.

    Args:
        results: a system each, as benchmarks.scoring.score gives them; classes in the report are those of the first.
    """
    table, by_size = systems_table(results, note), sizes_table(results)
    print("\n\n".join(f"{t.title}\n{to_markdown(t)}\n{t.note}" for t in (table, by_size)))
    write_json(out / "compare.json", results)
    with atomic_path(out / "compare.md") as partial:
        partial.write_text("\n\n".join(f"{to_markdown(t)}\n\n{t.note}" for t in (table, by_size)) + "\n")

    names = [result["name"] for result in results]
    groups = {n: {g: r["scores"][g]["pq"] for g in ("All", "Things", "Stuff")} for n, r in zip(names, results, strict=True)}
    recalls = {n: {s: r["sizes"][s]["recall"] for s in SIZES} for n, r in zip(names, results, strict=True)}
    speeds = {n: (r["milliseconds"], r["scores"]["All"]["pq"]) for n, r in zip(names, results, strict=True)}
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
        results[0]["scores"],
        CITYSCAPES,
        tables=(table, by_size),
        figures=figures,
        facts={"command": f"python scripts/compare.py {' '.join(sys.argv[1:])}", "images": num_images},
        introduction=f"Classes and groups below are those of {names[0]}.",
    )
    return written


def main() -> None:
    """The command; see above."""
    args = parse_arguments()
    with one_line_errors():
        compare(args)


if __name__ == "__main__":
    main()
