"""Q8_0 tables: embedding rows from ggml's blocks, and the output head from tiles.

The blocks are those of `bitnet.quant.q8_0`: 32 columns, d * q. For the head, tiles of 16 rows:
[columns / 32][16 rows] of d as f16, padded to 64 bytes; then [columns / 4][16 rows][4 columns] of
q + 128 as unsigned bytes, so that 64 bytes meet four activations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.hilo import AHEAD, Format, Integers, Split
from bitnet.kernels.numerics import F32, LANES, f32xL, fma_reference, padded
from bitnet.quant.tiled import TILE

BLOCK = 32
BLOCK_BYTES = 34
ZERO = 128
F16_NAN = 0x7E00  # its bits
_Q_MAX = 127.0
_LARGEST = 65504.0 * _Q_MAX
_STEPS = BLOCK // 4


def row_bytes(n: int) -> int:
    """Bytes of a row of `n` columns in a file."""
    return n // BLOCK * BLOCK_BYTES


def split_format(n: int) -> Format:
    """The activations that meet rows of `n` columns."""
    return Format(n, BLOCK, ZERO)


def _codes_start(n: int) -> int:
    return padded(n // BLOCK * TILE * 2)


def tile_bytes(n: int) -> int:
    """Bytes of a tile of 16 rows with `n` columns."""
    return _codes_start(n) + TILE * n


def embed(k: Function, row: Buffer, x: Buffer) -> None:
    """x = the weights of a row. row: i8[row_bytes(n)]; x: f32[n]."""
    with k.loop(0, x.known_count // BLOCK) as b:
        d, q = _block(row, b)
        scale = k.target.f16_to_f32(k, d)
        for half, codes in enumerate(q):
            x.store(b * BLOCK + half * LANES, codes.sext(t.i32).to_float() * scale)


def _block(row: Buffer, number: Value) -> tuple[Value, list[Value]]:
    """d as bits (i16) and q as two i8x16 of a block of a file's row."""
    at = number * BLOCK_BYTES
    d = row.load(at, 2).bitcast(t.i16)
    return d, [row.load(at + (2 + half * LANES), LANES) for half in (0, 1)]


def dots(k: Function, tile: Buffer, x: Split, tokens: int) -> list[Value]:
    """The products of a tile with the first rows of x: f32x16 each.

    tile: i8[tile_bytes(n)]. Sums of a block are exact; d times them are added up block by block.
    """
    n = x.format.columns
    d, codes = tile.as_type(t.i16), tile.part(_codes_start(n), TILE * n)
    totals = [k.var(f32xL) for _ in range(tokens)]
    with k.loop(0, n // BLOCK) as b:
        scale = k.target.f16_to_f32(k, d.load(b * TILE, TILE))
        sums = [[x.offset(token, part, b) for part in (0, 1)] for token in range(tokens)]
        for i in range(_STEPS):
            step = b * _STEPS + i
            codes.prefetch(step * 64 + AHEAD)
            w = codes.load(step * 64, 64)
            for token, parts in enumerate(sums):
                for part in (0, 1):
                    four = x.four(token, part, step)
                    parts[part] = k.target.dot4_u8(k, parts[part], w, four)
        for total, (high, low) in zip(totals, sums, strict=True):
            total.set(k.fma(((high << 7) + low).to_float(), scale, total.get()))
    return [total.get() * x.scale[token] for token, total in enumerate(totals)]


def pack_row(k: Function, source: Buffer, row: Value, tile: Buffer, n: int) -> None:
    """Put one row of a file, i8[row_bytes(n)], at its place `row` in a tile."""
    with k.loop(0, n // BLOCK) as b:
        d, q = _block(source, b)
        _put(tile, n, row, b, d, q)


def quantize_row(
    k: Function, load: Callable[[Value], Value], row: Value, tile: Buffer, n: int
) -> None:
    """Quantise a row as `bitnet.quant.q8_0` does and put it at its place `row` in a tile.

    load(i): columns i..i+15, f32x16. A block with weights that Q8_0 cannot hold gets the scale NaN.
    """
    with k.loop(0, n // BLOCK) as b:
        w = [load(b * BLOCK + half * LANES) for half in (0, 1)]
        largest = k.reduce(k.max(k.abs(w[0]), k.abs(w[1])), "max")
        fits = holds(k, w[0], _LARGEST) & holds(k, w[1], _LARGEST)
        d = fits.select(k.target.f32_to_f16(k, largest / _Q_MAX), F16_NAN)
        scale = k.target.f16_to_f32(k, d)
        inverse = (scale > 0.0).select(1.0 / scale, 0.0)
        q = [k.round_to_int(k.min(k.max(v * inverse, -_Q_MAX), _Q_MAX)).trunc(t.i8) for v in w]
        _put(tile, n, row, b, d, q)


def holds(k: Function, x: Value, largest: float) -> Value:
    """Whether all lanes are numbers of at most this magnitude: i1."""
    outside = (k.abs(x) <= largest).select(x.constant(0.0), 1.0)
    return k.reduce(outside, "add").equals(0.0)


def _put(tile: Buffer, n: int, row: Value, b: Value, d: Value, q: list[Value]) -> None:
    """Put a block of a row into its tile."""
    tile.as_type(t.i16)[b * TILE + row] = d
    out = tile.part(_codes_start(n), TILE * n).as_type(t.i32)
    for half, codes in enumerate(q):
        words = (codes ^ ZERO).bitcast(t.vec(t.i32, 4))
        for i in range(4):
            out[(b * _STEPS + (half * 4 + i)) * TILE + row] = words.lane(i)


# -- references ----------------------------------------------------------------------------------


def tiles_reference(q: npt.NDArray[np.int8], d: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    """The tiles (n tiles, bytes) of q (rows, n) and d (rows, n / 32); rows a multiple of 16."""
    rows, n = q.shape
    tiles = np.zeros((rows // TILE, tile_bytes(n)), np.uint8)
    scales = np.ascontiguousarray(d.reshape(-1, TILE, n // BLOCK).transpose(0, 2, 1))
    tiles[:, : n // BLOCK * TILE * 2] = scales.view(np.uint8).reshape(len(tiles), -1)
    codes = (q.view(np.uint8) ^ ZERO).reshape(-1, TILE, n // 4, 4).transpose(0, 2, 1, 3)
    tiles[:, _codes_start(n) :] = codes.reshape(len(tiles), -1)
    return tiles


def head_reference(
    q: npt.NDArray[np.int8], d: npt.NDArray[np.float16], v: Integers, x_scale: F32
) -> F32:
    """Logits (tokens, rows) of q (rows, n), d (rows, n / 32), v (tokens, n), x_scale (tokens,)."""
    total = np.zeros((len(v), len(q)), np.float32)
    for b in range(q.shape[1] // BLOCK):
        part = slice(b * BLOCK, (b + 1) * BLOCK)
        sums = v[:, part] @ q[:, part].astype(np.int64).T
        total = fma_reference(sums.astype(np.float32), d[:, b].astype(np.float32), total)
    return np.asarray(total * x_scale[:, None])
