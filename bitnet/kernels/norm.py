"""RMS norm and the quantisation of activations to int8."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitnet.codegen import Buffer, Dim, Function
from bitnet.codegen import types as t
from bitnet.kernels.layouts import Layout
from bitnet.kernels.numerics import F32, LANES, by_lanes, dot_reference, f32xL

Q_MAX = 127.0
_SMALLEST_ABSMAX = 1e-5


def rms_norm(k: Function, x: Buffer, weight: Buffer, y: Buffer, n: int, eps: float) -> None:
    """y = x / sqrt(mean(x**2) + eps) * weight over the `n` elements of one row.

    x, y, weight: f32[n], or longer and zero beyond n. x may be y.
    """
    squares = k.var(f32xL)

    def add_squares(i: Dim, valid: int) -> None:
        v = x.load(i, LANES, valid=valid)
        squares.set(k.fma(v, v, squares.get()))

    by_lanes(k, x.known_count, add_squares)
    mean = k.reduce(squares.get(), "add") / float(n)
    scale = (1.0 / k.sqrt(mean + eps)).splat(LANES)

    def multiply(i: Dim, valid: int) -> None:
        normed = x.load(i, LANES, valid=valid) * scale * weight.load(i, LANES, valid=valid)
        y.store(i, normed, valid=valid)

    by_lanes(k, x.known_count, multiply)


def rms_norm_reference(x: F32, weight: F32, eps: float) -> F32:
    """x: (..., n); weight: (n,)."""
    mean = dot_reference(x, x) / np.float32(x.shape[-1])
    scale = np.float32(1) / np.sqrt(mean + np.float32(eps))
    return np.asarray(x * scale[..., None] * weight)


def quantize(
    k: Function, x: Buffer, layout: Layout, q: Buffer, scale: Buffer, total: Buffer
) -> None:
    """q = round(x * s) clamped to ±127, s = 127 / max(max|x|, 1e-5): the input of a ternary linear.

    x: f32[n], n a multiple of 16; q: i8, in the order of `layout`, zero where there is no x; scale:
    f32[1] receives s; total: i32[1] receives the sum of q. Ties round to even, as transformers'
    BitLinear does; the clamp keeps -128 out, which the integer kernels rely on.
    """
    largest = k.var(f32xL)
    with k.loop(0, x.count, LANES) as i:
        largest.set(k.max(k.abs(x.load(i, LANES)), largest.get()))
    absmax = k.max(k.reduce(largest.get(), "max"), _SMALLEST_ABSMAX)
    s = Q_MAX / absmax
    sums = k.var(t.vec(t.i32, LANES))
    with k.loop(0, x.count, LANES) as i:
        scaled = x.load(i, LANES) * s
        code = k.round_to_int(k.min(k.max(scaled, -Q_MAX), Q_MAX))
        sums.set(sums.get() + code)
        q.store(layout.place(i), code.trunc(t.i8))
    with k.loop(x.count, q.count, LANES) as i:
        q.store(layout.place(i), k.const(t.vec(t.i8, LANES), 0))
    scale[0] = s
    total[0] = k.reduce(sums.get(), "add")


def quantize_reference(x: F32) -> tuple[np.ndarray[Any, np.dtype[np.int8]], F32]:
    """x: (..., n) to (q int8 (..., n), s f32 (...,))."""
    absmax = np.maximum(np.abs(x).max(axis=-1), np.float32(_SMALLEST_ABSMAX))
    s = np.float32(Q_MAX) / absmax
    q = np.rint(np.clip(x * s[..., None], -np.float32(Q_MAX), np.float32(Q_MAX)))
    return q.astype(np.int8), s
