"""Kill a command at seeded moments, run it again to its end, and compare with a run that nobody disturbed."""

import hashlib
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import torch

from tests.kills import commands
from tests.kills.commands import Job
from tests.kills.zygote import REPOSITORY, Ended, Zygote

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
EARLIEST = 0.05
"""Seconds; before that Python still reads the script, which cannot answer yet."""
ANOTHER = 0.3
"""Probability that a run after a kill is killed as well."""
PATIENCE = 30.0
"""Seconds, and as many times the undisturbed duration, after which a run hangs."""
PARTIAL = (".partial-", ".tmp")
"""How a file is named until it is whole: ours, and those of safetensors."""
PROGRESS = re.compile(r"\d+/\d+ +[-:\d]+ +left *$")
"""A line of runtime.progress, which stands on stderr, too."""
LATE_SHARE = 4
"""A job is given up when so many times the wanted kills came after its end."""


@dataclass(frozen=True)
class Finding:
    """Something that the command must not do, and how to see it again."""

    job: str
    number: int
    what: str
    """In words that are the same for every such finding."""
    detail: str
    history: str
    """The signals and when they came."""


@dataclass
class Tally:
    """What became of a job's kills."""

    wanted: int
    landed: Counter = field(default_factory=Counter)
    """Name of the signal -> how often it met a running command."""
    under_way: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the wanted kills, what is done or under way."""
        return (self.landed.total() + self.under_way) / self.wanted


@dataclass(frozen=True)
class Reference:
    """An undisturbed run."""

    contents: dict[str, str]
    seconds: float
    stderr: frozenset[str]
    """Its lines, without numbers."""


@dataclass(frozen=True)
class Bench:
    """Where one job runs: folders, and the zygote that runs it."""

    name: str
    job: Job
    inputs: Path
    output: Path
    zygote: Zygote

    def start_anew(self) -> None:
        """Make the output what it is before the first run."""
        shutil.rmtree(self.output, ignore_errors=True)
        if self.job.start:
            shutil.copytree(self.inputs / self.job.start, self.output)
        else:
            self.output.mkdir(parents=True)

    def run(self, duration: float, kill: tuple[signal.Signals, float] | None = None) -> Ended:
        """Run the command, whose undisturbed duration is known."""
        arguments = [part.format(inputs=self.inputs, output=self.output) for part in self.job.arguments.split()]
        command = [str(REPOSITORY / self.job.script), *arguments]
        return self.zygote.run(command, self.output.with_suffix(".log"), PATIENCE + PATIENCE * duration, kill)

    def results(self) -> Iterator[Path]:
        """The files that are compared and that are there."""
        old = self.inputs / self.job.start if self.job.start else None
        for pattern in (*self.job.results, *self.job.weights):
            for path in sorted(self.output.glob(pattern)):
                is_old = old is not None and (old / path.relative_to(self.output)).exists()
                if path.is_file() and not path.name.startswith(".") and not is_old:
                    yield path

    def contents(self) -> dict[str, str]:
        """Name of a result -> its digest; of a checkpoint, each tensor."""
        found = {}
        for path in self.results():
            name = str(path.relative_to(self.output))
            if any(path.match(pattern) for pattern in self.job.weights):
                content = torch.load(path, map_location="cpu", weights_only=False)
                found |= {f"{name}: {key}".replace(str(self.output), "OUTPUT"): _digest(t) for key, t in _tensors(content)}
            else:
                content = path.read_bytes().replace(str(self.output).encode(), b"OUTPUT")
                if path.suffix in (".md", ".html"):
                    content = re.sub(rb"20\d\d-\d\d-\d\d", b"DATE", content)
                found[name] = hashlib.sha256(content).hexdigest()
        return found

    def reference(self) -> Reference:
        """Run undisturbed.

        Raises:
            RuntimeError: if it fails.
        """
        self.start_anew()
        ended = self.run(PATIENCE)
        if ended.code != 0:
            raise RuntimeError(f"code {ended.code}: {' | '.join(ended.stderr[-3:])}")
        return Reference(self.contents(), ended.seconds, frozenset(map(_without_numbers, ended.stderr)))

    def try_kills(self, reference: Reference, seed: int, number: int) -> tuple[Counter, list[Finding]]:
        """Kill once, or a few times one after the other, run to the end, and compare; returns which kills landed.

        Signals and moments depend on job, seed and number alone.
        """
        rng, landed, findings, history = random.Random(f"{self.name} {seed} {number}"), Counter(), [], []

        def find(what: str, detail: str) -> None:
            findings.append(Finding(self.name, number, what, detail, ", ".join(history)))

        self.start_anew()
        while True:
            sent, moment = rng.choice(SIGNALS), EARLIEST + rng.random() * reference.seconds
            ended = self.run(reference.seconds, (sent, moment))
            if not ended.landed:
                history.append("ended undisturbed")
            else:
                landed[sent.name] += 1
                history.append(f"{sent.name} after {moment:.3f} s of {reference.seconds:.3f} s")
            self._judge(ended, sent if ended.landed else None, reference, find)
            if not ended.landed or rng.random() > ANOTHER:
                break
        if ended.landed:
            history.append("then undisturbed")
            self._judge(self.run(reference.seconds), None, reference, find)
        if self.job.goes_on and (leftovers := [path.name for path in self.output.rglob(".*") if path.name.startswith(PARTIAL)]):
            find("a partial file is left", ", ".join(leftovers))
        return landed, findings

    def _judge(self, ended: Ended, sent: signal.Signals | None, reference: Reference, find: Callable[[str, str], None]) -> None:
        """Look for what a run must not do, whatever became of its results."""
        said = [line for line in ended.stderr if _without_numbers(line) not in reference.stderr and not PROGRESS.search(line)]
        if not ended.is_group_gone:
            find("processes are left running", "of its group, 10 s after its end")
        if ended.code is None:
            find("it hangs", f"{ended.seconds:.0f} s after its start")
        elif any(line.startswith("Traceback") for line in said):
            place = next((line.strip() for line in reversed(said) if line.startswith("  File")), "")
            find("a traceback", f"code {ended.code}: {said[-1]} {place}")
        elif sent is None or ended.code == 0:
            if ended.code != 0:
                find("undisturbed, it fails", f"code {ended.code}: {' | '.join(said)}")
            elif difference := self._difference(reference):
                find("results differ" if sent is None else "code 0, but unfinished", difference)
        elif sent == signal.SIGINT or (sent == signal.SIGTERM and ended.code != -sent):
            if ended.code != 128 + sent:
                find(f"{sent.name} ends it with another code than {128 + sent}", str(ended.code))
            if len(said) != 1:
                find("not one line on stderr", " | ".join(said) or "none")
            elif problem := self._untruth(said[0]):
                find(problem, said[0])

    def _untruth(self, line: str) -> str | None:
        """What is wrong with the line of an interrupted command."""
        has_kept = next(self.results(), None) is not None
        if not line.startswith("interrupted"):
            return "the line does not say that it was interrupted"
        if "nothing was kept" in line:
            return "the line says that nothing was kept, but a result is there" if has_kept else None
        if any(words in line for words in ("go on", "is kept", "kept in")) and not has_kept:
            return "the line promises to go on, but nothing was kept"
        if "go on" in line and not self.job.goes_on:
            return "the line promises to go on, but the command starts anew"
        named = re.search(r"kept in (.+?)(?:;|$)", line)
        place = REPOSITORY / named[1] if named else self.output  # a path for the user may be relative to the repository
        return None if place.exists() else f"the line names {place}, which is not there"

    def _difference(self, reference: Reference) -> str:
        try:
            return differences(self.contents(), reference.contents)
        except Exception as error:  # whatever a broken checkpoint makes torch say
            return f"a checkpoint that does not read: {error!r}"


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Which results differ, are missing or are too many; empty where all are equal."""
    kinds = {
        "missing": [name for name in wanted if name not in found],
        "not of the undisturbed run": [name for name in found if name not in wanted],
        "different": [name for name in wanted if found.get(name, wanted[name]) != wanted[name]],
    }
    return "; ".join(f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in kinds.items() if names)


def _digest(tensor: torch.Tensor) -> str:
    plain = tensor.contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + plain.numpy().tobytes()).hexdigest()


def _tensors(content: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in nested dicts and lists, with the keys that lead to them."""
    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, (Mapping, list, tuple)):
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            if key != "callbacks":  # of Lightning: its scores of checkpoints that it has seen
                yield from _tensors(value, f"{name}.{key}" if name else str(key))


def _without_numbers(line: str) -> str:
    return re.sub(r"\d+", "0", line)


def draw_inputs(zygote: Zygote, folder: Path) -> Path:
    """Make the folder of all jobs' inputs anew.

    Raises:
        RuntimeError: if that fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ended = zygote.run([commands.__file__, str(folder)], folder.with_suffix(".log"), seconds=300)
    if ended.code != 0:
        raise RuntimeError("\n".join(ended.stderr))
    return folder


def deal(jobs: Mapping[str, Job], kills: int) -> dict[str, int]:
    """How many kills each job gets: by their shares, and at least one."""
    dealt = dict.fromkeys(jobs, 1)
    for _ in range(kills - len(jobs)):
        dealt[min(dealt, key=lambda name: dealt[name] / jobs[name].share)] += 1
    return dealt


def kill_all(
    jobs: Mapping[str, Job],
    inputs: Path,
    output: Path,
    *,
    kills: int,
    seed: int,
    zygotes: Sequence[Zygote],
    numbers: Sequence[int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Tally]:
    """Kill the jobs, as many at once as there are zygotes.

    Args:
        inputs: folder of draw_inputs.
        output: gets a folder for each job.
        kills: that land, in all.
        numbers: of the kills to repeat, of every job; else as many as it takes.
        say: is told every finding, and every 20 seconds how far it is.
    """
    tallies = {name: Tally(wanted) for name, wanted in deal(jobs, kills).items()}
    waiting = {name: list(numbers or range(LATE_SHARE * tally.wanted)) for name, tally in tallies.items()}
    references: dict[str, Reference] = {}
    start, lock = time.monotonic(), Lock()

    def note(name: str, findings: Sequence[Finding]) -> None:
        tallies[name].findings += findings
        for finding in findings:
            say(f"finding: {finding.job} {finding.number}: {finding.what} ({finding.history}): {finding.detail}")

    def bench(name: str, worker: int) -> Bench:
        return Bench(name, jobs[name], inputs, output / f"{name}-{worker}", zygotes[worker])

    def measure(worker: int) -> None:
        for name in list(jobs)[worker :: len(zygotes)]:
            try:
                references[name] = bench(name, worker).reference()
            except RuntimeError as error:
                note(name, [Finding(name, 0, "undisturbed, it fails", str(error), "undisturbed")])
                waiting[name].clear()

    def take() -> tuple[str, int] | None:
        """The next kill, of the job that lags behind most."""
        with lock:
            behind = [name for name, tally in tallies.items() if waiting[name] and (numbers or tally.share < 1)]
            if not behind:
                return None
            name = min(behind, key=lambda name: tallies[name].share)
            tallies[name].under_way += 1
            return name, waiting[name].pop(0)

    def kill(worker: int) -> None:
        while (task := take()) is not None:
            (name, number), before = task, time.monotonic()
            landed, findings = bench(name, worker).try_kills(references[name], seed, number)
            with lock:
                tallies[name].landed += landed
                tallies[name].under_way -= 1
                tallies[name].seconds += time.monotonic() - before
                note(name, findings)

    with ThreadPoolExecutor(len(zygotes)) as pool:
        try:
            for step in (measure, kill):
                workers = [pool.submit(step, worker) for worker in range(len(zygotes))]
                while wait(workers, timeout=20).not_done:
                    done = sum(tally.landed.total() for tally in tallies.values())
                    found = sum(len(tally.findings) for tally in tallies.values())
                    say(f"{done} of {kills} kills, {found} findings, {time.monotonic() - start:.0f} s")
                for worker in workers:
                    worker.result()
        finally:
            for left in waiting.values():  # after Ctrl-C the workers end with what they are at
                left.clear()
    return tallies
