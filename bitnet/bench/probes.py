"""What the machine can do at best: reading memory, and dot products of int8 numbers.

Both are measured with code from our own generator, on the threads that the model uses. No way
of reading or multiplying is the fastest everywhere, so several are tried; the best one counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import cffi
import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Function, Module, Struct, StructRef, Target, Value, jit
from bitnet.codegen import types as t
from bitnet.program.memory import allocate, allocate_pages
from bitnet.program.team import Team, sync_words
from bitnet.program.workers import Workers, yield_function

_BYTES_PER_THREAD = 1 << 28  # more than the caches hold
_CHUNK = 1 << 21  # bytes that a thread takes at a time
_LINE = 64
_PREFETCH = 32 * _LINE  # how far ahead
_LINES_AT_ONCE = 8
# (places read at the same time, with prefetch)
_WAYS_TO_READ = ((1, False), (1, True), (2, True), (4, True), (8, True))

_ITEMS = 64  # of dot products per thread
# Accumulators of 16 sums. The pipes want many, the registers limit them: 12 of 32 registers of
# 512 bits, 6 (12 halves) of 16 of 256 bits, 2 (8 quarters) of 16 of 128 bits.
WAYS_TO_MULTIPLY = (2, 6, 12)
_SECONDS = 0.01  # of dot products; the start of the threads must not count

_TRIES = 3

_i32x16 = t.vec(t.i32, 16)

# The names of the first three are those that a `Team` looks for.
_JOB = Struct(
    "bn_probe",
    (
        ("n_regions", "i64"),
        ("sync", "ptr"),
        ("yield_thread", "ptr"),
        ("n_items", "i64"),  # chunks of `data`, or calls of the dot products
        ("rounds", "i64"),  # of dot products per item
        ("data", "ptr"),  # i32: chunks to read, or a line of codes to multiply
        ("out", "ptr"),  # i32[16], results of no interest
    ),
)
_ffi = cffi.FFI()
_ffi.cdef(_JOB.cdef)


@dataclass(frozen=True)
class Limits:
    """bandwidth: bytes read per second. peak: int8 multiply-accumulates per second."""

    bandwidth: float
    peak: float

    def best(self, other: Limits) -> Limits:
        return Limits(max(self.bandwidth, other.bandwidth), max(self.peak, other.peak))


class Probes:
    """Measures the limits of the threads of `workers` together, in code for `target`."""

    def __init__(self, target: Target, workers: Workers) -> None:
        self._workers = workers
        names = ["fill", *(f"read_{i}" for i in range(len(_WAYS_TO_READ)))]
        names += [f"multiply_{n}" for n in WAYS_TO_MULTIPLY]
        self._library = jit.load(probe_module(target), names)
        self._functions = {
            name: _ffi.cast("void (*)(bn_probe *, int64_t)", self._library.address(name))
            for name in names
        }
        self._rounds = dict.fromkeys(WAYS_TO_MULTIPLY, 256)

    def measure(self) -> Limits:
        """Takes a few tenths of a second, and 256 MB a thread, which are given back."""
        return Limits(self._bandwidth(), max(self._peak(n) for n in WAYS_TO_MULTIPLY))

    def _bandwidth(self) -> float:
        data = allocate_pages(self._workers.n * _BYTES_PER_THREAD)
        n_chunks = len(data) // _CHUNK
        self._run("fill", data, n_items=n_chunks)
        seconds = min(
            self._run(f"read_{way}", data, n_items=n_chunks)
            for way in range(len(_WAYS_TO_READ))
            for _ in range(_TRIES)
        )
        return len(data) / seconds

    def _peak(self, accumulators: int) -> float:
        codes = allocate(_LINE, np.uint8)
        codes[:] = 1
        n_items = self._workers.n * _ITEMS

        def seconds() -> float:
            rounds = self._rounds[accumulators]
            return self._run(f"multiply_{accumulators}", codes, n_items=n_items, rounds=rounds)

        while seconds() < _SECONDS:
            self._rounds[accumulators] *= 2
        best = min(seconds() for _ in range(_TRIES))
        return n_items * self._rounds[accumulators] * accumulators * _LINE / best

    def _run(self, name: str, data: npt.NDArray[Any], **numbers: int) -> float:
        """The time that all threads together take for a probe."""
        n_regions = self._workers.n_regions
        sync = allocate(sync_words(n_regions, 1), np.int64, zero=True)
        out = allocate(16, np.int32)
        job = _ffi.new("bn_probe *", {**numbers, "n_regions": n_regions})
        job.yield_thread = _ffi.cast("void *", yield_function())
        for field, array in (("sync", sync), ("data", data), ("out", out)):
            setattr(job, field, _ffi.cast("void *", array.ctypes.data))
        function = self._functions[name]
        # A thread may still be on its way out when the others are done.
        held = (job, sync, data, out, self._library)
        start = time.perf_counter()
        self._workers.run(lambda thread: function(held[0], thread))
        return time.perf_counter() - start


def probe_module(target: Target) -> Module:
    """The probes: functions of a bn_probe, which every thread of a team calls."""
    module = Module(target)
    _add(module, "fill", _fill)
    for way, (places, prefetch) in enumerate(_WAYS_TO_READ):
        _add(module, f"read_{way}", partial(_read, places=places, prefetch=prefetch))
    for accumulators in WAYS_TO_MULTIPLY:
        _add(module, f"multiply_{accumulators}", partial(_multiply, accumulators=accumulators))
    return module


def _add(module: Module, name: str, do_item: Callable[[Function, StructRef, Value], None]) -> None:
    def body(k: Function) -> None:
        job = _JOB.at(k, k.args[0])
        with Team(k, job, k.args[1], 1).phase(name, job["n_items"]) as item:
            do_item(k, job, item)

    module.function(name, [t.ptr, t.i64], body, exported=True)


def _chunk(job: StructRef, item: Value) -> Buffer:
    size, n = _CHUNK // 4, job["n_items"]
    return job.buffer("data", t.i32, n * size).part(item * size, size)


def _fill(k: Function, job: StructRef, item: Value) -> None:
    """Write every byte, so that there is real memory to read."""
    chunk = _chunk(job, item)
    with k.loop(0, _CHUNK // 4, 16) as i:
        chunk.store(i, k.const(_i32x16, 1))


def _read(k: Function, job: StructRef, item: Value, *, places: int, prefetch: bool) -> None:
    """Read a chunk at several places at the same time."""
    chunk = _chunk(job, item)
    length, each = _CHUNK // 4 // places, max(1, _LINES_AT_ONCE // places)
    sums = {(place, j): k.var(_i32x16) for place in range(places) for j in range(each)}
    with k.loop(0, length, 16 * each) as i:
        for (place, j), total in sums.items():
            at = i + (place * length + 16 * j)
            if prefetch:
                chunk.prefetch(at + _PREFETCH // 4)
            total.set(total.get() + chunk.load(at, 16))
    _keep(job, [total.get() for total in sums.values()])


def _multiply(k: Function, job: StructRef, _: Value, *, accumulators: int) -> None:
    """Dot products that touch no memory, as in the inner loop of the ternary kernels."""
    # Codes that LLVM does not know, the same in all parts of a vector: one register for them.
    codes = (job.buffer("data", t.i8, _LINE).load(0, 16) & 3).shuffle([i % 16 for i in range(64)])
    starts = [k.iota(k.target.partial) + i for i in range(accumulators)]
    sums = [k.var(start.type, start) for start in starts]
    factor_lanes = list(range(_LINE // t.size(t.element(k.target.partial))))
    with k.loop(0, job["rounds"]):
        for total in sums:
            # The sum is also a factor: nothing can be moved out of the loop.
            factor = total.get().shuffle(factor_lanes).bitcast(codes.type)
            total.set(k.target.dot4_partial(k, total.get(), codes, factor))
    _keep(job, [k.target.widen_partial(k, total.get()) for total in sums])


def _keep(job: StructRef, sums: list[Value]) -> None:
    """Store the total, i32x16, which makes LLVM keep what it comes from."""
    job.buffer("out", t.i32, 16).store(0, reduce(add, sums))
