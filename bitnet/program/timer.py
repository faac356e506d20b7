"""The clocks of a profiled program: where the time of each thread goes, phase by phase.

Every thread that takes part in a step takes a row of the batch's table, in order of arrival, and
adds to it; see `abi` for its layout. In a program that is not profiled, all this is nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Function, Module, StructRef, Value
from bitnet.codegen import types as t
from bitnet.program.abi import (
    PROFILE_CALLS,
    PROFILE_COLUMNS,
    PROFILE_ITEMS,
    PROFILE_PHASES,
    PROFILE_ROW,
    PROFILE_START,
    PROFILE_WAIT,
    PROFILE_WORK,
)
from bitnet.program.memory import allocate


class Timer:
    """Writes the code that times the phases of the running thread."""

    def __init__(self, k: Function, batch: StructRef) -> None:
        self.k = k
        self.on = k.module.profiled
        if not self.on:
            return
        rows = batch["profile_rows"]
        table = batch.buffer("profile", t.i64, rows * PROFILE_ROW + PROFILE_START)
        # After a Ctrl-C a thread may come twice; it then shares the last row.
        mine = k.min(table.atomic_add(0, k.const(t.i64, 1)), rows - 1)
        self.row = table.part(mine * PROFILE_ROW + PROFILE_START, PROFILE_ROW)
        self.since = k.var(t.i64)
        self.phase = 0

    def start(self, name: str) -> None:
        """The phase `name` begins."""
        if not self.on:
            return
        phases = self.k.module.phases
        if name not in phases:
            phases.append(name)
        self.phase = phases.index(name)
        if self.phase == PROFILE_PHASES:
            raise ValueError(f"a profile has no room for more than {PROFILE_PHASES} phases")
        self.since.set(self.k.target.ticks(self.k))

    def worked(self, n_items: Value) -> None:
        """The thread has done `n_items` items, and there are no more."""
        if self.on:
            self._add(PROFILE_CALLS, self.k.const(t.i64, 1))
            self._add(PROFILE_ITEMS, n_items)
            self._lap(PROFILE_WORK)

    def waited(self) -> None:
        """The phase is over."""
        if self.on:
            self._lap(PROFILE_WAIT)

    def _lap(self, column: int) -> None:
        now = self.k.target.ticks(self.k)
        self._add(column, now - self.since.get())
        self.since.set(now)

    def _add(self, column: int, amount: Value) -> None:
        at = self.phase * PROFILE_COLUMNS + column
        self.row[at] = self.row[at] + amount


def ticks(module: Module) -> None:
    """Add the exported function ticks(), which reads the clock."""

    def body(k: Function) -> None:
        k.ret(k.target.ticks(k))

    module.function("ticks", [], body, returns=t.i64, exported=True)


def empty_profile(n_threads: int) -> npt.NDArray[np.int64]:
    """The table of one step."""
    return allocate(PROFILE_START + n_threads * PROFILE_ROW, np.int64, zero=True)


def phase_times(table: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The table's (thread, phase, column): calls, items, ticks of work, ticks of waiting."""
    return table[PROFILE_START:].reshape(-1, PROFILE_PHASES, PROFILE_COLUMNS)
