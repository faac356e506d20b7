"""Layout and blocking of the weights, chosen by measuring what this machine multiplies fastest.

Results do not depend on them. A piece of memory as large as the model (or larger than the caches)
is multiplied with one token in each layout, then in the fastest one at several distances of
prefetching, then with many tokens, a few or more of them at once. That takes a second or two, once:
the cache folder keeps the outcome for each kind of CPU, target, number of threads and shape.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import cffi
import llvmlite.binding as llvm
import numpy as np

from bitnet import config
from bitnet.codegen import Buffer, Function, Module, Struct, Target, Value, jit
from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.layouts import LAYOUTS, LayoutName, TiledLayout
from bitnet.kernels.ternary import BLOCK_ROWS, DEFAULT_BLOCKING, Blocking
from bitnet.models.spec import ModelSpec
from bitnet.program.memory import allocate, allocate_pages
from bitnet.program.team import Team, sync_words
from bitnet.program.workers import Workers, yield_function

log = logging.getLogger("bitnet.program")

_MOST_BYTES = 1 << 27  # more than the caches hold
_TRIES = 5
_MANY_TOKENS = 64
_ROUNDS = 2
_ADVANTAGE = 1.05  # less than this may be chance, and the option named first is kept
_PREFETCH_BYTES = (8192, 4096, 16384)
_TOKENS_AT_ONCE = (8, 4, 2, 16)
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


T = TypeVar("T")


@dataclass(frozen=True)
class Tuning:
    """What was chosen: results do not depend on it.

    weights_per_s: what was measured, by what it was measured of.
    """

    layout: LayoutName
    blocking: Blocking = DEFAULT_BLOCKING
    weights_per_s: dict[str, float] = field(default_factory=dict)


def tune(
    spec: ModelSpec, target: Target, workers: Workers, layout: LayoutName | None = None
) -> Tuning:
    """The layout to pack the weights of a model in, unless it is given, and the blocking.

    BITNET_BLOCKING overrides the blocking.
    """
    layouts = [x for x in LAYOUTS.values() if isinstance(x, TiledLayout)]
    if layout is not None:
        layouts = [x for x in layouts if x.name == layout]
        if not layouts:  # used as it is
            return Tuning(layout)
    key = _key(spec, target, workers.n, layouts)
    known = read_tunings()
    if key not in known:
        known[key] = _measure(layouts, spec, target, workers)
        entries = {name: asdict(tuning) for name, tuning in known.items()}
        jit.write_cached(config.cache_dir() / TUNING_FILE, json.dumps(entries, indent=1).encode())
    overridden = config.blocking()
    return replace(known[key], blocking=Blocking(*overridden)) if overridden else known[key]


def read_tunings() -> dict[str, Tuning]:
    """What was chosen here so far with this code, by a description of machine and model."""
    path = config.cache_dir() / TUNING_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {key: _from_json(x) for key, x in known.items() if key.endswith(_code())}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("ignoring %s, which cannot be read: %s", path, error)
        return {}


def _from_json(entry: dict[str, Any]) -> Tuning:
    blocking = Blocking(**{name: int(value) for name, value in entry["blocking"].items()})
    speeds = {name: float(speed) for name, speed in entry["weights_per_s"].items()}
    layout = LAYOUTS[entry["layout"]]
    if not isinstance(layout, TiledLayout):
        raise TypeError(f"nothing is packed as {layout.name}")
    return Tuning(layout.name, blocking, speeds)


def _code() -> str:
    """Kernels of other code have other speeds."""
    return f", code {jit.generator_digest()[:12]}"


def _key(spec: ModelSpec, target: Target, threads: int, layouts: Sequence[TiledLayout]) -> str:
    weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    return (
        f"{llvm.get_host_cpu_name()}, {target.name} {target.feature_string}, {threads} threads, "
        f"{weights / 1e6:.0f}M weights of {spec.hidden_size} and {spec.ffn_size} inputs, "
        f"{' or '.join(layout.name for layout in layouts)}{_code()}"
    )


def _measure(
    layouts: Sequence[TiledLayout], spec: ModelSpec, target: Target, workers: Workers
) -> Tuning:
    speeds: dict[str, float] = {}

    def fastest(options: tuple[T, ...], measured: Callable[[T], tuple[str, float]]) -> T:
        best = dict.fromkeys(options, 0.0)
        for option in options * _ROUNDS:  # in turn: the machine may be slower for a while
            name, found = measured(option)
            speeds[name] = best[option] = max(found, best[option])
        chosen = options[0]
        for option in options:
            if best[option] > best[chosen] * _ADVANTAGE:
                chosen = option
        return chosen

    def speed(layout: TiledLayout, blocking: Blocking, n_tokens: int) -> float:
        return _weights_per_second(layout, blocking, n_tokens, spec, target, workers)

    layout = fastest(tuple(layouts), lambda x: (x.name, speed(x, DEFAULT_BLOCKING, 1)))
    distance = fastest(
        _PREFETCH_BYTES,
        lambda x: (f"{x} bytes ahead", speed(layout, Blocking(prefetch_bytes=x), 1)),
    )
    at_once = fastest(
        tuple(n for n in _TOKENS_AT_ONCE if n <= target.accumulators),
        lambda n: (
            f"{n} tokens at once",
            speed(layout, Blocking(tokens_at_once=n), _MANY_TOKENS) * _MANY_TOKENS,
        ),
    )
    return Tuning(layout.name, Blocking(distance, at_once), speeds)


def _weights_per_second(
    layout: TiledLayout,
    blocking: Blocking,
    n_tokens: int,
    spec: ModelSpec,
    target: Target,
    workers: Workers,
) -> float:
    columns = spec.hidden_size
    library = jit.load(_module(layout, blocking, n_tokens, target, columns), ["multiply"])
    multiply = _ffi.cast("void (*)(bn_tuning *, int64_t)", library.address("multiply"))
    n_weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    per_block = layout.packed_bytes(BLOCK_ROWS, columns)
    most = _MOST_BYTES // per_block // n_tokens  # so that each measurement takes as long
    n_blocks = max(1, min(n_weights // (BLOCK_ROWS * columns), most))
    weights = allocate_pages(n_blocks * per_block)
    weights[:] = 0
    q = allocate(n_tokens * layout.q_width(columns), np.int8, zero=True)

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

    return n_blocks * BLOCK_ROWS * columns / min(seconds() for _ in range(_TRIES))


def _module(
    layout: TiledLayout, blocking: Blocking, n_tokens: int, target: Target, columns: int
) -> Module:
    module, size = Module(target), layout.packed_bytes(BLOCK_ROWS, columns)

    def body(k: Function) -> None:
        job, thread = _JOB.at(k, k.args[0]), k.args[1]
        n_blocks = job["n_blocks"]
        q = job.buffer("q", t.i8, n_tokens * layout.q_width(columns))
        out = job.buffer("out", t.i32, (thread + 1) * BLOCK_ROWS)

        def use(_: Value, sums: list[Value]) -> None:
            for i, total in enumerate(sums):
                out.store(thread * BLOCK_ROWS + i * t.lanes(total.type), total)

        with Team(k, job, thread, 1).phase("multiply", n_blocks) as block:
            part: Buffer = job.buffer("weights", t.i8, n_blocks * size).part(block * size, size)
            ternary.tiled_block(k, layout, part, q, columns, n_tokens, use, blocking)

    module.function("multiply", [t.ptr, t.i64], body, exported=True)
    return module
