"""How the threads of a team share the work of the program.

All threads run the same code. A phase's items are handed out one at a time by an atomic counter,
and the phase is over when all its items are done: that, not the arrival of every thread, is what
the next phase waits for. So a thread that the system runs late holds up nobody. It finds the
phases that it missed done, walks past them and joins in where the others are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bitnet.codegen import Dim, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.program.abi import SYNC_DONE, SYNC_NEXT_ITEM, SYNC_WORDS
from bitnet.program.timer import Timer

_SPINS = 2000  # pauses before a waiting thread starts to give its core away


class Team:
    """The threads that run one step; each phase has counters of its own, zero at first."""

    def __init__(self, k: Function, batch: StructRef, n_phases: int) -> None:
        self.k = k
        self.counters = batch.buffer("sync", t.i64, n_phases * SYNC_WORDS)
        self.yield_thread = batch["yield_thread"]
        self.number = k.var(t.i64)  # of the phase
        self.timer = Timer(k, batch)

    @contextmanager
    def phase(self, name: str, n_items: Dim) -> Iterator[Value]:
        """Run the body once for each item 0..n_items-1, on whichever thread is free; then wait.

        Times are kept under `name`; phases of one name are added up.
        """
        k, counters = self.k, self.counters
        first = self.number.get() * SYNC_WORDS
        self.number.set(self.number.get() + 1)
        one, last = k.const(t.i64, 1), k.index(n_items)
        self.timer.start(name)
        done_here = k.var(t.i64)
        item = k.var(t.i64, counters.atomic_add(first + SYNC_NEXT_ITEM, one))
        with k.while_(lambda: item.get() < last):
            yield item.get()
            done_here.set(done_here.get() + 1)
            item.set(counters.atomic_add(first + SYNC_NEXT_ITEM, one))
        counters.atomic_add(first + SYNC_DONE, done_here.get())
        self.timer.worked(done_here.get())
        self._wait_until(first + SYNC_DONE, last)
        self.timer.waited()

    def _wait_until(self, counter: Value, value: Value) -> None:
        k = self.k
        spins = k.var(t.i64)
        with k.while_(lambda: self.counters.atomic_load(counter) < value):
            k.target.pause(k)
            spins.set(spins.get() + 1)
            with k.if_(spins.get() > _SPINS):
                k.call_pointer(self.yield_thread, t.i32)
