"""The team's threads: Python threads that spend their time inside the compiled program."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

from bitnet import config
from bitnet.errors import InvalidArgumentError

MAX_THREADS = 1024

Work: TypeAlias = "Callable[[int], None]"
_Job: TypeAlias = "tuple[Work, threading.Lock]"


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
    """`n` threads that run a function together; it must not raise.

    With one thread that is the caller's. With more, the first of the team's own threads starts
    and joins the others: a Ctrl-C reaches the caller's thread alone, and must not leave half a
    team waiting inside the program for the other half.
    """

    def __init__(self, n: int) -> None:
        if not 1 <= n <= MAX_THREADS:
            raise InvalidArgumentError(f"threads must be in 1..{MAX_THREADS}, not {n}")
        self.n = n
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        if n > 1:
            args = (n, self._jobs)
            threading.Thread(target=_lead, args=args, name="bitnet-worker-0", daemon=True).start()

    def run(self, work: Work) -> None:
        """Call work(0), ..., work(n - 1), each on its own thread, and wait for all of them."""
        if self.n == 1:
            work(0)
            return
        try:
            self._submit(work)
        except BaseException:
            self._drain()
            raise

    def close(self) -> None:
        """End the threads."""
        self._jobs.put(None)

    def _submit(self, work: Work) -> None:
        done = _taken()
        self._jobs.put((work, done))
        done.acquire()

    def _drain(self) -> None:
        """Wait until an interrupted job, which may or may not have been queued, is over."""
        while True:
            try:
                self._submit(lambda _: None)
            except KeyboardInterrupt:
                continue
            return


def _lead(n: int, jobs: SimpleQueue[_Job | None]) -> None:
    """The first thread of a team: start the others for each job, take part, join them."""
    followers = [_Follower(i) for i in range(1, n)]
    while (job := jobs.get()) is not None:
        work, done = job
        for follower in followers:
            follower.start(work)
        work(0)
        for follower in followers:
            follower.done.acquire()
        done.release()
        del job, work  # what a job holds on to must not wait for the next one
    for follower in followers:
        follower.start(None)


class _Follower:
    """A thread that sleeps until it is given work."""

    def __init__(self, index: int) -> None:
        self.done = _taken()
        self._index = index
        self._started = _taken()
        self._work: Work | None = None
        name = f"bitnet-worker-{index}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def start(self, work: Work | None) -> None:
        """Run `work`, or end the thread."""
        self._work = work
        self._started.release()

    def _serve(self) -> None:
        while True:
            self._started.acquire()
            if self._work is None:
                return
            self._work(self._index)
            self._work = None
            self.done.release()


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
