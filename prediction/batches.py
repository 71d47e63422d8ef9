"""Images that wait at the same time for a network, seen by it at once.

There is no clock: while a network is busy, the threads that want it wait, and the one whose turn comes takes along what else
waits, of images of its size. Which images share a batch is left to chance, so that sums may be added in another order:
docs/scale.md says how much that changes. A batch of one is the same to the last bit in every run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from runtime.files import InputError

Named = tuple[str, np.ndarray]
"""(image id, (H, W, 3) uint8 RGB)."""


@dataclass(eq=False)
class _Request:
    image: Named
    result: object = None
    seconds: float = 0.0
    error: Exception | None = None
    is_done: bool = False


class Batches:
    """Gives what `run` gives of each image, to many threads at once.

    Args:
        run: of at most `size` images of one height and width, called by one thread at a time.
    """

    def __init__(self, run: Callable[[Sequence[Named]], Sequence[object]], size: int = 1):
        self.run, self.size = run, size
        self._turn, self._lock = Lock(), Lock()
        self._waiting: list[_Request] = []

    def __call__(self, image_id: str, image: np.ndarray) -> tuple[object, float]:
        """What `run` gives of this image, and its share of the seconds that it took; raises what `run` raises of it."""
        request = _Request((image_id, image))
        with self._lock:
            self._waiting.append(request)
        with self._turn:
            if not request.is_done:
                self._do(self._take(request))
        if request.error is not None:
            raise request.error
        return request.result, request.seconds

    def _take(self, first: _Request) -> list[_Request]:
        """The request and others of its size, the oldest ones first, none of which waits any more."""
        with self._lock:
            same = [r for r in self._waiting if r is not first and r.image[1].shape == first.image[1].shape]
            taken = [first, *same[: self.size - 1]]
            self._waiting = [r for r in self._waiting if r not in taken]
        return taken

    def _do(self, requests: list[_Request]) -> None:
        start = time.perf_counter()
        try:
            results = self.run([request.image for request in requests])
        except InputError as error:
            if len(requests) > 1:  # which of them it is of
                for request in requests:
                    self._do([request])
                return
            requests[0].error, results = error, [None]
        except BaseException as error:
            for request in requests[1:]:  # its own thread raises it
                request.error, request.is_done = RuntimeError(f"the batch of {requests[0].image[0]!r} failed: {error}"), True
            raise
        seconds = (time.perf_counter() - start) / len(requests)
        for request, result in zip(requests, results, strict=True):
            request.result, request.seconds, request.is_done = result, seconds, True


def networks_of(predictor: object) -> Iterator[object]:
    """The networks that a predictor consists of, each once: those with a `batch_size`."""
    if hasattr(predictor, "batch_size"):
        yield predictor
        return
    parts = [getattr(predictor, name, None) for name in ("instances", "semantics", "predictor")]
    parts.append(getattr(getattr(predictor, "source", None), "predictor", None))
    seen: list[object] = []
    for part in parts:
        for network in () if part is None else networks_of(part):
            if not any(network is other for other in seen):
                seen.append(network)
    yield from seen


def set_batch_size(predictor: object, batch_size: int) -> int:
    """Let the networks of a predictor see so many images at once; return how many networks there are."""
    networks = list(networks_of(predictor))
    for network in networks:
        network.batch_size = batch_size
    return len(networks)
