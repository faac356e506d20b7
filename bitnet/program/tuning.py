"""The layout of the weights, chosen by measuring what this machine multiplies fastest.

Results do not depend on it. Each layout multiplies one token with a piece of memory as large as
the model (or larger than the caches); the one that gets through the most weights is taken. That
takes some tenths of a second, once: the cache folder keeps the outcome for each kind of CPU,
target, number of threads and shape.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import cffi
import llvmlite.binding as llvm
import numpy as np

from bitnet import config
from bitnet.codegen import Buffer, Function, Module, Struct, Target, Value, jit
from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.layouts import LAYOUTS, LayoutName, TiledLayout
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.models.spec import ModelSpec
from bitnet.program.memory import allocate, allocate_pages
from bitnet.program.team import Team, sync_words
from bitnet.program.workers import Workers, yield_function

log = logging.getLogger("bitnet.program")

_MOST_BYTES = 1 << 27  # more than the caches hold
_TRIES = 5
TUNING_FILE = "tuning.json"

# The first three are those that a `Team` looks for.
_JOB = Struct(
    "bn_tuning",
    (
        ("n_regions", "i64"),
        ("sync", "ptr"),
        ("yield_thread", "ptr"),
        ("n_blocks", "i64"),
        ("weights", "ptr"),  # blocks of 64 rows
        ("q", "ptr"),  # one token's activations
        ("out", "ptr"),  # i32[64 * regions], sums of no interest
    ),
)
_ffi = cffi.FFI()
_ffi.cdef(_JOB.cdef)


def fastest_layout(spec: ModelSpec, target: Target, workers: Workers) -> LayoutName:
    """The layout to pack the weights of a model in."""
    known, key = read_tunings(), _key(spec, target, workers.n)
    if key not in known or known[key]["layout"] not in LAYOUTS:
        speeds = {
            name: _weights_per_second(layout, spec, target, workers)
            for name, layout in LAYOUTS.items()
            if isinstance(layout, TiledLayout)
        }
        fastest = max(speeds, key=lambda name: speeds[name])
        known[key] = {"layout": fastest, "weights_per_s": speeds}
        jit.write_cached(config.cache_dir() / TUNING_FILE, json.dumps(known, indent=1).encode())
    name: LayoutName = known[key]["layout"]
    return name


def read_tunings() -> dict[str, dict[str, Any]]:
    """What was measured here so far: description -> layout, and weights per second of each."""
    path = config.cache_dir() / TUNING_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: {
                "layout": str(entry["layout"]),
                "weights_per_s": {n: float(speed) for n, speed in entry["weights_per_s"].items()},
            }
            for key, entry in known.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("ignoring %s, which cannot be read: %s", path, error)
        return {}


def _key(spec: ModelSpec, target: Target, threads: int) -> str:
    weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    return (
        f"{llvm.get_host_cpu_name()}, {target.name} {target.feature_string}, {threads} threads, "
        f"{weights / 1e6:.3g}M weights of {spec.hidden_size} and {spec.ffn_size} inputs, "
        f"code {jit.generator_digest()[:12]}"
    )


def _weights_per_second(
    layout: TiledLayout, spec: ModelSpec, target: Target, workers: Workers
) -> float:
    columns = spec.hidden_size
    library = jit.load(_module(layout, target, columns), ["multiply"])
    multiply = _ffi.cast("void (*)(bn_tuning *, int64_t)", library.address("multiply"))
    n_weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    per_block = layout.packed_bytes(BLOCK_ROWS, columns)
    n_blocks = max(1, min(n_weights // (BLOCK_ROWS * columns), _MOST_BYTES // per_block))
    weights = allocate_pages(n_blocks * per_block)
    weights[:] = 0
    q = allocate(layout.q_width(columns), np.int8, zero=True)

    def seconds() -> float:
        n_regions, n_words = sync_words(workers.n, 1)
        sync = allocate(n_words, np.int64, zero=True)
        out = allocate(BLOCK_ROWS * workers.n, np.int32)
        job = _ffi.new("bn_tuning *", {"n_regions": n_regions, "n_blocks": n_blocks})
        job.yield_thread = _ffi.cast("void *", yield_function())
        for field, array in (("sync", sync), ("weights", weights), ("q", q), ("out", out)):
            setattr(job, field, _ffi.cast("void *", array.ctypes.data))
        # A thread may still be on its way out when the others are done.
        held = (job, sync, out, weights, q, library)
        start = time.perf_counter()
        workers.run(lambda thread: multiply(held[0], thread))
        return time.perf_counter() - start

    return n_blocks * BLOCK_ROWS * columns / min(seconds() for _ in range(_TRIES))


def _module(layout: TiledLayout, target: Target, columns: int) -> Module:
    module, size = Module(target), layout.packed_bytes(BLOCK_ROWS, columns)

    def body(k: Function) -> None:
        job, thread = _JOB.at(k, k.args[0]), k.args[1]
        n_blocks = job["n_blocks"]
        q = job.buffer("q", t.i8, layout.q_width(columns))
        out = job.buffer("out", t.i32, (thread + 1) * BLOCK_ROWS)

        def use(_: Value, sums: list[Value]) -> None:
            for i, total in enumerate(sums):
                out.store(thread * BLOCK_ROWS + i * t.lanes(total.type), total)

        with Team(k, job, thread, 1).phase("multiply", n_blocks) as block:
            part: Buffer = job.buffer("weights", t.i8, n_blocks * size).part(block * size, size)
            ternary.tiled_block(k, layout, part, q, columns, 1, use)

    module.function("multiply", [t.ptr, t.i64], body, exported=True)
    return module
