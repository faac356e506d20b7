"""Layout and blocking of the weights, chosen by measuring what this machine multiplies fastest.

Results do not depend on them. A piece of memory as large as the model (or larger than the caches)
is multiplied with one token in each layout, then in the fastest one, if that packs weights, at
several distances of prefetching, then with many tokens, a few or more of them at once. That takes a
second or two, once: the cache folder keeps the outcome for each kind of CPU, target, number of
threads and shape.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any, get_args

import llvmlite.binding as llvm
import numpy as np

from bitnet import config
from bitnet.codegen import Function, StructRef, Target, Value, jit
from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.layouts import LAYOUTS, LayoutName, TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.ternary import BLOCK_ROWS, DEFAULT_BLOCKING, Blocking, Use
from bitnet.models.spec import ModelSpec
from bitnet.program.lookup_trial import LookUpTrial
from bitnet.program.memory import allocate, allocate_pages
from bitnet.program.trial import MOST_BYTES, fastest, fewest_seconds, trial_module
from bitnet.program.workers import Workers

log = logging.getLogger("bitnet.program")

_Layout = TiledLayout | LookUp

_MANY_TOKENS = 64
_PREFETCH_BYTES = (8192, 4096, 16384)
_TOKENS_AT_ONCE = (8, 4, 2, 16)
TUNING_FILE = "tuning.json"


@dataclass(frozen=True)
class Tuning:
    """What was chosen: results do not depend on it.

    weights_per_s: what was measured, by what it was measured of.
    """

    layout: LayoutName
    blocking: Blocking = DEFAULT_BLOCKING
    weights_per_s: dict[str, float] = field(default_factory=dict)


def tune(
    spec: ModelSpec,
    target: Target,
    workers: Workers,
    layout: LayoutName | None = None,
    look_up: LookUp | None = None,
) -> Tuning:
    """The layout of the weights of a model, unless it is given, and the blocking.

    look_up: how they can be used where they are mapped, if they can. BITNET_BLOCKING overrides the
    blocking.
    """
    packed = [x for x in LAYOUTS.values() if isinstance(x, TiledLayout)]
    if layout is not None:
        packed, look_up = [x for x in packed if x.name == layout], None
        if not packed:  # used as it is
            return Tuning(layout)
    # Of two that are as fast the first is kept, and many tokens at once make look-ups slower.
    layouts: list[_Layout] = [*packed, *([look_up] if look_up else [])]
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
    layout: LayoutName = entry["layout"]
    if layout not in get_args(LayoutName):
        raise ValueError(f"there is no layout {layout!r}")
    return Tuning(layout, blocking, speeds)


def _code() -> str:
    """Kernels of other code have other speeds."""
    return f", code {jit.generator_digest()[:12]}"


def _key(spec: ModelSpec, target: Target, threads: int, layouts: Sequence[_Layout]) -> str:
    weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    return (
        f"{llvm.get_host_cpu_name()}, {target.name} {target.feature_string}, {threads} threads, "
        f"{weights / 1e6:.0f}M weights of {spec.hidden_size} and {spec.ffn_size} inputs, "
        f"{' or '.join(map(_describe, layouts))}{_code()}"
    )


def _describe(layout: _Layout) -> str:
    if isinstance(layout, TiledLayout):
        return layout.name
    return " and ".join(cut.suffix for cut in layout.cuts)


def _measure(
    layouts: Sequence[_Layout], spec: ModelSpec, target: Target, workers: Workers
) -> Tuning:
    def speed(layout: TiledLayout, blocking: Blocking, n_tokens: int) -> float:
        return _weights_per_second(layout, blocking, n_tokens, spec, target, workers)

    def speed_of_one(layout: _Layout) -> float:
        if isinstance(layout, TiledLayout):
            return speed(layout, DEFAULT_BLOCKING, 1)
        return _look_ups_per_second(layout, spec, target, workers)

    layout, found = fastest(layouts, speed_of_one)
    speeds: dict[str, float] = {option.name: best for option, best in found.items()}
    if not isinstance(layout, TiledLayout):
        return Tuning(layout.name, weights_per_s=speeds)
    distance, found_ahead = fastest(
        _PREFETCH_BYTES, lambda x: speed(layout, Blocking(prefetch_bytes=x), 1)
    )
    speeds |= {f"{option} bytes ahead": best for option, best in found_ahead.items()}
    at_once, found_tokens = fastest(
        [n for n in _TOKENS_AT_ONCE if n <= target.accumulators],
        lambda x: speed(layout, Blocking(tokens_at_once=x), _MANY_TOKENS) * _MANY_TOKENS,
    )
    speeds |= {f"{option} tokens at once": best for option, best in found_tokens.items()}
    return Tuning(layout.name, Blocking(distance, at_once), speeds)


def _look_ups_per_second(
    layout: LookUp, spec: ModelSpec, target: Target, workers: Workers
) -> float:
    """Weights per second, of tensors of the largest shape."""
    largest = max(spec.ternary_shapes().values(), key=prod)
    trial = LookUpTrial(layout.kind, spec, target, workers)
    return trial.speed(largest, layout.of(largest[1])[0].blocks)


def _weights_per_second(
    layout: TiledLayout,
    blocking: Blocking,
    n_tokens: int,
    spec: ModelSpec,
    target: Target,
    workers: Workers,
) -> float:
    columns = spec.hidden_size
    size = layout.packed_bytes(BLOCK_ROWS, columns)
    n_weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    most = MOST_BYTES // size // n_tokens  # so that each measurement takes as long
    n_blocks = max(1, min(n_weights // (BLOCK_ROWS * columns), most))
    weights = allocate_pages(n_blocks * size)
    weights[:] = 0
    q = allocate(n_tokens * layout.q_width(columns), np.int8, zero=True)

    def block(k: Function, job: StructRef, number: Value, use: Use) -> None:
        rows = job.buffer("q", t.i8, n_tokens * layout.q_width(columns))
        part = job.buffer("weights", t.i8, job["n_blocks"] * size).part(number * size, size)
        ternary.tiled_block(k, layout, part, rows, columns, n_tokens, use, blocking)

    module = trial_module(target, block)
    return n_blocks * BLOCK_ROWS * columns / fewest_seconds(module, workers, n_blocks, weights, q)
