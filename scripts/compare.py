"""Train and score several systems on the same split with the same budget, and say where they differ.

    $ python scripts/compare.py
    $ python scripts/compare.py --stage1-epochs 26 --stage2-epochs 20 --joint-epochs 18 --output outputs/compare_longer

Without arguments it uses the embedded data set and budgets of a few minutes, in which the two stages of the first system
together train about as long as the second. Everything that is trained or predicted lies under --output; run the same command
again after a kill, and only what is missing is done. Seconds are wall time of the training commands: leave the machine alone.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import solov2  # noqa: F401, before torch: it sets what torch reads when it is loaded

# isort: split
from data.cityscapes import Frame, data_root, find_frames, instances_json_path, is_prepared, read_truth, write_instances_json
from data.coco import read_panoptic_json, read_panoptic_map
from data.files import InputError, atomic_path, one_line_errors, read_json, write_json
from data.semantic_dump import read_semantic
from data.targets import panoptic_to_semantic
from data.taxonomy import CITYSCAPES
from evaluation.figures import bar_chart
from evaluation.instance_ap import read_detections, score_instances
from evaluation.panoptic_quality import PanopticQuality
from evaluation.report import Table, write_report
from evaluation.semantic_iou import SemanticIoU
from evaluation.size_breakdown import SIZES, SizeBreakdown
from fusion.logit_fusion import semantic_argmax
from solov2.checkpoints import find_last

REPOSITORY = Path(__file__).resolve().parents[1]
COLUMNS = ("", "PQ", "SQ", "RQ", "PQ things", "PQ stuff", "mask AP", "mIoU", "parameters (M)", "training (s)")


@dataclass(frozen=True)
class System:
    """One row: the folder of its results, the names of its trainings, and where its predictions lie."""

    name: str
    fused: Path
    trainings: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    instances: Path | None
    semantics: Path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="Cityscapes folder; else $CITYSCAPES_DATASET or $CITYSCAPES_DIR, else Streets")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "outputs" / "compare", help="default: %(default)s")
    configs = REPOSITORY / "configs"
    parser.add_argument("--stage1-config", type=Path, default=configs / "solov2" / "streets_r18.py")
    parser.add_argument("--stage2-config", type=Path, default=configs / "efficientps" / "streets_b0.yaml")
    parser.add_argument("--joint-config", type=Path, default=configs / "efficientps" / "streets_b0_maskrcnn.yaml")
    for name, epochs in (("stage1", 13), ("stage2", 10), ("joint", 9)):
        parser.add_argument(f"--{name}-epochs", type=int, default=epochs, metavar="N", help="default: %(default)s")
    arguments = parser.parse_args()
    for name in ("stage1_epochs", "stage2_epochs", "joint_epochs"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(arguments, name)}, but at least 1 is needed")
    return arguments


def run(*command: str | Path) -> None:
    """Run a command of this repository, as a user would type it."""
    shown = " ".join(str(part) for part in command)
    print(f"$ python {shown}", flush=True)
    done = subprocess.run([sys.executable, *(str(part) for part in command)], cwd=REPOSITORY)
    if done.returncode:
        raise InputError(f"`python {shown}` failed; see its message above, and run the same comparison again")


def train(name: str, output: Path, *command: str | Path) -> None:
    """Run a training unless it is done, and add its wall time to what earlier, interrupted runs of it took.

    Of a run that was killed no time is known: then the record says that it is not exact.
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
    start = time.perf_counter()
    try:
        run(*command)
        known["is_done"] = True
    finally:
        write_json(record, known | {"seconds": known["seconds"] + time.perf_counter() - start})


def train_and_predict(args: argparse.Namespace, root: Path) -> list[System]:
    """All commands, one after the other."""
    out = args.output
    data = ("--data-root", root)
    epochs = args.stage1_epochs
    schedule = (f"train_cfg.max_epochs={epochs}", f"train_cfg.val_begin={epochs + 1}", f"param_scheduler.1.end={epochs}")
    stage1 = ("--config", args.stage1_config, "--cfg-options", *schedule)
    train("stage1", out, "solov2/train.py", *data, "--work-dir", out / "solov2", *stage1)
    for name, config, number in (
        ("stage2", args.stage2_config, args.stage2_epochs),
        ("joint", args.joint_config, args.joint_epochs),
    ):
        length = ("--trainer.max_epochs", str(number))
        train(name, out, "efficientps/train_net.py", "--config", config, *data, "--output", out / name, *length)

    solo = find_last(out / "solov2")
    run("solov2/eval.py", *data, "--checkpoint", solo, "--output", out / "solov2_dumps", *stage1)
    fuse = ("fusion/solo_fusion.py", *data)
    stage2, joint = out / "stage2" / "last.ckpt", out / "joint" / "last.ckpt"  # nothing is chosen on val
    saved = ("--save-semantics", out / "stage2_semantics")
    run(*fuse, "--instances", out / "solov2_dumps", "--checkpoint", stage2, *saved, "--output", out / "two_stage")
    run(*fuse, "--instances", "none", "--semantics", out / "stage2_semantics", "--output", out / "floor")
    saved = ("--save-semantics", out / "joint_semantics", "--save-instances", out / "joint_instances")
    limit = ("--fusion.min_score", "0.5")  # the paper's, for box scores
    run(*fuse, "--instances", "model", "--checkpoint", joint, *saved, *limit, "--output", out / "original")
    two = System(
        "SOLOv2 + EfficientPS semantics",
        out / "two_stage",
        ("stage1", "stage2"),
        (solo, stage2),
        out / "solov2_dumps",
        out / "stage2_semantics",
    )
    original = System(
        "original EfficientPS (Mask R-CNN)",
        out / "original",
        ("joint",),
        (joint,),
        out / "joint_instances",
        out / "joint_semantics",
    )
    floor = System("semantic argmax only", out / "floor", ("stage2",), (stage2,), None, out / "stage2_semantics")
    return [two, original, floor]


def score(system: System, frames: list[Frame], root: Path, output: Path) -> dict:
    """All numbers of one system; qualities as fractions of 1."""
    prediction = read_panoptic_json(system.fused / "panoptic.json", system.fused / "panoptic")
    quality, sizes, iou = PanopticQuality(), SizeBreakdown(CITYSCAPES), SemanticIoU(CITYSCAPES)
    for frame in frames:
        truth = read_truth(frame)
        sizes.add(truth, quality.add(truth, read_panoptic_map(prediction, frame.image_id)))
        semantic = read_semantic(system.semantics, frame.image_id, CITYSCAPES, truth.segment_ids.shape)
        iou.add(panoptic_to_semantic(truth, CITYSCAPES), semantic_argmax(semantic, CITYSCAPES))
    scores = quality.scores(CITYSCAPES)
    records = [read_json(output / f"{name}.json") for name in system.trainings]
    mask_ap = None
    if system.instances is not None:
        found = read_detections(system.instances, [frame.image_id for frame in frames], CITYSCAPES)
        mask_ap = score_instances(instances_json_path(root, "val"), found)["AP"]
    return {
        "name": system.name,
        "scores": scores,
        "mask_ap": mask_ap,
        "miou": iou.scores()["miou"],
        "parameters": sum(count_parameters(path) for path in system.checkpoints),
        "training_seconds": sum(record["seconds"] for record in records),
        "is_time_exact": all(record.get("is_exact", True) for record in records),
        "sizes": {size: {"total": c.total, "recall": c.recall, "iou": c.iou} for size, c in sizes.counts.items()},
    }


def count_parameters(checkpoint: Path) -> int:
    """Trained numbers in a checkpoint of either training command; no running statistics."""
    from solov2.checkpoints import read_checkpoint

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    weights = read_checkpoint(checkpoint)["state_dict"]
    return sum(w.numel() for name, w in weights.items() if not name.endswith(buffers))


def to_cells(result: dict) -> tuple:
    """One row of the table, in percent."""
    groups = result["scores"]
    qualities = [groups["All"][key] for key in ("pq", "sq", "rq")] + [groups["Things"]["pq"], groups["Stuff"]["pq"]]
    shares = [*qualities, result["mask_ap"], result["miou"]]
    cells = ["n/a" if share is None else f"{100 * share:.1f}" for share in shares]
    seconds = f"{'' if result['is_time_exact'] else '> '}{result['training_seconds']:.0f}"
    return (result["name"], *cells, f"{result['parameters'] / 1e6:.1f}", seconds)


def to_size_rows(results: list[dict]) -> tuple[tuple, ...]:
    """Share of the truth's things that were found, by size, in percent, and how many the truth has."""
    rows = []
    for size in SIZES:
        shares = [result["sizes"][size]["recall"] for result in results]
        rows.append((size, results[0]["sizes"][size]["total"], *("n/a" if s is None else f"{100 * s:.1f}" for s in shares)))
    return tuple(rows)


def to_markdown(table: Table) -> str:
    """The table without its title and note."""
    rows = (table.columns, ("---",) * len(table.columns), *table.rows)
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def compare(args: argparse.Namespace) -> None:
    """Everything that the command does."""
    root = data_root(args.data_root).resolve()
    args.output = args.output.expanduser().resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    frames = find_frames(root, "val")
    if not is_prepared(instances_json_path(root, "val"), frames):
        write_instances_json(root, "val")
    systems = train_and_predict(args, root)
    results = [score(system, frames, root, args.output) for system in systems]
    names = tuple(result["name"] for result in results)
    note = (
        f"{len(frames)} images of {root}, val. Seconds: wall time of the training commands; each system has the weights of its "
        "last epoch. Instances are fused from a score of 0.2 (SOLOv2) and 0.5 (Mask R-CNN) on; AP counts those above 0.05."
    )
    table = Table("Systems", COLUMNS, tuple(to_cells(result) for result in results), note)
    note = (
        "Share of the truth's things found with IoU above 0.5, in percent. Sizes: areas of 16, 32, 96, 192 squared at 1024x2048."
    )
    by_size = Table("Things found, by size", ("size", "things", *names), to_size_rows(results), note)
    print("\n\n".join(f"{t.title}\n{to_markdown(t)}\n{t.note}" for t in (table, by_size)))

    write_json(args.output / "compare.json", results)
    with atomic_path(args.output / "compare.md") as partial:
        partial.write_text("\n\n".join(f"{to_markdown(t)}\n\n{t.note}" for t in (table, by_size)) + "\n")
    groups = {n: {g: r["scores"][g]["pq"] for g in ("All", "Things", "Stuff")} for n, r in zip(names, results, strict=True)}
    recalls = {n: {s: r["sizes"][s]["recall"] for s in SIZES} for n, r in zip(names, results, strict=True)}
    figures = {"PQ": bar_chart(groups, "PQ (%)"), "Things found, by size": bar_chart(recalls, "found (%)")}
    report = args.output / "report.html"
    introduction = f"Classes and groups below are those of {names[0]}."
    facts = {"command": f"python scripts/compare.py {' '.join(sys.argv[1:])}", "images": len(frames)}
    write_report(
        report,
        "Comparison of systems",
        results[0]["scores"],
        CITYSCAPES,
        tables=(table, by_size),
        figures=figures,
        facts=facts,
        introduction=introduction,
    )
    for name in ("compare.md", "compare.json", "report.html"):
        print(f"wrote {args.output / name}")


def main() -> None:
    args = parse_arguments()
    with one_line_errors():
        compare(args)


if __name__ == "__main__":
    main()
