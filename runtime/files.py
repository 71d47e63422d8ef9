"""Files that are read with suspicion and written whole, and how a command reports bad input."""

import errno
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

PARTIAL = f".partial-{platform.node()}-"
"""Begins the name of a file until it is whole; its writer's process follows."""
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
"""In JSON, one of the two escapes that make one character; a file name of one alone cannot be written."""
SYSTEM_NAMES = frozenset(
    ("@eaDir", "#recycle", "@Recycle", "@tmp", "#snapshot", "~snapshot", "__MACOSX", "$RECYCLE.BIN")
    + ("System Volume Information", "lost+found")
)
"""Folders that network drives, archives of macOS, Windows and ext4 keep."""
LONGEST_NAME, LONGEST_PATH = 255, 2000
"""Bytes of a file's name, without its folders and with those that are given."""
LONGEST_MESSAGE = 600
"""Characters of the line that a user reads."""
LARGEST_YAML, DEEPEST_YAML = 2**20, 30
"""Bytes, and levels of lists and mappings."""


class InputError(ValueError):
    """The user's input does not fit. The message says what came, what was needed and what to do, in one line."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same as Ctrl-C, for a command."""


class ItemError(InputError):
    """One of many does not fit; those who work on all leave it out, say so, and go on."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn bad input and failing files into one line on stderr and exit code 1, for a command's main().

    An interruption, by Ctrl-C or SIGTERM, is one line as well, which says what was kept: see `on_interruption`. What cannot be
    encoded, such as a file name that is no UTF-8, is printed escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with _interruptible():
        try:
            yield
        except InputError as error:
            sys.exit(f"error: {_last_line(error)}")
        except ModuleNotFoundError as error:
            if importlib.util.find_spec("torch") is not None:  # everything should be there: a fault of ours
                raise
            sys.exit(f"error: this needs the package {error.name}, which the run time alone has not; pip install '.[train]'")
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            place = f"{shorten(error.filename, 200)}: " if error.filename else ""
            reason = error.strerror or _last_line(error)
            sys.exit(f"error: {place}{reason}; fix this and run the same command again")
        except KeyboardInterrupt as end:
            kept = end.args[0] if end.args else "nothing half-written was kept; run the same command again"
            # By torchrun, where another process has failed.
            is_ended_by_torchrun = isinstance(end, Terminated) and "TORCHELASTIC_RUN_ID" in os.environ
            if process_rank() == 0 and not is_ended_by_torchrun:
                print(f"interrupted: {kept}", file=sys.stderr, flush=True)
            sys.exit(128 + (signal.SIGTERM if isinstance(end, Terminated) else signal.SIGINT))


def process_rank() -> int:
    """0 in a single process and in the first of several, which torchrun or Lightning has started."""
    return int(os.environ.get("RANK", os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM raise Terminated, and both it and Ctrl-C hold where Python runs a finaliser, which cannot raise.

    There Python prints what was raised and goes on, so the signal is sent again. What an interrupted constructor left behind,
    finalisers complain about; nobody who has pressed Ctrl-C is to read that.
    """
    is_outer = getattr(signal.getsignal(signal.SIGTERM), "__qualname__", "").startswith(_interruptible.__name__)
    if is_outer or threading.current_thread() is not threading.main_thread():
        yield
        return
    is_interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            number = signal.SIGTERM if isinstance(unraisable.exc_value, Terminated) else signal.SIGINT
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        elif not is_interrupted:
            hook(unraisable)

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, report
    try:
        yield
    finally:
        if not is_interrupted:  # else what is half-built dies after this
            sys.unraisablehook = hook
        for number, handler in before.items():
            if handler is not None:  # one that was set outside of Python cannot be set again
                signal.signal(number, handler)


@contextmanager
def on_interruption(describe: Callable[[], str]) -> Iterator[None]:
    """Let an interruption within say what was kept, and what the same command does then."""
    try:
        yield
    except KeyboardInterrupt as end:
        if not end.args:
            end.args = (describe(),)
        raise


def file_digest(path: Path) -> str:
    """16 hexadecimal digits that change with a file's content.

    Raises:
        InputError: if there is no such file.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; give the path of one that is there") from None
    return digest.hexdigest()[:16]


def digest_of(*parts: object) -> str:
    """16 hexadecimal digits that change with any of the parts, whose repr() must say all of them."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def shorten(error: object, length: int = 120) -> str:
    """A library's message as one line of bounded length, to stand in brackets in ours."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[:length]}..."


def first_few(values: Sequence[object]) -> str:
    """At most five of them, so that an error stays one readable line."""
    shown = ", ".join(shorten(value, 60) for value in values[:5])
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"


def _last_line(error: Exception) -> str:
    """A DataLoader worker's error arrives with the worker's traceback before its message; only the message is for the user."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    last = lines[-1].removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")
    return last if len(last) <= LONGEST_MESSAGE else f"{last[:LONGEST_MESSAGE]}..."


def walk_files(folder: Path, suffixes: Sequence[str] = ()) -> list[str]:
    """The files below a folder by their paths relative to it, with `/`, sorted; the one rule on which files count.

    Linked files and folders are followed, but each folder is visited once, and none that the walk lies in. Left out are dead
    links, what is hidden (names with a dot in front, so also the `._` companions that macOS leaves), and what systems keep beside
    the user's files: thumbnails, trash, archives' remains.

    Args:
        suffixes: of files that count, lower case, with the dot; upper case counts as well. Without any, all do.

    Raises:
        OSError: if a folder cannot be listed.
    """
    real = Path(os.path.realpath(folder))
    found: list[str] = []
    _collect(Path(folder), "", suffixes, {str(place) for place in (real, *real.parents)}, found)
    return sorted(found)


def _collect(folder: Path, below: str, suffixes: Sequence[str], visited: set[str], found: list[str]) -> None:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in sorted(visible, key=lambda entry: (entry.is_symlink(), entry.name)):  # a folder before its links
        if entry.is_symlink() and _is_loop(entry):
            continue
        if entry.is_dir():
            if (real := os.path.realpath(entry.path)) not in visited:
                visited.add(real)
                _collect(folder / entry.name, f"{below}{entry.name}/", suffixes, visited, found)
        elif entry.is_file() and (not suffixes or os.path.splitext(entry.name)[1].lower() in suffixes):
            found.append(below + entry.name)


def _is_loop(entry: os.DirEntry) -> bool:
    """Whether an entry is a link that leads to itself."""
    try:
        entry.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def is_plain_name(text: str) -> bool:
    """Whether a text can name a file everywhere: it is Unicode, short enough, and holds no control characters or line ends."""
    try:
        content = text.encode()
        is_short = len(content) <= LONGEST_PATH and all(len(part) <= LONGEST_NAME for part in content.split(b"/"))
    except UnicodeEncodeError:  # bytes of another encoding, or half a character
        return False
    return is_short and not any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text)


def is_hidden(name: str) -> bool:
    """Whether walk_files leaves out a file or folder of this name."""
    return name.startswith((".", "~$")) or name in SYSTEM_NAMES


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffix; on success it becomes `path`, on failure it goes.

    The contents are flushed to disk before the rename, so a kill or a power cut leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{PARTIAL}{os.getpid()}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None], folder: str = "") -> None:
    """Refuse outputs that would take the place of an input, of each other, or of what a command writes as a whole folder.

    Args:
        outputs, inputs: flag -> path; None was not given.
        folder: the flag of the output that is a folder; the others are files, and none may lie in it.

    Raises:
        InputError: if there is such an output, or a file's name is that of a folder.
    """
    written = {flag: path.expanduser().resolve() for flag, path in outputs.items() if path is not None}
    read = {flag: path.expanduser().resolve() for flag, path in inputs.items() if path is not None}
    for flag, path in written.items():
        for other, taken in [*read.items(), *((f, p) for f, p in written.items() if f != flag)]:
            if path == taken:
                raise InputError(f"{flag} {path}: is also what {other} names; give another name")
        if flag != folder and path.is_dir():
            raise InputError(f"{flag} {path}: is a folder, but the name of a file is needed")
        if flag != folder and written.get(folder) in path.parents:
            raise InputError(f"{flag} {path}: lies in {folder}, which is written anew as a whole; give another place")


def remove_partial_files(folder: Path) -> None:
    """Delete what killed writers left in `folder`: partial files and folders of processes of this machine that are no more."""
    for leftover in Path(folder).glob(f"{PARTIAL}*"):
        writer = leftover.name.removeprefix(PARTIAL).partition("-")[0]
        if not writer.isdecimal() or _is_running(int(writer)):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def write_json(path: Path, value: object, *, is_compact: bool = False) -> None:
    """Write `value` atomically; keys keep their order, so the same value gives the same bytes.

    Args:
        is_compact: on one line, which Python writes many times as fast.
    """
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(value, indent=None if is_compact else 1) + "\n")


def read_json(path: Path) -> object:
    """Parse a JSON file, in any of Unicode's encodings, with or without a byte order mark.

    Raises:
        InputError: if it is missing, not JSON, or holds what no other program would read: text that is no Unicode, numbers of
            thousands of digits, lists in lists without end.
    """
    content = _read_bytes(path, "a JSON file")
    try:
        return parse_json(content.decode(json.detect_encoding(content)))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({shorten(error)}); write it again with the tool that made it") from None


def parse_json(text: str) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: as read_json; the message is json's.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("lists in lists without end") from None
    if HALF_CHARACTER.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # refuses a half that stands alone
    return value


def read_yaml(path: Path) -> object:
    """Parse a YAML file of settings.

    Raises:
        InputError: if it is missing, no YAML, or so large or deep that it is no file of settings.
    """
    content, advice = _read_bytes(path, "a YAML file"), "correct it"
    try:
        if len(content) > LARGEST_YAML:
            raise InputError(f"{path}: {len(content)} bytes, but a file of settings has at most {LARGEST_YAML}; give another one")
        content, depth = content.decode("utf-8-sig"), 0  # as all that read it later
        for event in yaml.parse(content):  # before it is loaded: the loaders recurse, and copy what an alias names
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML or isinstance(event, yaml.AliasEvent):
                found = f"more than {DEEPEST_YAML} levels" if depth > DEEPEST_YAML else f"an alias *{shorten(event.anchor, 20)}"
                raise InputError(f"{path}: holds {found}, which no settings here need; {advice}")
        return yaml.safe_load(content)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:  # of its constructors
        raise InputError(f"{path}: no YAML ({shorten(error)}); {advice}") from None


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; give the path of {what}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give the path of {what}") from None
