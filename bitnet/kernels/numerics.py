"""The arithmetic rules that make results the same bits everywhere.

Float sums run over 16 lanes, whatever the CPU's vector width, and end in a fixed tree. Products
are added with one rounding (fma). exp is our own polynomial. The numpy half of this file follows
the same rules operation by operation, so that references can be compared for equality.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.quant import tiled

F32 = npt.NDArray[np.float32]

LANES = 16
PAD = tiled.PAD  # rows in memory are padded with zeros to a multiple of this many elements
f32xL = t.vec(t.f32, LANES)

# exp(x) = 2**n * exp(r), n = round(x / ln 2), |r| <= ln(2) / 2; ln 2 is split in two so that
# r is exact; the polynomial for exp(r) is the minimax one of the Cephes library (expf).
_LOG2E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_POLYNOMIAL = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_EXP_MIN, _EXP_MAX = -87.0, 88.0


def padded(n: int) -> int:
    """`n` rounded up to a whole number of padding blocks."""
    return -(-n // PAD) * PAD


def by_lanes(k: Function, n: int, body: Callable[[Dim, int], None]) -> None:
    """Write body(i, valid) for i = 0, 16, ... below n, valid being how many of 16 are below n."""
    whole = n // LANES * LANES
    with k.loop(0, whole, LANES) as i:
        body(i, LANES)
    if whole < n:
        body(whole, n - whole)


def exp(k: Function, x: Value) -> Value:
    """e**x, to about 2 ulp; 0 below -87, e**88 above 88."""
    clamped = k.max(k.min(x, _EXP_MAX), _EXP_MIN)
    n = k.round_to_int(clamped * _LOG2E)
    whole = n.to_float()
    r = k.fma(whole, x.constant(-_LN2_HIGH), clamped)
    r = k.fma(whole, x.constant(-_LN2_LOW), r)
    p = x.constant(_POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        p = k.fma(p, r, x.constant(coefficient))
    p = k.fma(p * r, r, r) + 1.0
    scaled = p * ((n + 127) << 23).bitcast(x.type)
    return (x < _EXP_MIN).select(0.0, scaled)


# -- the same in numpy ---------------------------------------------------------------------------


def fma_reference(a: Any, b: Any, c: Any) -> F32:
    """f32 a*b + c rounded once, by rounding to odd in f64 (see `Target.fma`)."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    addend = np.asarray(c, np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    away = (error > 0) ^ (total < 0)
    adjust = (error != 0) & np.isfinite(error) & (bits & 1 == 0)
    bits = bits + np.where(adjust, np.where(away, 1, -1), 0)
    return np.asarray(bits.view(np.float64).astype(np.float32))


def tree_reference(lanes: Any, combine: Any = np.add) -> F32:
    """The last axis, of power-of-two length, folded in halves as `Function.reduce` does."""
    out = np.asarray(lanes, np.float32)
    while out.shape[-1] > 1:
        half = out.shape[-1] // 2
        out = combine(out[..., :half], out[..., half:])
    return np.asarray(out[..., 0])


def dot_reference(a: F32, b: F32) -> F32:
    """Sum over the last axis of a*b in 16 lanes; the axis is padded with zeros as needed."""
    n = -(-a.shape[-1] // LANES) * LANES
    a, b = (pad_reference(v, n) for v in (a, b))
    lanes = np.zeros((*np.broadcast_shapes(a.shape, b.shape)[:-1], LANES), np.float32)
    for i in range(0, n, LANES):
        lanes = fma_reference(a[..., i : i + LANES], b[..., i : i + LANES], lanes)
    return tree_reference(lanes)


def pad_reference(a: F32, n: int) -> F32:
    """`a` with zeros appended on the last axis up to `n`."""
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, n - a.shape[-1])])


def exp_reference(x: F32) -> F32:
    one = np.float32
    clamped = np.maximum(np.minimum(x, one(_EXP_MAX)), one(_EXP_MIN))
    n = np.rint(clamped * one(_LOG2E)).astype(np.float32)
    r = fma_reference(n, one(-_LN2_HIGH), clamped)
    r = fma_reference(n, one(-_LN2_LOW), r)
    p = np.full_like(r, _POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        p = fma_reference(p, r, one(coefficient))
    p = fma_reference(p * r, r, r) + one(1)
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return np.where(x < one(_EXP_MIN), one(0), p * power)
