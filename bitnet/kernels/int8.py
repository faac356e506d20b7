"""int8 output head: a row of weights is scale * q, q within -127..127; one scale a row.

Tiles of 16 rows: [columns / 4][16 rows][4 columns] of q + 128 as unsigned bytes, so that 64 bytes
meet four activations. Columns are padded to a multiple of 64. A row that holds infinities or NaN
has the scale NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Dim, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels.head import Kind, widen
from bitnet.kernels.hilo import AHEAD, Format, Integers, Split
from bitnet.kernels.numerics import F32, LANES, by_lanes, f32xL, padded
from bitnet.quant.tiled import TILE

ZERO = 128
Q_MAX = 127.0
MAX_COLUMNS = 2**17  # 128 * 127 times as many still fits 32 bits
UP = 1.0 + 2.0**-20  # what bounds are multiplied by before they are rounded to f32
_SMALLEST_ABSMAX = 2.0**-100  # below, a row counts as zeros
_SMALLEST_BOUND = 2.0**-120

f64xL = t.vec(t.f64, LANES)
i32xL = t.vec(t.i32, LANES)


def split_format(n: int) -> Format:
    """The activations that meet rows of `n` columns."""
    return Format(padded(n), padded(n), ZERO)


def tile_bytes(n: int) -> int:
    """Bytes of a tile of 16 rows with `n` columns."""
    return TILE * padded(n)


@dataclass(frozen=True)
class RowBounds:
    """What goes with the codes of rows: f32[rows] each.

    residual: at least |w - scale * q|; norm: at least |scale * q|, Euclidean norms both.
    """

    scale: Buffer
    residual: Buffer
    norm: Buffer

    def rows(self, first: Dim, count: int) -> RowBounds:
        """Those of the `count` rows from `first` on."""
        return RowBounds(*(b.part(first, count) for b in (self.scale, self.residual, self.norm)))


def row_bounds(head: StructRef, rows: int) -> RowBounds:
    """The fields of these names of a struct."""
    return RowBounds(*(head.buffer(f.name, t.f32, rows) for f in fields(RowBounds)))


def dots(k: Function, tile: Buffer, scales: Value, x: Split, tokens: int) -> list[Value]:
    """The products of a tile with the first rows of x: f32x16 each.

    tile: i8[tile_bytes(n)]; scales: f32x16, of the tile's rows. Exact but for one rounding.
    """
    phases = 2 if tokens == 1 else 1  # a single chain of sums would wait for itself
    acc = {
        (token, part, phase): k.var(i32xL, 0 if phase else x.offset(token, part, 0))
        for token in range(tokens)
        for part in (0, 1)
        for phase in range(phases)
    }
    with k.loop(0, x.format.columns // 4, phases) as step:
        for phase in range(phases):
            tile.prefetch((step + phase) * 64 + AHEAD)
        codes = [tile.load((step + phase) * 64, 64) for phase in range(phases)]
        for (token, part, phase), total in acc.items():
            four = x.four(token, part, step + phase)
            total.set(k.target.dot4_u8(k, total.get(), codes[phase], four))
    results = []
    for token in range(tokens):
        high, low = (
            reduce(add, (acc[token, part, phase].get() for phase in range(phases)))
            for part in (0, 1)
        )
        exact = high.to_float(t.f64) * 128.0 + low.to_float(t.f64)
        scale = scales.widen(t.f64) * x.scale[token].widen(t.f64)
        results.append((exact * scale).narrow(t.f32))
    return results


def pack_row(
    k: Function, source: Buffer, kind: Kind, row: Value, tile: Buffer, out: RowBounds
) -> None:
    """Quantise one row of a float table: scale = max|w| / 127, q = round(w / scale).

    source: STORED[kind][n]; row: its number in the tile, i8[tile_bytes(n)]; out: of the tile.
    """
    n = source.known_count
    largest = k.var(f32xL)

    def widest(i: Dim, valid: int) -> None:
        w = widen(k, source.load(i, LANES, valid=valid), kind)
        largest.set(k.max(k.abs(w), largest.get()))

    by_lanes(k, n, widest)
    absmax = k.reduce(largest.get(), "max")
    zero = absmax < _SMALLEST_ABSMAX
    up, scale = zero.select(0.0, Q_MAX / absmax), zero.select(0.0, absmax / Q_MAX)
    squares, rest = k.var(i32xL), k.var(f64xL)

    def put(i: Dim, valid: int) -> None:
        w = widen(k, source.load(i, LANES, valid=valid), kind)
        q = k.round_to_int(k.min(k.max(w * up, -Q_MAX), Q_MAX))
        _put(tile, row, i, q)
        squares.set(squares.get() + q * q)
        missing = w.widen(t.f64) - q.to_float(t.f64) * scale.widen(t.f64)
        rest.set(rest.get() + missing * missing)

    by_lanes(k, n, put)
    with k.loop(-(-n // LANES) * LANES, padded(n), LANES) as i:
        _put(tile, row, i, k.const(i32xL, 0))
    residual = k.sqrt(k.reduce(rest.get(), "add"))
    norm = k.sqrt(k.reduce(squares.get(), "add").to_float(t.f64)) * scale.widen(t.f64)
    out.scale[row] = (residual - residual).equals(0.0).select(scale, float("nan"))
    out.residual[row] = round_up(k, residual)
    out.norm[row] = round_up(k, norm)


def round_up(k: Function, x: Value) -> Value:
    """A f64 number as an f32 that is no smaller, by a few millionths and never below 2**-120."""
    return k.max((x * UP).narrow(t.f32), _SMALLEST_BOUND)


def _put(tile: Buffer, row: Value, column: Dim, q: Value) -> None:
    """Sixteen columns of a row into its tile."""
    words = (q + ZERO).trunc(t.i8).bitcast(t.vec(t.i32, 4))
    out = tile.as_type(t.i32)
    for i in range(4):
        out[(column // 4 + i) * TILE + row] = words.lane(i)


# -- references ----------------------------------------------------------------------------------


def quantize_reference(weights: F32) -> tuple[npt.NDArray[np.int8], F32]:
    """weights (rows, n), finite, to q and scale (rows,)."""
    absmax = np.abs(weights).max(axis=1)
    zero = absmax < np.float32(_SMALLEST_ABSMAX)
    with np.errstate(divide="ignore", over="ignore"):
        up = np.where(zero, np.float32(0), np.float32(Q_MAX) / absmax)
    scale = np.where(zero, np.float32(0), absmax / np.float32(Q_MAX))
    q = np.rint(np.clip(weights * up[:, None], -np.float32(Q_MAX), np.float32(Q_MAX)))
    return q.astype(np.int8), scale


def bounds_reference(weights: F32, q: npt.NDArray[np.int8], scale: F32) -> tuple[F32, F32]:
    """The residual and the norm of each row."""
    wide = scale.astype(np.float64)
    missing = weights - q * wide[:, None]
    residual = np.sqrt(lanes_reference(missing * missing))
    norm = np.sqrt(np.square(q, dtype=np.int64).sum(axis=1).astype(np.float64)) * wide
    return round_up_reference(residual), round_up_reference(norm)


def round_up_reference(x: Any) -> F32:
    return np.asarray(np.maximum((x * UP).astype(np.float32), np.float32(_SMALLEST_BOUND)))


def lanes_reference(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The last axis added up in 16 lanes and a tree, in f64."""
    width = -(-x.shape[-1] // LANES) * LANES
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])
    lanes = np.zeros((*x.shape[:-1], LANES))
    for i in range(0, width, LANES):
        lanes = lanes + x[..., i : i + LANES]
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return np.asarray(lanes[..., 0])


def tiles_reference(q: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """The tiles (n tiles, bytes) of q (rows, n)."""
    rows, n = q.shape
    codes = np.full((-(-rows // TILE) * TILE, padded(n)), ZERO, np.uint8)
    codes[:rows, :n] = q.astype(np.int16) + ZERO
    tiles = codes.reshape(-1, TILE, padded(n) // 4, 4).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles).reshape(len(tiles), -1)


def head_reference(q: npt.NDArray[np.int8], scale: F32, v: Integers, x_scale: F32) -> F32:
    """Logits (tokens, rows) of q (rows, n), scale (rows,), v (tokens, n) and x_scale (tokens,)."""
    sums = (v @ q.astype(np.int64).T).astype(np.float64)
    return np.asarray((sums * (scale.astype(np.float64) * x_scale[:, None])).astype(np.float32))
