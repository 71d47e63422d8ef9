"""Say what a maintainer must know of this machine to repeat a fault: versions, device, threads, settings. Paste it into an issue.

    $ python scripts/report_environment.py
    $ python scripts/report_environment.py --output environment.txt

Nothing leaves the machine, and the report holds no path, host or user name: of a variable that names a folder it says only that
it is set. It works without torch, too. Versions are compared with constraints.txt, which `make setup` installs.
"""

import locale
import operator
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from jsonargparse import ArgumentParser

from runtime.command_line import OUTPUTS, REPOSITORY, current_spelling, make_parser
from runtime.files import atomic_path, check_outputs, one_line_errors, shorten
from runtime.processor import processor_model

PROJECT = "location-based-panoptic-segmentation"
CONTROL_GROUPS = Path("/sys/fs/cgroup")
GIB = 2**30
VARIABLES = (
    *("CITYSCAPES_DATASET", "CITYSCAPES_DIR", "COCO_DATASET", "PANOPTIC_PHOTOS", "FIRST_LOOK_FOLDER", "PYTHONPATH"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"),
    *("GOMP_SPINCOUNT", "CUDA_VISIBLE_DEVICES"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "PL_GLOBAL_SEED", "TORCH_CPP_LOG_LEVEL"),
    *("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    *("RAY_BACKEND_LOG_LEVEL", "NO_ALBUMENTATIONS_UPDATE", "LANG", "LC_ALL"),
)
"""What the project reads of the environment, or the libraries that it computes with."""
COMPARE = {"==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class Requirements(NamedTuple):
    """What the project asks for, by normalised names."""

    base: set[str]
    """Needed by every command."""
    extras: dict[str, set[str]]
    """Extra -> its packages, those of the extras that it names included."""


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("report_environment.py", __doc__, has_config=False)
    help_output = "also write the report to this file; default: it is printed alone"
    parser.add_argument("--output", type=Path | None, default=None, metavar="FILE", help=help_output)
    return parser


def normalise(name: str) -> str:
    """The one spelling of a package's name: `PyYAML` -> `pyyaml`, `a_b.c` -> `a-b-c` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str, python: tuple[int, int]) -> dict[str, str]:
    """Package -> version of the lines of a constraints file that hold for a Python.

    Args:
        text: lines `name==version` or `name==version; python_version OPERATOR "3.x"`; others are left out.
        python: (major, minor).
    """
    pins = {}
    for line in text.splitlines():
        pin = re.match(r'([\w.-]+)==([^\s;]+)\s*(?:;\s*python_version\s*([=!<>]=?)\s*"(\d+)\.(\d+)")?', line)
        if pin and (pin[3] is None or COMPARE[pin[3]](python, (int(pin[4]), int(pin[5])))):
            pins[normalise(pin[1])] = pin[2]
    return pins


def read_requirements(lines: Iterable[str]) -> Requirements:
    """Sort requirements into those of the base and those of extras.

    Args:
        lines: as importlib.metadata.requires gives them, such as `torch>=2.6; extra == "train"`.
    """
    base: set[str] = set()
    extras: dict[str, set[str]] = {}
    nested: dict[str, list[str]] = {}
    for line in lines:
        name = normalise(re.match(r"[\w.-]+", line)[0])
        extra = re.search(r"""extra\s*==\s*["']([\w.-]+)["']""", line)
        if extra is None:
            base.add(name)
            continue
        packages = extras.setdefault(extra[1], set())
        if name == PROJECT:
            nested.setdefault(extra[1], []).extend(re.search(r"\[(.*?)\]", line)[1].replace(" ", "").split(","))
        else:
            packages.add(name)
    for _ in nested:  # as often as extras can name each other
        for extra, named in nested.items():
            extras[extra] |= set().union(*(extras.get(other, set()) for other in named))
    return Requirements(base, extras)


def read_project(pyproject: Path) -> tuple[str, list[str]]:
    """Version and requirements of the project, from pyproject.toml, and as it is installed where that cannot be read.

    An installation may be older than its folder, so pyproject.toml comes first; Python 3.10 has no reader for it of its own.

    Returns:
        The version and lines as importlib.metadata.requires gives them.
    """
    reader = next((name for name in ("tomllib", "tomli") if find_spec(name) is not None), None)
    if reader is not None and (text := _read(pyproject)):
        project = import_module(reader).loads(text)["project"]
        extras = project["optional-dependencies"].items()
        return project["version"], project["dependencies"] + [f'{r}; extra == "{name}"' for name, rs in extras for r in rs]
    try:
        return version(PROJECT), requires(PROJECT) or []
    except PackageNotFoundError:
        return "of no known version", []


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_packages(needed: Requirements, installed: Mapping[str, str], pins: Mapping[str, str]) -> dict[str, str]:
    """What is installed as constraints.txt says, what otherwise, what is missing, and which extras are there."""
    other = [f"{name} {found} (pinned: {pins.get(name, 'not')})" for name, found in installed.items() if pins.get(name) != found]
    said = {
        "as pinned": ", ".join(f"{name} {found}" for name, found in installed.items() if pins.get(name) == found) or "none",
        "not as pinned": ", ".join(other) or "none",
        "missing": ", ".join(sorted(needed.base - installed.keys())) or "none",
    }
    absent = {extra: sorted(packages - installed.keys()) for extra, packages in sorted(needed.extras.items())}
    said["complete extras"] = ", ".join(extra for extra, names in absent.items() if not names) or "none"
    return said | {f"extra {extra}": f"incomplete, without {', '.join(names)}" for extra, names in absent.items() if names}


def control_group_limit(name: str, root: Path = CONTROL_GROUPS, group: str | None = None) -> float | None:
    """The smallest value that a file of a control group, or of one around it, has (Linux, cgroup v2); None: no limit.

    Args:
        name: memory.max, in bytes, or cpu.max, whose first number is divided by the second: cores.
        root: the folder of the control groups.
        group: path below it; default: that of this process.
    """
    if group is None:
        own = re.search(r"^0::/(.*)$", _read(Path("/proc/self/cgroup")), re.MULTILINE)
        group = own[1] if own else ""
    place = root / group
    limits = []
    for folder in (place, *place.parents[: len(place.relative_to(root).parts)]):
        words = _read(folder / name).split()
        if words and all(map(str.isdecimal, words)):  # else `max`, or there is none
            limits.append(int(words[0]) / int((*words, "1")[1]))
    return min(limits, default=None)


def describe_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Of each of VARIABLES that is set its value where it is only numbers or a locale, else `set`."""
    plain = r"[\d,:-]*|C|POSIX|[a-z]{2}_[A-Z]{2}(\.[\w-]+)?|C\.[\w-]+"
    return {
        name: environment[name] if re.fullmatch(plain, environment[name]) and environment[name] else "set"
        for name in VARIABLES
        if name in environment
    }


def describe_project(project_version: str) -> dict[str, str]:
    """Version and commit of the project, Python, and what it runs on."""
    system = platform.system()
    if system == "Linux":
        try:
            system = platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            system = "Linux of no known name"
    return {
        "project": f"{project_version}, {_describe_commit()}; installed: {installed_versions([PROJECT]).get(PROJECT, 'no')}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{system}, kernel {platform.release()}, {platform.machine()}",
        "locale": f"{'.'.join(filter(None, locale.getlocale())) or 'none'}, file names in {sys.getfilesystemencoding()}",
    }


def _describe_commit() -> str:
    if not (REPOSITORY / ".git").exists() or shutil.which("git") is None:
        return "no commit known"
    commit = _output_of("git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD").strip()
    if not commit:
        return "no commit known"
    changed = len(_output_of("git", "-C", str(REPOSITORY), "status", "--porcelain").splitlines())
    return f"commit {commit}, {f'with {changed} changed or new files' if changed else 'unchanged'}"


def describe_machine() -> dict[str, str]:
    """CPU, cores and memory, each also as limited from outside, and the free disk below outputs/."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = {name: int(size) / 2**20 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", _read(Path("/proc/meminfo")), re.M)}
    cores, size = control_group_limit("cpu.max"), control_group_limit("memory.max")
    free = f"{memory['MemTotal']:.1f} GiB, {memory['MemAvailable']:.1f} free" if memory else "unknown"
    there = next(folder for folder in (OUTPUTS, *OUTPUTS.parents) if folder.exists())
    return {
        "cpu": processor_model(),
        "cores": f"{os.cpu_count()}, of which {usable} may be used; limit: {'none' if cores is None else f'{cores:g}'}",
        "memory": f"{free}; limit: {'none' if size is None else f'{size / GIB:.1f} GiB'}",
        "disk of outputs/": f"{shutil.disk_usage(there).free / GIB:.1f} GiB free",
    }


def describe_devices() -> dict[str, str]:
    """What torch and onnxruntime can compute on; says so where they are not installed, or do not import."""
    return {"torch": _describe_torch(), "onnxruntime": _describe_onnxruntime()}


def _describe_torch() -> str:
    if find_spec("torch") is None:
        return "not installed"
    try:
        torch = import_module("torch")
        threads = f"{torch.__version__}, {torch.get_num_threads()} threads"
        if not torch.cuda.is_available():
            return f"{threads}, no GPU that it can use (built for CUDA {torch.version.cuda or 'none'})"
        found = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    except Exception as error:  # a broken installation fails in many ways, and is what the report is for
        return f"does not work: {type(error).__name__}: {without_paths(shorten(error))}"
    driver = _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    gpus = ", ".join(f"{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)" for gpu in found)
    return f"{threads}, {gpus}; CUDA {torch.version.cuda}, driver {driver[0] if driver else 'unknown'}"


def _describe_onnxruntime() -> str:
    if find_spec("onnxruntime") is None:
        return "not installed"
    try:
        return ", ".join(import_module("onnxruntime").get_available_providers())
    except Exception as error:  # as above
        return f"does not work: {type(error).__name__}: {without_paths(shorten(error))}"


def without_paths(text: str) -> str:
    """Text whose absolute paths are cut down to the last name: `/home/a/b.so: gone` -> `.../b.so: gone`."""
    return re.sub(r"""(?<![\w.])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'":]+[/\\])+""", ".../", text)


def make_report() -> str:
    """The whole report, as lines `name: value` under a heading for each of its parts."""
    project_version, lines = read_project(REPOSITORY / "pyproject.toml")
    needed = read_requirements(lines)
    pins = read_pins(_read(REPOSITORY / "constraints.txt"), sys.version_info[:2])
    installed = installed_versions(needed.base.union(*needed.extras.values()))
    parts = {
        "project": describe_project(project_version),
        "machine": describe_machine(),
        "devices": describe_devices(),
        "packages": describe_packages(needed, installed, pins),
        "environment variables": describe_variables(os.environ) or {"all": "not set"},
    }
    return "\n".join(
        f"## {part}\n" + "".join(f"{name}: {value}\n" for name, value in entries.items()) for part, entries in parts.items()
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _output_of(*command: str) -> str:
    """What a program prints; nothing where it fails, or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def main() -> None:
    """The command; see above."""
    with one_line_errors():
        args = build_parser().parse_args(current_spelling(sys.argv[1:]))
        check_outputs({"--output": args.output}, {})
        report = make_report()
        print(report, end="")
        if args.output is not None:
            with atomic_path(args.output.expanduser()) as partial:
                partial.write_text(report, encoding="utf-8")
            print(f"\nwrote {args.output}")


if __name__ == "__main__":
    main()
