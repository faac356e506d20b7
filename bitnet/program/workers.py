"""The team's threads: Python threads that spend their time inside the compiled program."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bitnet import config
from bitnet.errors import InvalidArgumentError
from bitnet.program import topology
from bitnet.program.memory import allocate_pages
from bitnet.program.team import regions_of
from bitnet.program.topology import available_cores

MAX_THREADS = 1024
_BYTES_PER_THREAD = 8_000_000

_SMALLEST_PAGE = 4096
_BACKLOG = 2  # a thread that lags by more jobs than this is left out

# Takes the number of the thread that does it, from 0.
Work: TypeAlias = "Callable[[int], None]"


def team_size(asked: int | None, model_bytes: int) -> int:
    """How many threads work together: as asked, but never more than there are cores.

    None is BITNET_THREADS, else one thread per core, as long as each has enough of the model to
    do: with less than about 8 MB a thread, waiting for each other costs more than it saves. More
    threads than cores would only wait for each other to get a turn. Raises InvalidArgumentError.
    """
    asked = config.threads() if asked is None else asked
    if asked is None:
        return max(1, min(available_cores(), model_bytes // _BYTES_PER_THREAD))
    check_threads(asked)
    return min(asked, available_cores())


def check_threads(n: int) -> None:
    if not 1 <= n <= MAX_THREADS:
        raise InvalidArgumentError(f"threads must be in 1..{MAX_THREADS}, not {n}")


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

    numa: whether each thread stays on a core of its own, the threads of a region (see `team`)
        near the same memory; then the caller's thread, which is not to be pinned, only waits.
        Raises UnsupportedOperationError where that cannot be, InvalidArgumentError for too many.
    """

    def __init__(self, n: int, *, numa: bool = False) -> None:
        check_threads(n)
        self.n = n
        self.numa = numa
        nodes = topology.nodes() if numa else []
        self.n_regions = regions_of(n, max(1, len(nodes)))
        regions = [thread % self.n_regions for thread in range(n)]
        cores = topology.spread(regions, nodes) if numa else []
        first = 0 if numa else 1
        self._queues: list[SimpleQueue[Work | None]] = [SimpleQueue() for _ in range(first, n)]
        for i, queue in enumerate(self._queues, first):
            name = f"bitnet-worker-{i}"
            threading.Thread(target=_serve, args=(queue, i), name=name, daemon=True).start()
        if numa:
            try:
                self._each(lambda thread: topology.pin(cores[thread]))
            except BaseException:
                self.close()
                raise

    def run(self, work: Work) -> None:
        """Do `work` here, with the help of the other threads; or by the others, with numa."""
        told = _Told(work)
        try:
            for queue in self._queues:
                if queue.qsize() < _BACKLOG:
                    queue.put(told if self.numa else work)
            if self.numa:
                told.wait(1)
            else:
                work(0)
        except BaseException:
            # A Ctrl-C before the work was done here: others may be in the middle of it.
            _finish(work)
            raise

    def place(self, memory: npt.NDArray[np.uint8]) -> None:
        """With numa, bring memory that nobody has touched yet near those who will read it.

        It holds the items of one phase, in order. The system places a page near who touches it
        first.
        """
        if not self.numa:
            return

        def touch(thread: int) -> None:
            if thread < self.n_regions:
                start, stop = (len(memory) * (thread + i) // self.n_regions for i in (0, 1))
                memory[start:stop:_SMALLEST_PAGE] = 0

        self._each(touch)

    def near(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array, or with numa a copy of it that `place` was asked for."""
        if not self.numa:
            return array
        copy = allocate_pages(array.nbytes, huge=False)
        self.place(copy)
        copy[:] = array.reshape(-1).view(np.uint8)
        return copy.view(array.dtype).reshape(array.shape)

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

    def _each(self, work: Work) -> None:
        """Have each of the threads do `work`, and wait for all of them."""
        told = _Told(work)
        for queue in self._queues:
            queue.put(told)
        told.wait(len(self._queues))


class _Told:
    """Work that tells who waits for it how it ended on each thread."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ends: SimpleQueue[BaseException | None] = SimpleQueue()

    def __call__(self, thread: int) -> None:
        try:
            self._work(thread)
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            self._ends.put(error)
        else:
            self._ends.put(None)

    def wait(self, n_threads: int) -> None:
        """Until so many have done it; raises what it raised on one of them."""
        errors = [self._ends.get() for _ in range(n_threads)]
        for error in filter(None, errors):
            raise error


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
