"""Timing one kernel on a team of threads, and choosing the fastest of several.

A kernel is `multiply(job, thread)`, with the job of `JOB`, and has the team share the `n_blocks`
blocks of 64 rows of its weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cffi
import numpy as np
import numpy.typing as npt

from bitnet.codegen import Function, Module, Struct, StructRef, Target, Value, jit
from bitnet.codegen import types as t
from bitnet.kernels.ternary import BLOCK_ROWS, Use
from bitnet.program.memory import allocate
from bitnet.program.team import Team, sync_words
from bitnet.program.workers import Workers, yield_function

MOST_BYTES = 1 << 27  # more than the caches hold
_TRIES = 5
_ROUNDS = 2
_ADVANTAGE = 1.05  # less than this may be chance, and the option named first is kept

# The first three are those that a `Team` looks for.
JOB = Struct(
    "bn_tuning",
    (
        ("n_regions", "i64"),
        ("sync", "ptr"),
        ("yield_thread", "ptr"),
        ("n_blocks", "i64"),
        ("weights", "ptr"),  # what the kernel finds its blocks by
        ("q", "ptr"),  # activations
        ("out", "ptr"),  # i32[64 * threads], sums of no interest
    ),
)
_ffi = cffi.FFI()
_ffi.cdef(JOB.cdef)

# Takes the job, a block, and what takes the sums of a token.
Block = Callable[[Function, StructRef, Value, Use], None]
T = TypeVar("T")


def trial_module(target: Target, block: Block) -> Module:
    """The kernel whose `block(k, job, number, use)` multiplies one block of rows."""
    module = Module(target)

    def body(k: Function) -> None:
        job, thread = JOB.at(k, k.args[0]), k.args[1]
        out = job.buffer("out", t.i32, (thread + 1) * BLOCK_ROWS)

        def use(_: Value, sums: list[Value]) -> None:
            for i, total in enumerate(sums):
                out.store(thread * BLOCK_ROWS + i * t.lanes(total.type), total)

        with Team(k, job, thread, 1).phase("multiply", job["n_blocks"]) as number:
            block(k, job, number, use)

    module.function("multiply", [t.ptr, t.i64], body, exported=True)
    return module


def fewest_seconds(
    module: Module,
    workers: Workers,
    n_blocks: int,
    weights: npt.NDArray[Any],
    q: npt.NDArray[np.int8],
) -> float:
    """The least time of a few that all blocks took."""
    library = jit.load(module, ["multiply"])
    multiply = _ffi.cast("void (*)(bn_tuning *, int64_t)", library.address("multiply"))

    def seconds() -> float:
        sync = allocate(sync_words(workers.n_regions, 1), np.int64, zero=True)
        out = allocate(BLOCK_ROWS * workers.n, np.int32)
        job = _ffi.new("bn_tuning *", {"n_regions": workers.n_regions, "n_blocks": n_blocks})
        job.yield_thread = _ffi.cast("void *", yield_function())
        for name, array in (("sync", sync), ("weights", weights), ("q", q), ("out", out)):
            setattr(job, name, _ffi.cast("void *", array.ctypes.data))
        # A thread may still be on its way out when the others are done.
        held = (job, sync, out, weights, q, library)
        start = time.perf_counter()
        workers.run(lambda thread: multiply(held[0], thread))
        return time.perf_counter() - start

    return min(seconds() for _ in range(_TRIES))


def fastest(options: Sequence[T], speed: Callable[[T], float]) -> tuple[T, dict[T, float]]:
    """The option with the highest speed, and the best speed of each; the first if about equal."""
    best = dict.fromkeys(options, 0.0)
    for option in [*options] * _ROUNDS:  # in turn: the machine may be slower for a while
        best[option] = max(speed(option), best[option])
    chosen = options[0]
    for option in options:
        if best[option] > best[chosen] * _ADVANTAGE:
            chosen = option
    return chosen, best
