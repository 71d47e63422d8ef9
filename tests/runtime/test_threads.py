"""Work in threads: order, bounded look-ahead, and errors."""

import threading
import time

import pytest

from runtime.threads import in_threads


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers):
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(in_threads(slow_first, range(20), workers)) == [k * k for k in range(20)]


def test_at_most_two_results_a_worker_wait():
    started = []
    results = in_threads(started.append, range(100), workers=3)
    assert next(results) is None
    time.sleep(0.05)
    assert len(started) <= 2 * 3 + 1


def test_several_items_are_worked_on_at_once():
    both = threading.Barrier(2, timeout=10)
    list(in_threads(lambda _: both.wait(), range(4), workers=2))  # breaks if one waits for the other


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_at_its_place_and_stops_the_rest(workers):
    done = []

    def work(item: int) -> int:
        if item == 4:
            raise ValueError("the fourth")
        done.append(item)
        return item

    results = in_threads(work, range(1000), workers)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert max(done) <= 4 + 2 * workers
