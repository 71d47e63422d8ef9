"""Work on many images at once, results in order, in memory that does not grow with their number.

Threads suffice: decoding, compressing, the kernels and torch all release the interpreter's lock.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield work(item) in the order of the items; at most 2 * workers results wait. One worker means no threads at all.

    The first exception of `work` is raised at its place in the order, and nothing more is started.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, item) for item in islice(remaining, 2 * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """One thread a core, at most 8."""
    return min(8, os.cpu_count() or 1)
