"""The team's threads: Python threads that spend their time inside the compiled program."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable

from bitnet import config
from bitnet.errors import InvalidArgumentError

MAX_THREADS = 1024


def default_threads() -> int:
    """BITNET_THREADS, else one thread for each core this process may use."""
    chosen = config.threads()
    if chosen:
        return chosen
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def yield_function() -> int:
    """Address of the C function int (void) that gives the core to another thread."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


class Workers:
    """`n` threads that run a function together: n - 1 of their own and the caller's."""

    def __init__(self, n: int) -> None:
        if not 1 <= n <= MAX_THREADS:
            raise InvalidArgumentError(f"threads must be in 1..{MAX_THREADS}, not {n}")
        self.n = n
        self._work: Callable[[int], None] | None = None
        # Each worker sleeps on its `start` lock and answers by releasing its `done` lock.
        self._start = [_taken() for _ in range(n - 1)]
        self._done = [_taken() for _ in range(n - 1)]
        for i in range(n - 1):
            name = f"bitnet-worker-{i + 1}"
            threading.Thread(target=self._serve, args=(i,), name=name, daemon=True).start()

    def run(self, work: Callable[[int], None]) -> None:
        """Call work(0), ..., work(n - 1), each on its own thread; work must not raise."""
        self._work = work
        for lock in self._start:
            lock.release()
        work(0)
        for lock in self._done:
            lock.acquire()
        self._work = None

    def close(self) -> None:
        """End the threads; nothing may be running."""
        self._work = None
        for lock in self._start:
            lock.release()
        self._start = []

    def _serve(self, i: int) -> None:
        start, done = self._start[i], self._done[i]
        while True:
            start.acquire()
            work = self._work
            if work is None:
                return
            work(i + 1)
            done.release()


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
