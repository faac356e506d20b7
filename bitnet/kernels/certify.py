"""Which rows of an output head may be among the best, told from their int8 logits.

f is the logit of a row w for the activations x as the full-precision head computes it, p the one
of `int8.dots`, from W = scale * q (the row as int8) and X = s * v (x as `hilo.split` gives it).
With u = 2**-24, norms Euclidean and m = n / 16 + 5 roundings on the way of a product to f:

    |f - w.x|   <= g |w| |x|, g = m u / (1 - m u)             (Higham, Accuracy and Stability, 3.1)
    |w.x - W.X| <= |w - W| |x| + |W| |x - X|                  (Cauchy-Schwarz)
    |W.X - p|   <= 2 u |W| |X|, and as much again from adding a bound to p in f32
    |w| <= |w - W| + |W|, |X| <= |x| + |x - X|

and so |f - p| <= a |w - W| + b |W| + c, with a = |x| (1 + g) and b = |x - X| (1 + 4 u) +
|x| (g + 4 u). The norms and a, b are computed in f64 and multiplied by 1 + 2**-20, which covers
their own rounding and that of evaluating this in f32. c = 2**-100 covers what underflows. Where
sums might overflow, a and b are infinite. A bound that is not a number certifies nothing.

The k-th largest of p - bound is no larger than the k-th largest f, so that rows with p + bound
below it are not among the k best, and not tied with them. Instead of all rows the best of each
tile of 16 compete for that place: it can only come out lower.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.hilo import Integers, Split
from bitnet.kernels.int8 import (
    RowBounds,
    f64xL,
    lanes_reference,
    round_up,
    round_up_reference,
)
from bitnet.kernels.numerics import F32, LANES, f32xL, fma_reference
from bitnet.quant.tiled import TILE

_UNIT = 2.0**-24
_UNDERFLOW = 2.0**-100
_OVERFLOW = 2.0**120

i32xL = t.vec(t.i32, LANES)


def _growth(n: int) -> float:
    """g above, for rows of n columns."""
    m = -(-n // LANES) + 5
    return m * _UNIT / (1 - m * _UNIT)


def token_bound(
    k: Function, x: Buffer, parts: Split, n: int, largest_norm: Value, out: Buffer
) -> None:
    """out, f32[2], receives a and b of one row of activations.

    x: f32[columns]; parts: the same row after `split`; largest_norm: f32, at least |w| of every
    row whose scale is a number.
    """
    columns = parts.format.columns
    squares, rest = k.var(f64xL), k.var(f64xL)
    s = parts.scale[0].widen(t.f64)
    with k.loop(0, columns, LANES) as i:
        wide = x.load(i, LANES).widen(t.f64)
        high, low = (parts.q.load(i + p * columns, LANES).sext(t.i32) for p in (0, 1))
        missing = wide - ((high << 7) + low).to_float(t.f64) * s
        squares.set(squares.get() + wide * wide)
        rest.set(rest.get() + missing * missing)
    norm, residual = (k.sqrt(k.reduce(v.get(), "add")) for v in (squares, rest))
    safe = norm * largest_norm.widen(t.f64) < _OVERFLOW
    g = _growth(n)
    a = norm * (1 + g)
    b = residual * (1 + 4 * _UNIT) + norm * (g + 4 * _UNIT)
    for place, bound in enumerate((a, b)):
        out[place] = safe.select(round_up(k, bound), float("inf"))


def bounds(k: Function, rows: RowBounds, first: Value, token: Buffer) -> Value:
    """The bounds of |f - p| for the 16 rows from `first` on, f32x16; token: f32[2] of its a, b."""
    residual, norm = (v.load(first, TILE) for v in (rows.residual, rows.norm))
    constant = k.const(f32xL, _UNDERFLOW)
    return k.fma(residual, token[0], k.fma(norm, token[1], constant))


def best_lower(k: Function, p: Value, bound: Value) -> Value:
    """The largest p - bound of a tile; -inf when none is a number."""
    lower = p - bound
    lower = lower.equals(lower).select(lower, float("-inf"))
    return k.reduce(lower, "max")


def kth_largest(k: Function, values: Buffer, rank: Value) -> Value:
    """The rank-th largest (1 = the largest) of f32 values; -inf when there are not as many.

    values: none is NaN. Finds the bits of the answer from the highest down.
    """
    count = values.known_count
    key = k.var(t.i32)
    with k.loop(0, 32) as i:
        bit = k.const(t.i32, 1 << 31).lshr(i.trunc(t.i32))
        candidate = key.get() | bit
        lanes = k.var(i32xL)
        whole = count // LANES * LANES
        with k.loop(0, whole, LANES) as j:
            below = _key(values.load(j, LANES)).below(candidate)
            lanes.set(lanes.get() + below.select(lanes.get().constant(0), 1))
        at_least = k.var(t.i64, k.reduce(lanes.get(), "add").zext(t.i64))
        with k.loop(whole, count) as j:
            below = _key(values[j]).below(candidate)
            at_least.set(at_least.get() + below.select(k.index(0), 1))
        key.set((at_least.get() >= rank).select(candidate, key.get()))
    bits = key.get() ^ (key.get() < 0).select(k.const(t.i32, -(2**31)), k.const(t.i32, -1))
    found = bits.bitcast(t.f32)
    return k.index(count).below(rank).select(float("-inf"), found)


def _key(x: Value) -> Value:
    """An unsigned number that grows with x."""
    bits = x.bitcast(t.like(x.type, t.i32))
    return bits ^ (bits < 0).select(bits.constant(-1), bits.constant(-(2**31)))


# -- references ----------------------------------------------------------------------------------


def token_bound_reference(x: F32, v: Integers, s: F32, largest_norm: float) -> F32:
    """a and b (tokens, 2) of x (tokens, n), v and s from `split_reference`."""
    g = _growth(x.shape[1])
    wide = x.astype(np.float64)
    missing = wide - v * s.astype(np.float64)[:, None]
    norm, residual = (np.sqrt(lanes_reference(y * y)) for y in (wide, missing))
    a = norm * (1 + g)
    b = residual * (1 + 4 * _UNIT) + norm * (g + 4 * _UNIT)
    safe = (norm * largest_norm < _OVERFLOW)[:, None]
    return np.where(safe, round_up_reference(np.stack([a, b], axis=1)), np.float32(np.inf))


def bounds_reference(residual: F32, norm: F32, token: F32) -> F32:
    """The bounds (tokens, rows) for residual and norm (rows,) and token (tokens, 2)."""
    a, b = token[:, :1], token[:, 1:]
    return fma_reference(residual, a, fma_reference(norm, b, np.float32(_UNDERFLOW)))


def candidates_reference(p: F32, bound: F32, rank: int) -> npt.NDArray[np.bool_]:
    """Which rows may be among the `rank` best, for one token: p and bound (rows,)."""
    with np.errstate(invalid="ignore"):
        lower, upper = p - bound, p + bound
    tiles: Any = np.where(np.isnan(lower), np.float32(-np.inf), lower)
    tiles = np.pad(tiles, (0, -len(p) % TILE), constant_values=-np.inf).reshape(-1, TILE)
    best = np.sort(tiles.max(axis=1))[::-1]
    threshold = best[rank - 1] if rank <= len(best) else np.float32(-np.inf)
    return ~(upper < threshold)
