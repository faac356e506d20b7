"""Quantising float rows to Q6_K tiles, operation by operation as `bitnet.quant.q6_k` does.

A block with weights that Q6_K cannot hold gets the scale NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.q6_k import BLOCK, SUB, ZERO, Block, put_block
from bitnet.kernels.q8_0 import F16_NAN, holds

_LARGEST = 65504.0 * 127 * 31  # beyond, d might not fit an f16
_TINY = 1e-15  # sub-blocks below this are zero
_TRIES = 9  # scales tried on either side of the first


def quantize_row(
    k: Function, load: Callable[[Value], Value], row: Value, tile: Buffer, n: int
) -> None:
    """Quantise a row and put it at its place `row` in a tile.

    load(i): columns i..i+15, f32x16.
    """
    with k.loop(0, n // BLOCK) as b:
        put_block(tile, n, row, b, _quantize_block(k, load, b * BLOCK))


def _quantize_block(k: Function, load: Callable[[Value], Value], first: Value) -> Block:
    wanted = Buffer.local(k, t.f32, SUB, "q6_k.scales")
    fits = k.var(t.i1, 1)
    with k.loop(0, SUB) as j:
        x = load(first + j * SUB)
        fits.set(fits.get() & holds(k, x, _LARGEST))
        wanted[j] = _best_scale(k, x)
    scales = wanted.load(0, SUB)
    most = _furthest(k, scales)
    inverse = -128.0 / most
    bits = k.target.f32_to_f16(k, (k.abs(most) < _TINY).select(0.0, 1.0 / inverse))
    d = k.target.f16_to_f32(k, bits)
    none = d.equals(0.0)
    rounded = k.round_to_int(k.min(k.max(scales * inverse, -128.0), 127.0))
    small = none.splat(SUB).select(0, rounded)
    steps = small.to_float() * d
    codes = [_codes(k, load(first + j * SUB), steps.lane(j)) for j in range(SUB)]
    bits = fits.get().select(bits, F16_NAN)
    return Block(bits, small.trunc(t.i8), codes)


def _codes(k: Function, x: Value, step: Value) -> Value:
    """The codes of a sub-block, i8x16."""
    q = k.round_to_int(k.min(k.max(x / step, -32.0), 31.0))
    return (step.equals(0.0).splat(SUB).select(0, q) + ZERO).trunc(t.i8)


def _best_scale(k: Function, x: Value) -> Value:
    """The scale among 19 with the least squared error, weighted with x**2; may be negative."""
    furthest = _furthest(k, x)
    scale, best = k.var(t.f32), k.var(t.f32)
    with k.loop(-_TRIES, _TRIES + 1) as i:
        inverse = (i.trunc(t.i32).to_float() * -0.1 - 32.0) / furthest
        codes = k.round_to_int(k.min(k.max(x * inverse, -32.0), 31.0)).to_float()
        weighted = x * x * codes
        xl, ll = k.reduce(weighted * x, "add"), k.reduce(weighted * codes, "add")
        better = (ll > 0.0) & (xl * xl > best.get() * ll)
        scale.set(better.select(xl / ll, scale.get()))
        best.set(better.select(scale.get() * xl, best.get()))
    return (k.abs(furthest) < _TINY).select(0.0, scale.get())


def _furthest(k: Function, x: Value) -> Value:
    """The lane with the largest magnitude; the positive one of two."""
    high, low = k.reduce(x, "max"), k.reduce(-x, "max")
    return (high >= low).select(high, -low)
