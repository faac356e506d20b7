"""How the threads of a team share the work of the program.

All threads run the same code. The items of a phase are cut into regions, one for each thread (or
for several, where there are many). A thread takes the items of its own region one after the other
by an atomic counter, so that it walks through memory in order, and then helps out in the others.
The phase is over when all its items are done: that, not the arrival of every thread, is what the
next phase waits for. So a thread that the system runs late holds up nobody. It finds the phases
that it missed done, walks past them and joins in where the others are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bitnet.codegen import Dim, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.program.abi import SYNC_WORDS
from bitnet.program.timer import Timer

MAX_REGIONS = 8
_SPINS = 2000  # pauses before a waiting thread starts to give its core away


class Team:
    """The threads that run one step; each phase has counters of its own, zero at first.

    thread: the number of the running thread, i64.
    """

    def __init__(self, k: Function, batch: StructRef, thread: Value, n_phases: int) -> None:
        self.k = k
        self.n_regions = batch["n_regions"]
        self.region = thread % self.n_regions
        self.words = (self.n_regions + 1) * SYNC_WORDS  # counters of a phase
        self.counters = batch.buffer("sync", t.i64, self.words * n_phases)
        self.yield_thread = batch["yield_thread"]
        self.number = k.var(t.i64)  # of the phase
        self.timer = Timer(k, batch)

    @contextmanager
    def phase(self, name: str, n_items: Dim) -> Iterator[Value]:
        """Run the body once for each item 0..n_items-1, on whichever thread is free; then wait.

        Times are kept under `name`; phases of one name are added up.
        """
        k, counters = self.k, self.counters
        first = self.number.get() * self.words
        self.number.set(self.number.get() + 1)
        one, last = k.const(t.i64, 1), k.index(n_items)
        self.timer.start(name)
        done_here = k.var(t.i64)
        with k.loop(0, self.n_regions) as turn:
            region = (self.region + turn) % self.n_regions
            start, stop = (last * (region + i) // self.n_regions for i in (0, 1))
            counter = first + (region + 1) * SYNC_WORDS
            item = k.var(t.i64, start + counters.atomic_add(counter, one))
            with k.while_(lambda: item.get() < stop):
                yield item.get()
                done_here.set(done_here.get() + 1)
                item.set(start + counters.atomic_add(counter, one))
        counters.atomic_add(first, done_here.get())
        self.timer.worked(done_here.get())
        self._wait_until(first, last)
        self.timer.waited()

    def _wait_until(self, counter: Value, value: Value) -> None:
        k = self.k
        spins = k.var(t.i64)
        with k.while_(lambda: self.counters.atomic_load(counter) < value):
            k.target.pause(k)
            spins.set(spins.get() + 1)
            with k.if_(spins.get() > _SPINS):
                k.call_pointer(self.yield_thread, t.i32)


def regions_of(n_threads: int, n_nodes: int = 1) -> int:
    """How many regions a team works in; thread i starts in region i, modulo their number.

    Where threads share regions, each of the memory nodes has equally many.
    """
    return min(n_threads, max(MAX_REGIONS // n_nodes, 1) * n_nodes)


def sync_words(n_regions: int, n_phases: int) -> int:
    """The i64 words of a team's counters."""
    return n_phases * (n_regions + 1) * SYNC_WORDS
