"""The team's threads: Python threads that spend their time inside the compiled program."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from bitnet import config
from bitnet.errors import InvalidArgumentError

MAX_THREADS = 1024
_BYTES_PER_THREAD = 8_000_000

_BACKLOG = 2  # a thread that lags by more jobs than this is left out

# Takes the number of the thread that does it, from 0.
Work: TypeAlias = "Callable[[int], None]"


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads(model_bytes: int) -> int:
    """BITNET_THREADS, else one thread per core, as long as each has enough of the model to do.

    With less than about 8 MB a thread, waiting for each other costs more than it saves.
    """
    return config.threads() or max(1, min(available_cores(), model_bytes // _BYTES_PER_THREAD))


def yield_function() -> int:
    """Address of the C function int (void) that gives the core to another thread."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


class Workers:
    """`n` threads for work that any number of threads can do together: the caller's and others.

    Such work is a function that shares out its items among all who call it, and returns when all
    are done. Nobody has to come, and who comes late finds nothing to do.
    """

    def __init__(self, n: int) -> None:
        if not 1 <= n <= MAX_THREADS:
            raise InvalidArgumentError(f"threads must be in 1..{MAX_THREADS}, not {n}")
        self.n = n
        self._queues: list[SimpleQueue[Work | None]] = [SimpleQueue() for _ in range(n - 1)]
        for i, queue in enumerate(self._queues, 1):
            name = f"bitnet-worker-{i}"
            threading.Thread(target=_serve, args=(queue, i), name=name, daemon=True).start()

    def run(self, work: Work) -> None:
        """Do `work` here, with the help of the other threads."""
        try:
            for queue in self._queues:
                if queue.qsize() < _BACKLOG:
                    queue.put(work)
            work(0)
        except BaseException:
            # A Ctrl-C before the work was done here: others may be in the middle of it.
            _finish(work)
            raise

    def run_all(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Do each job once, on whichever thread is free; raises what the first bad one raised."""
        together = _Together(list(jobs))
        self.run(together)
        if together.error is not None:
            raise together.error

    def close(self) -> None:
        """End the threads."""
        for queue in self._queues:
            queue.put(None)


class _Together:
    """Jobs that all threads who call this share out; returns when all are done."""

    def __init__(self, jobs: Sequence[Callable[[], None]]) -> None:
        self.error: BaseException | None = None
        self._jobs = iter(jobs)
        self._left = len(jobs)
        self._lock = threading.Lock()
        self._done = threading.Event()
        if not jobs:
            self._done.set()

    def __call__(self, thread: int) -> None:
        while True:
            with self._lock:
                job = next(self._jobs, None)
            if job is None:
                break
            try:
                if self.error is None:
                    job()
            except BaseException as error:  # noqa: BLE001  # raised again where all come together
                self.error = self.error or error
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._done.set()
        self._done.wait()


def _serve(queue: SimpleQueue[Work | None], thread: int) -> None:
    while (work := queue.get()) is not None:
        work(thread)
        del work  # what it holds on to must not wait for the next one


def _finish(work: Work) -> None:
    while True:
        try:
            work(0)
        except KeyboardInterrupt:
            continue
        return
