from __future__ import annotations

import _thread
import threading
import time

import pytest

from bitnet import InvalidArgumentError
from bitnet.program import workers as workers_module
from bitnet.program.workers import Workers, default_threads, yield_function


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_index_runs_once_on_a_thread_of_its_own(n: int) -> None:
    workers = Workers(n)
    for _ in range(20):
        seen: list[tuple[int, int]] = []
        together = threading.Barrier(n)

        def work(
            i: int,
            seen: list[tuple[int, int]] = seen,
            together: threading.Barrier = together,
        ) -> None:
            together.wait(timeout=60)  # passes only if all run at the same time
            seen.append((i, threading.get_ident()))

        workers.run(work)
        assert sorted(i for i, _ in seen) == list(range(n))
        assert len({thread for _, thread in seen}) == n
    workers.close()


def test_an_interrupt_comes_through_only_after_the_whole_team_is_done() -> None:
    workers = Workers(3)
    finished: list[int] = []

    def work(i: int) -> None:
        if i == 1:
            _thread.interrupt_main()
        time.sleep(0.1)
        finished.append(i)

    with pytest.raises(KeyboardInterrupt):
        workers.run(work)
    assert sorted(finished) == [0, 1, 2]
    workers.run(finished.append)
    assert sorted(finished) == [0, 0, 1, 1, 2, 2]
    workers.close()


def test_closing_ends_the_threads() -> None:
    before = set(threading.enumerate())
    workers = Workers(4)
    workers.run(lambda _: None)
    team = set(threading.enumerate()) - before
    assert len(team) == 4
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
    assert default_threads() == 3
    monkeypatch.setenv("BITNET_THREADS", "many")
    with pytest.raises(InvalidArgumentError, match="BITNET_THREADS"):
        default_threads()
    monkeypatch.delenv("BITNET_THREADS")
    assert default_threads() >= 1


def test_there_is_a_function_to_give_the_core_away() -> None:
    assert yield_function()
