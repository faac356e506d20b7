from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from bitnet import InvalidArgumentError, UnsupportedOperationError
from bitnet.program import workers as workers_module
from bitnet.program.topology import NODES
from bitnet.program.workers import Workers, team_size, yield_function

needs_pinning = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or not NODES.is_dir(),
    reason="this system pins no threads or tells no memory nodes",
)


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


def test_the_number_of_threads_is_as_asked_or_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers_module, "available_cores", lambda: 8)
    monkeypatch.setenv("BITNET_THREADS", "3")
    assert team_size(None, 10**9) == team_size(None, 1) == 3
    assert team_size(5, 1) == 5
    monkeypatch.setenv("BITNET_THREADS", "many")
    with pytest.raises(InvalidArgumentError, match="BITNET_THREADS"):
        team_size(None, 10**9)


def test_more_threads_than_cores_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "available_cores", lambda: 2)
    assert team_size(64, 10**9) == 2
    for senseless in (0, -1, workers_module.MAX_THREADS + 1):
        with pytest.raises(InvalidArgumentError, match="threads"):
            team_size(senseless, 10**9)


def test_small_models_get_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITNET_THREADS", raising=False)
    monkeypatch.setattr(workers_module, "available_cores", lambda: 4)
    sizes = [mb * 10**6 for mb in (0, 3, 8, 17, 24, 1000)]
    assert [team_size(None, size) for size in sizes] == [1, 1, 1, 2, 3, 4]


def test_idle_threads_use_no_cpu() -> None:
    workers = Workers(4)
    workers.run(Items(50))
    time.sleep(0.05)  # until the others are done too
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03
    workers.close()


@needs_pinning
def test_with_numa_each_thread_has_a_core_and_the_caller_keeps_its_own() -> None:
    mine = os.sched_getaffinity(0)
    workers = Workers(len(mine), numa=True)
    seen: dict[int, set[int]] = {}
    together = threading.Barrier(len(mine))

    def look(thread: int) -> None:
        seen[thread] = os.sched_getaffinity(0)
        together.wait(timeout=60)

    workers.run(look)
    assert sorted(core for cores in seen.values() for core in cores) == sorted(mine)
    assert threading.get_ident() not in seen
    assert os.sched_getaffinity(0) == mine
    items = Items(20)
    workers.run(items)
    assert sorted(item for item, _ in items.done) == list(range(20))
    workers.close()


@needs_pinning
def test_with_numa_each_thread_is_the_first_to_touch_its_region() -> None:
    class Memory(np.ndarray):
        """Remembers who wrote where."""

        def __setitem__(self, key: Any, value: Any) -> None:
            touched.append((threading.current_thread().name, key.start, key.stop, key.step))
            super().__setitem__(key, value)

    n = len(os.sched_getaffinity(0))
    touched: list[tuple[str, int, int, int]] = []
    workers = Workers(n, numa=True)
    workers.place(np.zeros(1000 * n, np.uint8).view(Memory))
    expected = [(f"bitnet-worker-{i}", 1000 * i, 1000 * i + 1000, 4096) for i in range(n)]
    assert sorted(touched) == expected
    array = np.arange(60, dtype=np.int32).reshape(3, 20)
    copy = workers.near(array)
    assert np.array_equal(copy, array)
    assert not np.shares_memory(copy, array)
    workers.close()


@needs_pinning
def test_a_core_that_is_refused_is_told_of_and_no_thread_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    before = set(threading.enumerate())
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(UnsupportedOperationError, match=r"to core \d+: not permitted"):
        Workers(1, numa=True)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
        assert not thread.is_alive()


@needs_pinning
def test_with_numa_an_error_comes_to_the_caller_and_the_threads_go_on() -> None:
    workers = Workers(1, numa=True)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            workers.run(lambda _: divmod(1, 0))
    items = Items(5)
    workers.run(items)
    assert len(items.done) == 5
    workers.close()


def test_without_numa_memory_is_left_alone() -> None:
    memory = np.ones(5000, np.uint8)
    workers = Workers(1)
    workers.place(memory)
    assert memory.all()
    assert workers.near(memory) is memory


def test_there_is_a_function_to_give_the_core_away() -> None:
    assert yield_function()
