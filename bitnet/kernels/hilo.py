"""Activations of 15 bits for the quantised output heads, as two int8 parts.

x is about s * v with integers v = 128 * high + low, high within -127..127 and low within -64..63,
so two dot products of bytes do the work of one with 15 bits. Weights that meet them are unsigned
codes c that stand for c - zero; sum((c - zero) * q) = sum(c * q) - zero * sum(q), and the last
term is computed here once, as the offset where the sums of a block of columns start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.numerics import F32, LANES, f32xL, fma_reference

AHEAD = 8192  # bytes before their use that weights are asked for, measured on Zen 5
V_MAX = 127.0 * 128.0 + 63.0
_SMALLEST_ABSMAX = 2.0**-100  # below, a row counts as zeros

i32x16 = t.vec(t.i32, 16)
i8x64 = t.vec(t.i8, 64)
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Format:
    """What a head wants: rows of `columns` columns, with offsets for blocks of `block` of them."""

    columns: int
    block: int
    zero: int

    @property
    def n_blocks(self) -> int:
        return self.columns // self.block


@dataclass(frozen=True)
class Split:
    """Rows of activations in two parts.

    q: i8[n][2][columns], the high parts of a row, then the low ones; offsets: i32[n][2][blocks],
    -zero times the sums of a block; scale: f32[n], s.
    """

    format: Format
    q: Buffer
    offsets: Buffer
    scale: Buffer

    def four(self, row: Dim, part: int, step: Dim) -> Value:
        """Columns 4*step..4*step+3 of a part, for each of 16 rows of weights: i8x64."""
        words = self.q.as_type(t.i32)
        at = (row * 2 + part) * (self.format.columns // 4) + step
        return words[at].splat(16).bitcast(i8x64)

    def offset(self, row: Dim, part: int, block: Dim) -> Value:
        """Where the sums of a block start: i32x16."""
        return self.offsets[(row * 2 + part) * self.format.n_blocks + block].splat(16)

    def rows(self, first: Dim, count: int) -> Split:
        """The `count` rows from `first` on."""
        columns, blocks = 2 * self.format.columns, 2 * self.format.n_blocks
        return Split(
            self.format,
            self.q.part(first * columns, count * columns),
            self.offsets.part(first * blocks, count * blocks),
            self.scale.part(first, count),
        )


def split(k: Function, x: Buffer, out: Split) -> None:
    """Quantise one row: v = round(x / s), s = max(max|x|, 2**-100) / 16319.

    x: f32[columns]. Ties round to even. When a number of x is not finite, s is NaN, so that all
    that is computed with it is.
    """
    columns, block, zero = out.format.columns, out.format.block, out.format.zero
    largest, odd = k.var(f32xL), k.var(f32xL)
    with k.loop(0, columns, LANES) as i:
        v = x.load(i, LANES)
        largest.set(k.max(k.abs(v), largest.get()))
        odd.set(odd.get() + (v - v))  # 0, or NaN from infinities and NaN
    absmax = k.max(k.reduce(largest.get(), "max"), _SMALLEST_ABSMAX)
    up = V_MAX / absmax
    with k.loop(0, columns // block) as b:
        sums = k.var(i32x16), k.var(i32x16)
        with k.loop(b * block, (b + 1) * block, LANES) as i:
            v = k.round_to_int(k.min(k.max(x.load(i, LANES) * up, -V_MAX), V_MAX))
            high = (v + 64).ashr(7)
            for part, q in enumerate((high, v - (high << 7))):
                sums[part].set(sums[part].get() + q)
                out.q.store(i + part * columns, q.trunc(t.i8))
        for part, total in enumerate(sums):
            out.offsets[b + part * out.format.n_blocks] = k.reduce(total.get(), "add") * -zero
    finite = k.reduce(odd.get(), "add").equals(0.0)
    out.scale[0] = finite.select(absmax / V_MAX, float("nan"))


def joined(k: Function, high: Value, low: Value) -> Value:
    """128 * high + low of sums as f32, rounded once when they are exact there."""
    return k.fma(high.to_float(), high.to_float().constant(128.0), low.to_float())


# -- references ----------------------------------------------------------------------------------


def split_reference(x: F32) -> tuple[Integers, F32]:
    """x (..., columns) to v, same shape, and s (...,); v only counts where s is a number."""
    finite = np.isfinite(x)
    numbers = np.where(finite, x, np.float32(0))
    absmax = np.maximum(np.abs(numbers).max(axis=-1), np.float32(_SMALLEST_ABSMAX))
    up = np.float32(V_MAX) / absmax
    v = np.rint(np.clip(numbers * up[..., None], -np.float32(V_MAX), np.float32(V_MAX)))
    scale = np.where(finite.all(axis=-1), absmax / np.float32(V_MAX), np.float32(np.nan))
    return v.astype(np.int64), scale


def parts_reference(v: Integers) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    high = (v + 64) >> 7
    return high.astype(np.int8), (v - (high << 7)).astype(np.int8)


def layout_reference(v: Integers, form: Format) -> tuple[Any, Any]:
    """`Split.q` and `Split.offsets` of v (n, columns)."""
    q = np.stack(parts_reference(v), axis=1)
    sums = q.reshape(len(v), 2, form.n_blocks, form.block).sum(axis=-1, dtype=np.int32)
    return q, sums * np.int32(-form.zero)


def joined_reference(high: Integers, low: Integers) -> F32:
    return fma_reference(high.astype(np.float32), np.float32(128), low.astype(np.float32))
