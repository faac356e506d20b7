"""What the threads of a team do together inside the program: wait for each other, share work.

All threads run the same code. A phase's items are handed out one at a time by an atomic
counter, so that a slow core does not hold up the others; a barrier ends the phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bitnet.codegen import Dim, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.program.abi import SYNC_ARRIVED, SYNC_GENERATION, SYNC_NEXT_ITEM, SYNC_WORDS

_SPINS = 2000  # pauses before a waiting thread starts to give its core away


class Team:
    """The threads that run one call of `forward`."""

    def __init__(self, k: Function, batch: StructRef, n_threads: Value) -> None:
        self.k = k
        self.n_threads = n_threads
        self.sync = batch.buffer("sync", t.i64, SYNC_WORDS)
        self.yield_thread = batch["yield_thread"]

    @contextmanager
    def phase(self, n_items: Dim) -> Iterator[Value]:
        """Run the body once for each item 0..n_items-1, on whichever thread is free; then wait."""
        k = self.k
        item = k.var(t.i64, self.sync.atomic_add(SYNC_NEXT_ITEM, 1))
        last = k.index(n_items)
        with k.while_(lambda: item.get() < last):
            yield item.get()
            item.set(self.sync.atomic_add(SYNC_NEXT_ITEM, 1))
        self._barrier()

    def _barrier(self) -> None:
        k, sync = self.k, self.sync
        generation = sync.atomic_load(SYNC_GENERATION)
        is_last = (sync.atomic_add(SYNC_ARRIVED, 1) + 1).equals(self.n_threads)
        with k.builder.if_else(is_last.ir) as (last, waiting):
            with last:
                zero = k.const(t.i64, 0)
                sync.atomic_store(SYNC_ARRIVED, zero)
                sync.atomic_store(SYNC_NEXT_ITEM, zero)
                sync.atomic_store(SYNC_GENERATION, generation + 1)
            with waiting:
                self._wait_while(generation)

    def _wait_while(self, generation: Value) -> None:
        k = self.k
        spins = k.var(t.i64)
        with k.while_(lambda: self.sync.atomic_load(SYNC_GENERATION).equals(generation)):
            k.target.pause(k)
            spins.set(spins.get() + 1)
            with k.if_(spins.get() > _SPINS):
                k.call_pointer(self.yield_thread, t.i32)
