"""Record a result that README or docs quote: scores or a benchmark, with command, commit, processor, versions and date.

    $ python scripts/record_result.py outputs/demo --name demo -- make demo
    $ python scripts/record_result.py outputs/photos --name photos_two_stages --commit 18d1299
    $ python scripts/record_result.py deploy.json --name deploy -- python scripts/benchmark.py deploy --output deploy.json
    $ python scripts/record_result.py --name growth -- python scripts/benchmark.py growth

Writes docs/results/NAME.json, from which tables are copied; tests compare every table and sentence with its file. A command
behind `--` is run first, in the repository, and its seconds of the clock and of the processors are recorded, too; one that goes
on with what is done has only those of the rest. Without a command the result that is there is recorded; without a result, the
lines that the command prints.
"""

import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from runtime.command_line import REPOSITORY, current_spelling, make_parser
from runtime.files import InputError, one_line_errors, read_json, write_json
from runtime.processor import describe_processor

FOLDER = REPOSITORY / "docs" / "results"
PACKAGES = ("numpy", "torch", "onnxruntime", "mmdet", "pytorch-lightning")
LEFT_OUT = ("per_image",)
"""Of scores: too long, and quoted nowhere."""


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = make_parser("record_result.py", __doc__, has_config=False)
    help_result = "a run folder with scores, or a JSON that a command wrote; default: what the command prints"
    parser.add_argument("result", type=Path | None, nargs="?", default=None, metavar="RUN|FILE", help=help_result)
    parser.add_argument("--name", required=True, metavar="NAME", help="of the file: letters, digits and _")
    help_commit = "that made the result, needed without a command; default: the one that is checked out"
    parser.add_argument("--commit", type=str | None, default=None, metavar="HASH", help=help_commit)
    return parser


def run_timed(command: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Run a command from the repository's root: what it was, its seconds of the clock and of the processors; what it printed.

    Raises:
        InputError: if it fails.
    """
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = []
    try:
        unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}  # its lines are shown as they come
        process = subprocess.Popen(command, cwd=REPOSITORY, env=unbuffered, stdout=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        raise InputError(f"{command[0]}: {error.strerror}; give the command that makes the result behind `--`") from None
    with process:
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line.rstrip())
    if process.returncode:
        raise InputError(f"{' '.join(command)}: ended with exit code {process.returncode}; nothing is recorded")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    about = {"command": shlex.join(command), "seconds": round(time.monotonic() - start), "cpu_seconds": round(cpu)}
    return about, [line for line in printed if line]


def read_result(path: Path) -> tuple[dict | list, str | None, Path]:
    """What is recorded, the command that a run folder names, and the file that it stands in.

    Raises:
        InputError: if there is no such file, or it is no JSON.
    """
    file = path / "scores.json" if path.is_dir() else path
    found = read_json(file)
    if isinstance(found, dict):
        found = {name: value for name, value in found.items() if name not in LEFT_OUT}
    command = read_json(path / "run.json").get("command") if path.is_dir() else None
    return found, command, file


def without_folders(value: Any) -> Any:
    """A JSON value with no more than the last part of absolute paths, as the rest helps nobody: `/a/photos` -> `.../photos`."""
    if isinstance(value, dict):
        return {without_folders(key): without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_folders(part) for part in value]
    return re.sub(r"(?<![\w.:/~])/(?!dev/)(?:[^\s/]+/)+(?=[^\s/])", ".../", value) if isinstance(value, str) else value


def current_commit() -> str:
    """Short hash, with `+` if tracked files differ from it.

    Raises:
        InputError: if this is no clone.
    """
    git = ["git", "-C", str(REPOSITORY)]
    done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{REPOSITORY}: is no clone of git, so the commit is not known; give --commit")
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True).stdout
    return done.stdout.strip() + ("+" if changed else "")


def versions() -> dict[str, str]:
    """Of Python and of those of PACKAGES that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run(args: Namespace, command: list[str]) -> Path:
    """Run the command, if there is one, and write the record.

    Args:
        command: what makes the result; may be empty.

    Raises:
        InputError: if the command fails, or the result or the name does not fit.
    """
    if not re.fullmatch(r"\w+", args.name):
        raise InputError(f"--name {args.name}: letters, digits and _ are needed")
    if not command and args.result is None:
        raise InputError("a result (a run folder or a JSON), a command behind `--`, or both are needed")
    if not command and args.commit is None:
        raise InputError("--commit HASH is needed for a result that is there already: of the state that made it")
    commit, start = args.commit or current_commit(), time.time()
    measured, printed = run_timed(command) if command else ({}, [])
    if args.result is None:
        found, made_by, written = {"printed": printed}, None, time.time()
    else:
        found, made_by, file = read_result(REPOSITORY / args.result.expanduser() if command else args.result.expanduser())
        written = file.stat().st_mtime
        if command and written < start:
            raise InputError(f"{file}: the command did not write it; name what it writes")
    date = datetime.fromtimestamp(written, timezone.utc).strftime("%Y-%m-%d")
    about = {"command": measured.pop("command", made_by or "not known"), **measured}
    about |= {"commit": commit, "date": date}
    about |= {"processor": describe_processor(), "versions": versions()} if command else {}
    output = FOLDER / f"{args.name}.json"
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(output, without_folders({"about": about, "result": found}))
    return output


def main() -> None:
    """The command; see above."""
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    with one_line_errors():
        output = run(build_parser().parse_args(current_spelling(arguments[:end])), arguments[end + 1 :])
        print(f"wrote {output.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
