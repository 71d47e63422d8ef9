"""Judge cases in forked processes with limited memory: a crash, a hang or a full memory is a finding like a wrong result.

A finding is told from others by its kind and by where it happened. The first case of each is kept and made as small as it goes;
the others are counted.
"""

import copy
import faulthandler
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from multiprocessing.connection import Pipe, wait
from pathlib import Path

from runtime.command_line import REPOSITORY
from runtime.files import InputError
from tests.fuzz.mutations import places
from tests.fuzz.targets import Target, make_case

KINDS = ACCEPTED, REFUSED, WRONG, ERROR, CRASH, HANG, MEMORY = "accepted", "refused", "wrong", "error", "crash", "hang", "memory"
BATCH_CASES = 2000
"""After so many a process ends and another one goes on, so that what a library keeps in memory is not kept for long."""
MOST_LOST = 20
"""Cases of one target that may end their process; then the rest of that target is left out, as each costs seconds."""
REPORT_SECONDS, SHRINK_SECONDS = 15, 20
PROGRAM_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True)
class Limits:
    """What one case may take."""

    memory_gb: float = 4
    """Of address space, beyond what the process has when it starts."""
    case_seconds: float = 10


@dataclass(frozen=True)
class Verdict:
    """What became of one case. `reason` tells findings from each other; `detail` is a traceback."""

    kind: str
    reason: str = ""
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        """Anything but a right result and an InputError."""
        return self.kind not in (ACCEPTED, REFUSED)

    @property
    def fault(self) -> str:
        """Equal for cases that show the same fault."""
        return f"{self.kind}, {self.reason}"


@dataclass(frozen=True)
class Finding:
    """The first case of a fault. `first` is the case from which on its process must run to show it; mostly `number` itself."""

    target: str
    seed: int
    number: int
    first: int
    verdict: Verdict
    content: bytes
    smallest: bytes

    @property
    def command(self) -> str:
        """What shows it again."""
        only = f"{self.first}" if self.first == self.number else f"{self.first}-{self.number}"
        return f"python tests/fuzz/run.py --targets {self.target} --seed {self.seed} --only {only}"


@dataclass
class Tally:
    """What became of the cases of one target: how many there are by kind of verdict, and the findings by fault."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)

    @property
    def is_given_up(self) -> bool:
        """Whether so many cases ended their process that the rest is left out."""
        return self.counts[CRASH] + self.counts[HANG] >= MOST_LOST


def judge_here(target: Target, content: bytes, folder: Path, started: list[str]) -> Verdict:
    """Check one case in this process.

    Args:
        started: a list to which an audit hook adds each start of another program.
    """
    started.clear()
    expected = target.seeds().get(content)
    try:
        target.check(content, folder, None if expected is InputError else expected)
        verdict = Verdict(WRONG, "reads what must be refused") if expected is InputError else Verdict(ACCEPTED)
    except InputError as error:
        verdict = Verdict(REFUSED)
        if expected is not None and expected is not InputError:
            verdict = Verdict(WRONG, "refuses a whole file", str(error))
        elif len(str(error).splitlines()) != 1:
            verdict = Verdict(WRONG, f"its message is not one line, {_place(error)}", str(error))
    except Exception as error:
        verdict = _judge_exception(error)
    return Verdict(WRONG, f"starts another program ({started[0]})") if started else verdict


def _judge_exception(error: Exception) -> Verdict:
    """A check's own assertion says what is wrong; all else is a traceback that a user would see."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    detail = "".join(traceback.format_exception(error))[-4000:]
    if isinstance(error, AssertionError) and raised_in.is_relative_to(Path(__file__).parent):
        reason, _, rest = str(error).partition(":")
        return Verdict(WRONG, reason or f"assertion, {_place(error)}", rest.strip() or detail)
    is_memory = isinstance(error, MemoryError) or "allocate memory" in str(error) or "not enough memory" in str(error)
    return Verdict(MEMORY if is_memory else ERROR, f"{type(error).__name__}, {_place(error)}", detail)


def _place(error: BaseException) -> str:
    """The innermost line of the project that an exception passed."""
    frames = [f'"{frame.filename}", line {frame.lineno}' for frame in traceback.extract_tb(error.__traceback__)]
    return _innermost(reversed(frames))


def _innermost(frames: Iterable[str]) -> str:
    """The first line of the project among '"PATH", line NUMBER ...'."""
    for frame in frames:
        path, _, number = frame.partition('", line ')
        path = path.partition('"')[2]
        if path.startswith(str(REPOSITORY)) and ".venv" not in path:
            return f"{Path(path).relative_to(REPOSITORY)}:{number.split()[0]}"
    return "outside of the project"


class Child:
    """A forked process that judges cases, one after the other, and sends each verdict to its parent."""

    def __init__(self, target: Target, contents: Iterable[bytes], limits: Limits):
        self.limits, self.is_over, self.is_hanging = limits, False, False
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=SCRATCH))
        self.last = time.monotonic()
        self.receiver, sender = Pipe(duplex=False)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                started = _confine(self.folder, limits)
                for content in contents:
                    sender.send(judge_here(target, content, self.folder, started))
                status = 0
            except Exception:  # of the harness
                (self.folder / "faults").write_text(traceback.format_exc())
            finally:
                os._exit(status)
        sender.close()

    def receive(self) -> list[Verdict]:
        """The verdicts since the last call. Where a case has ended the process, its verdict is the last."""
        verdicts = []
        try:
            while self.receiver.poll():
                verdicts.append(self.receiver.recv())
                self.last = time.monotonic()
        except (EOFError, OSError):
            lost = self._end()
            return [*verdicts, lost] if lost else verdicts
        overtime = time.monotonic() - self.last - self.limits.case_seconds
        if overtime > 0:  # SIGABRT first, so that faulthandler can write where it is
            os.kill(self.pid, signal.SIGKILL if overtime > 2 else signal.SIGABRT)
            self.is_hanging = True
        return verdicts

    def kill(self) -> None:
        """End it where it still works."""
        if not self.is_over:
            os.kill(self.pid, signal.SIGKILL)
            self._end()

    def _end(self) -> Verdict | None:
        """Wait for it and clean up; what ended it, or None where it came to its end."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.is_over = True
        self.receiver.close()
        faults = self.folder / "faults"
        detail = faults.read_text(errors="replace")[-4000:] if faults.exists() else ""
        shutil.rmtree(self.folder, ignore_errors=True)
        if status == 0:
            return None
        place = _innermost(line for line in detail.splitlines() if line.startswith("  File "))
        if self.is_hanging:
            return Verdict(HANG, f"no end, {place}", detail)
        return Verdict(CRASH, f"{signal.Signals(-status).name if status < 0 else f'exit code {status}'}, {place}", detail)


def _confine(folder: Path, limits: Limits) -> list[str]:
    """Limit this process, silence it, and return the list that names each start of another program."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT):
        signal.signal(number, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    faulthandler.enable(os.open(folder / "faults", os.O_CREAT | os.O_WRONLY), all_threads=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    statm = Path("/proc/self/statm")
    if statm.exists():
        most = int(statm.read_text().split()[0]) * resource.getpagesize() + int(limits.memory_gb * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event in PROGRAM_STARTS else None)
    return started


def judge_each(
    target: Target, contents: Callable[[], Iterable[bytes]], limits: Limits = Limits(), first: int = 0
) -> Iterator[Verdict]:
    """Check cases from `first` on, in one process; where one of them ends it, in another one from the next case on."""
    is_lost = True
    while is_lost:
        child, is_lost = Child(target, islice(contents(), first, None), limits), False
        try:
            while not child.is_over:
                wait([child.receiver], 0.1)
                for verdict in child.receive():
                    first, is_lost = first + 1, verdict.kind in (CRASH, HANG)
                    yield verdict
        finally:
            child.kill()


def judge(target: Target, contents: Sequence[bytes], limits: Limits = Limits()) -> Verdict:
    """The verdict on the last of some cases, all checked in one process."""
    return list(judge_each(target, lambda: contents, limits))[-1]


class Campaign:
    """Many cases of several targets, in `workers` processes at once.

    Args:
        cases: of each target, numbered from 0.
        report: takes a line for the user.
        on_finding: is told of each new fault at once, and again when its case was made small.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        cases: int,
        *,
        seed: int = 0,
        workers: int = 1,
        limits: Limits = Limits(),
        report: Callable[[str], None] = print,
        on_finding: Callable[[Finding], None] = lambda _: None,
    ):
        self.targets, self.cases, self.seed, self.workers, self.limits = targets, cases, seed, workers, limits
        self.report, self.on_finding = report, on_finding
        self.tallies = {name: Tally() for name in targets}
        self.begin = self.last_report = time.monotonic()

    def run(self) -> dict[str, Tally]:
        """Judge all cases; what became of them, by target."""
        warm_up(self.targets)
        waiting = deque((name, 0) for name in self.targets)
        running: list[tuple[Child, str, int]] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    name, first = waiting.popleft()
                    running.append((self._start(name, first), name, first))
                wait([child.receiver for child, _, _ in running], 0.1)
                for k, (child, name, number) in reversed(list(enumerate(running))):
                    number += self._receive(child, name, number)
                    running[k] = child, name, number
                    if child.is_over:
                        del running[k]
                        if number < self.cases and not self.tallies[name].is_given_up:
                            waiting.append((name, number))
                self._report_progress()
        finally:
            for child, _, _ in running:
                child.kill()
        for name, tally in self.tallies.items():
            for fault, finding in tally.findings.items():
                tally.findings[fault] = self._minimise(self.targets[name], finding)
        return self.tallies

    def _start(self, name: str, first: int) -> Child:
        target, seed = self.targets[name], self.seed
        numbers = range(first, min(first + BATCH_CASES, self.cases))
        return Child(target, (make_case(target, seed, number) for number in numbers), self.limits)

    def _receive(self, child: Child, name: str, number: int) -> int:
        """Count the verdicts that have come, on case `number` and those after it; how many there are."""
        verdicts, tally = child.receive(), self.tallies[name]
        for k, verdict in enumerate(verdicts, number):
            tally.counts[verdict.kind] += 1
            if verdict.is_finding and verdict.fault not in tally.findings:
                content = make_case(self.targets[name], self.seed, k)
                finding = Finding(name, self.seed, k, k, verdict, content, content)
                tally.findings[verdict.fault] = finding
                self.on_finding(finding)
                self.report(f"{name}: {verdict.fault}: {finding.command}")
        if tally.is_given_up and child.is_over:
            self.report(f"{name}: {MOST_LOST} cases crashed or did not end; the rest of this target is left out")
        return len(verdicts)

    def _report_progress(self) -> None:
        now = time.monotonic()
        if now - self.last_report > REPORT_SECONDS:
            self.last_report = now
            done = sum(tally.counts.total() for tally in self.tallies.values())
            faults = sum(len(tally.findings) for tally in self.tallies.values())
            total, speed = self.cases * len(self.targets), done / (now - self.begin)
            rest = f"{speed:.0f} a second" if done < total else "those of findings are made small"
            self.report(f"{done} of {total} cases, {rest}, findings: {faults}")

    def _minimise(self, target: Target, finding: Finding) -> Finding:
        """With a smaller case of the same fault; where it does not show alone, with the case from which on it does."""
        content, verdict = finding.content, finding.verdict
        if judge(target, [content], self.limits).fault == verdict.fault:
            finding = replace(finding, smallest=shrink(target, content, verdict, self.limits, self._report_progress))
        else:  # an earlier case has damaged the memory
            finding = replace(finding, first=max(finding.number - BATCH_CASES, 0))
        self.on_finding(finding)
        return finding


def warm_up(targets: Mapping[str, Target]) -> None:
    """Draw the seeds, and check one of each target here, so that what is compiled or imported then is so in every child."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        for target in targets.values():
            content = next(iter(target.seeds()))
            if judge(target, [content]).kind in (ACCEPTED, REFUSED):  # all else would be dangerous here
                with suppress(InputError):
                    target.check(content, Path(folder), None)
    gc.collect()
    gc.freeze()


def shrink(target: Target, content: bytes, wanted: Verdict, limits: Limits, on_case: Callable[[], None] = bool) -> bytes:
    """The smallest case of the same fault that is found in SHRINK_SECONDS; `on_case` is called at each try."""
    until, first = time.monotonic() + SHRINK_SECONDS, 0
    while True:
        candidates = partial(_without_parts, content)
        for k, verdict in enumerate(judge_each(target, candidates, limits, first), first):
            on_case()
            if time.monotonic() > until:
                return content
            if verdict.fault == wanted.fault:
                content, first = next(islice(candidates(), k, None)), k
                break
        else:
            if first == 0:
                return content
            first = 0


def _without_parts(content: bytes) -> Iterator[bytes]:
    """A JSON without one of its entries, outer ones first; then anything without a stretch of bytes, long ones first."""
    with suppress(ValueError, RecursionError):
        root = [json.loads(content)]
        for k in range(1, len(list(places(root)))):
            rest = copy.deepcopy(root)
            inside, key = list(places(rest))[k]
            del inside[key]
            yield json.dumps(rest[0]).encode()
    length = len(content) // 2
    while length:
        for start in range(0, len(content), length):
            yield content[:start] + content[start + length :]
        length //= 2
