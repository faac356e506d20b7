from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from bitnet import InvalidArgumentError
from bitnet.program import workers as workers_module
from bitnet.program.workers import Workers, default_threads, yield_function


class Items:
    """Work that many threads can share: each item is taken once, and all wait for the last."""

    def __init__(self, n: int) -> None:
        self.done: list[tuple[int, int]] = []
        self._left = iter(range(n))
        self._n = n
        self._all_done = threading.Event()

    def __call__(self, _thread: int) -> None:
        for item in self._left:
            self.do(item)
            self.done.append((item, threading.get_ident()))
            if len(self.done) == self._n:
                self._all_done.set()
        self._all_done.wait(timeout=60)

    def do(self, item: int) -> None:
        time.sleep(0.001)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_item_is_done_once_when_a_run_returns(n: int) -> None:
    workers = Workers(n)
    for _ in range(20):
        items = Items(50)
        workers.run(items)
        assert sorted(item for item, _ in items.done) == list(range(50))
    workers.close()


def test_other_threads_take_a_share() -> None:
    workers = Workers(3)
    helpers = set()
    deadline = time.monotonic() + 60
    while len(helpers) < 3:  # who comes late finds nothing to do, so it may take a few runs
        assert time.monotonic() < deadline
        items = Items(50)
        workers.run(items)
        helpers |= {thread for _, thread in items.done}
    workers.close()


def test_a_thread_that_is_held_up_does_not_hold_up_a_run() -> None:
    workers = Workers(2)
    caller = threading.get_ident()
    held, go_on = threading.Event(), threading.Event()

    def hold_the_other(_thread: int) -> None:
        if threading.get_ident() != caller:
            held.set()
            go_on.wait(timeout=60)

    workers.run(hold_the_other)
    assert held.wait(timeout=60)
    for _ in range(10):
        items = Items(5)
        workers.run(items)
        assert len(items.done) == 5
        assert {thread for _, thread in items.done} == {caller}
    go_on.set()
    workers.close()


@pytest.mark.parametrize("n", [1, 3])
def test_jobs_are_done_once_each_and_their_error_comes_out(n: int) -> None:
    workers = Workers(n)
    done: list[int] = []
    workers.run_all([])
    workers.run_all([partial(done.append, i) for i in range(50)])
    assert sorted(done) == list(range(50))
    with pytest.raises(ZeroDivisionError):
        workers.run_all([partial(divmod, 1, i) for i in (1, 0, 2)])
    workers.close()


def test_an_interrupt_comes_through_only_when_the_work_is_done() -> None:
    class Interrupted:
        """A queue that Ctrl-C hits, when another thread has already started."""

        def qsize(self) -> int:
            return 0

        def put(self, _: object) -> None:
            raise KeyboardInterrupt

    workers = Workers(2)
    workers._queues.append(Interrupted())
    items = Items(30)
    with pytest.raises(KeyboardInterrupt):
        workers.run(items)
    assert sorted(item for item, _ in items.done) == list(range(30))
    workers._queues.pop()
    workers.close()


def test_closing_ends_the_threads() -> None:
    before = set(threading.enumerate())
    workers = Workers(4)
    workers.run(lambda _: None)
    team = set(threading.enumerate()) - before
    assert len(team) == 3
    workers.close()
    for thread in team:
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.mark.parametrize("n", [0, -1, workers_module.MAX_THREADS + 1])
def test_a_senseless_number_of_threads_is_refused(n: int) -> None:
    with pytest.raises(InvalidArgumentError, match="threads"):
        Workers(n)


def test_the_default_number_of_threads_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BITNET_THREADS", "3")
    assert default_threads(10**9) == default_threads(1) == 3
    monkeypatch.setenv("BITNET_THREADS", "many")
    with pytest.raises(InvalidArgumentError, match="BITNET_THREADS"):
        default_threads(10**9)


def test_small_models_get_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITNET_THREADS", raising=False)
    monkeypatch.setattr(workers_module, "available_cores", lambda: 4)
    assert [default_threads(mb * 10**6) for mb in (0, 3, 8, 17, 24, 1000)] == [1, 1, 1, 2, 3, 4]


def test_there_is_a_function_to_give_the_core_away() -> None:
    assert yield_function()
