"""Time the steps after the networks against the published code: same input, same process, in turns, one thread.

    $ python scripts/benchmark.py all --output outputs/benchmark/results.json
    $ python scripts/benchmark.py fusion

NAME is one step, `all` of them, `peers` (panoptic quality against hotcoco and vernier; pip install -e '.[peers]'), `chain` (the
whole solo_fusion.py on 100 prepared dumps), `growth`, `memory` (peaks of three commands on 200, 1,000 and 4,000 tiny images),
`results` (another tool's result list of 100 and of 1,000 images), `forms` (the PQ of the truth of Streets in each form of other
tools), `networks` (forward passes and training steps on --device, a GPU), or `deploy` (networks of all systems by torch,
torch.compile, onnxruntime and in int8, and what follows them, on the CPU).
Each row of a step says whether the two results were equal in this run; the exit code is 1 if any was not. A ratio below the
promised one is marked, nothing more: clocks are no tests. Memory is additional peak memory, each side in a fresh process. Needs
Linux.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.side_by_side import ONE_THREAD

os.environ.update(ONE_THREAD)  # before the libraries that read it are loaded

from jsonargparse import ArgumentParser, Namespace

from benchmarks.side_by_side import Contest, additional_peak_memory, memory_in_fresh_processes, time_contest
from runtime.command_line import REPOSITORY, make_parser
from runtime.files import InputError, one_line_errors, write_json
from runtime.processor import describe_processor

STEPS = {
    "pq": ("pq",),
    "fusion": ("fusion", "merge"),
    "clusters": ("clusters",),
    "write": ("write",),
    "prepare": ("prepare",),
    "solov2": ("solov2",),
    "dump": ("dump",),
}
"""Name on the command line -> modules of benchmarks/ whose ROWS it runs."""
OTHERS = ("all", "peers", "chain", "growth", "memory", "results", "forms", "networks", "deploy")
NUM_CHAIN_IMAGES = (25, 100)


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("benchmark.py", __doc__, has_config=False)
    names = [*STEPS, *OTHERS]
    parser.add_argument("name", metavar="NAME", nargs="?", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--output", "--json", type=Path | None, metavar="FILE", help="also write the rows as a list of objects")
    parser.add_argument("--device", default="cuda", help="of `networks`")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each side")
    parser.add_argument(
        "--memory-of", nargs=2, metavar=("ROW", "SIDE"), help="print the peak memory of one side; for fresh processes"
    )
    return parser


def parse_arguments() -> Namespace:
    """The command line, parsed."""
    parser = build_parser()
    arguments = parser.parse_args()
    if not arguments.name and not arguments.memory_of:
        parser.error(f"NAME is needed: {', '.join([*STEPS, *OTHERS])}")
    if arguments.repeats < 1:
        parser.error(f"--repeats {arguments.repeats}, but at least 1 run of NAME is needed")
    return arguments


def find_rows(name: str) -> dict:
    """Row name -> function that builds its contest."""
    modules = [m for step, modules in STEPS.items() if name in (step, "all") for m in modules]
    return {row: build for module in modules for row, build in import_module(f"benchmarks.{module}").ROWS.items()}


def print_versions() -> None:
    """What the times depend on."""
    import torch

    torch.set_num_threads(1)
    names = ("numpy", "pillow", "torch", "numba", "zlib-ng", "cityscapesscripts", "mmdet", "pycocotools")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    print(
        f"Python {platform.python_version()}, {found}\n{describe_processor()}; one thread; median of the runs in milliseconds\n",
        flush=True,
    )


def run_row(row: str, contest: Contest, repeats: int) -> dict:
    """Time one row, measure its memory where that is promised, print it."""
    ours, theirs, equal = time_contest(contest, repeats)
    ratio, memory_ratio = theirs.median / ours.median, None
    memory = ""
    if contest.memory_at_most is not None:
        our_memory, their_memory = memory_in_fresh_processes(row)
        memory_ratio = our_memory / their_memory
        memory = f"  memory {our_memory:.0f} of {their_memory:.0f} MB (1/{1 / memory_ratio:.0f})"
        memory += "" if memory_ratio <= contest.memory_at_most else f", SHORT of 1/{1 / contest.memory_at_most:.0f}"
    verdict = "" if ratio >= contest.at_least else "  SHORT"
    times = f"{theirs.median:9.1f} / {ours.median:7.2f} (smallest {theirs.smallest:9.1f} / {ours.smallest:7.2f})"
    equality = "equal" if equal else "NOT EQUAL"
    print(f"{row:46s} {times}  {equality}  {ratio:6.1f} times, promised {contest.at_least:g}{verdict}{memory}", flush=True)
    return {
        "name": row,
        "ratio": ratio,
        "at_least": contest.at_least,
        "memory_ratio": memory_ratio,
        "equal": equal,
        "ours_ms": ours.median,
        "theirs_ms": theirs.median,
    }


def run_chain() -> None:
    """Time the whole chain, for two numbers of images."""
    from benchmarks import chain

    roots = {num_images: chain.prepare(num_images) for num_images in NUM_CHAIN_IMAGES}
    few, many = NUM_CHAIN_IMAGES
    chain.run_command(roots[few], 1)  # compiles the kernels where none are kept
    for workers in (1, 2):
        seconds = {}
        for num_images, root in roots.items():
            seconds[num_images], peak = chain.run_command(root, workers)
            print(
                f"solo_fusion.py --workers {workers}, {num_images} images: {seconds[num_images]:.1f} s, peak {peak:.0f} MB",
                flush=True,
            )
        rate = (many - few) / (seconds[many] - seconds[few])
        print(f"  {rate:.0f} images a second, without the start of the program")
    steps = chain.time_steps(roots[many])
    total = sum(steps.values())
    print(f"one thread, {total:.1f} ms an image:")
    for name, milliseconds in steps.items():
        print(f"  {name:16s} {milliseconds:6.1f} ms  {100 * milliseconds / total:3.0f} %")


def run_growth() -> None:
    """Print how time and memory grow."""
    from benchmarks import evaluation_memory, growth

    for title, rows in growth.tables().items():
        print(title)
        for what, milliseconds, each in rows:
            print(f"  {what:32s} {milliseconds:9.1f} {each:8.3f}")
    print("panoptic quality with kinds and a table (MB when the files are read, MB at the peak)")
    for num_images in evaluation_memory.NUM_IMAGES:
        before, peak = evaluation_memory.measure(num_images)
        print(f"  {f'{num_images} small images':32s} {before:9.1f} {peak:8.1f}", flush=True)


def run_memory() -> None:
    """Print how the memory of commands grows with the number of images."""
    from benchmarks import memory

    print(f"{'images':>8s} {'command':18s} {'peak MB':>9s} {'seconds':>8s}")
    for num_images in memory.NUM_IMAGES:
        for command, (seconds, megabytes) in memory.measure(num_images).items():
            print(f"{num_images:8d} {command:18s} {megabytes:9.0f} {seconds:8.0f}", flush=True)


def run_peers(repeats: int, output: Path | None) -> None:
    """Print, and write where that is asked for, what the fastest other evaluators take.

    Raises:
        InputError: if one is not installed.
    """
    from benchmarks import peers

    peers.check_installed()
    print(", ".join(f"{name} {version(name)}" for name in peers.PEERS), flush=True)
    rows = peers.measure(repeats)
    for row in rows:
        print(peers.line(row), flush=True)
    if output:
        write_json(output, [asdict(row) for row in rows])
        print(f"\nwrote {output}")
    unequal = [f"{row.side} on files of {row.writer}" for row in rows if row.side not in peers.PEERS and not row.is_bit_equal]
    if unequal:
        sys.exit(f"error: results differ: {', '.join(unequal)}")


def run_results() -> None:
    """Print what reading another tool's result list costs."""
    from benchmarks import result_lists

    for num_images in result_lists.NUM_IMAGES:
        command = [sys.executable, "-m", "benchmarks.result_lists", str(num_images)]
        result_lists.write_list(num_images)
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout)
        decoded = result_lists.decode_seconds(num_images)
        ratio = (found["open"] + found["read"]) / decoded
        ours = f"open {found['open']:.1f} s, read and convert {found['read']:.1f} s, {found['megabytes']:.0f} MB more"
        print(f"{num_images:5d} images: {ours}; pycocotools' decode alone {decoded:.1f} s; {ratio:.2f} of that", flush=True)


def run_forms() -> None:
    """Print what each form of other tools loses of the truth of Streets."""
    from benchmarks import foreign_forms
    from data.drawn.embedded import find_data_set

    split = find_data_set(None, "cityscapes", None).split()
    with tempfile.TemporaryDirectory() as folder:
        for half, form, quality in foreign_forms.measure(split, Path(folder)):
            print(f"{half:10s} {form:80s} PQ {100 * quality:.1f}", flush=True)


def run_networks(device: str, repeats: int, output: Path | None) -> None:
    """Print, and write where that is asked for, what networks take on a device.

    Raises:
        InputError: if the device is not there.
    """
    from benchmarks import networks  # first: it sets what torch reads when it is loaded

    # isort: split
    import torch

    from runtime.device import check_device

    if check_device(device).partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"--device {device}: the clock is only right on cuda and cpu; give one of these")

    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else describe_processor()
    print(f"{where}\n{'network':28s} {'':8s} {'precision':9s} {'ms':>9s} {'images/s':>9s} {'peak MB':>8s}", flush=True)
    rows = []
    for row in networks.measure(torch.device(device), repeats):
        peak = "" if row.megabytes is None else f"{row.megabytes:8.0f}"
        times = f"{row.milliseconds:9.1f} {row.images_per_second:9.1f} {peak}"
        print(f"{row.network:28s} {row.what:8s} {row.precision:9s} {times}", flush=True)
        rows.append(asdict(row))
    if output:
        write_json(output, {"device": where, "torch": version("torch"), "rows": rows})
        print(f"\nwrote {output}")


def run_deploy(repeats: int, output: Path | None) -> None:
    """Print, and write where that is asked for, what an image costs by engine."""
    from benchmarks import deploy

    found = deploy.run(repeats)
    if output:
        packages = {name: version(name) for name in ("torch", "onnxruntime")}
        write_json(output, {"processor": describe_processor(), **packages, **found})
        print(f"\nwrote {output}")


def main() -> None:
    """The command; see above."""
    arguments = parse_arguments()
    with one_line_errors():
        if arguments.memory_of:
            row, side = arguments.memory_of
            rows = find_rows("all")
            if row not in rows or side not in ("ours", "theirs"):
                raise InputError(f"--memory-of {row!r} {side!r}: rows are {', '.join(rows)}; sides are ours and theirs")
            import torch

            torch.set_num_threads(1)
            print(json.dumps(additional_peak_memory(getattr(rows[row](), side))))
            return
        print_versions()
        if arguments.name == "networks":
            run_networks(arguments.device, arguments.repeats, arguments.output)
            return
        if arguments.name == "deploy":
            run_deploy(arguments.repeats, arguments.output)
            return
        if arguments.name == "peers":
            run_peers(arguments.repeats, arguments.output)
            return
        others = {"chain": run_chain, "growth": run_growth, "memory": run_memory, "results": run_results, "forms": run_forms}
        if arguments.name in others:
            others[arguments.name]()
            return
        results = [run_row(row, build(), arguments.repeats) for row, build in find_rows(arguments.name).items()]
        if arguments.output:
            write_json(arguments.output, results)
            print(f"\nwrote {arguments.output}")
        unequal = [result["name"] for result in results if not result["equal"]]
        if unequal:
            sys.exit(f"error: results differ: {', '.join(unequal)}")


if __name__ == "__main__":
    main()
