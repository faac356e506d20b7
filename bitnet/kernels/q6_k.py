"""Q6_K tables: embedding rows from ggml's blocks, and the output head from tiles.

The blocks are those of `bitnet.quant.q6_k`: 256 columns in 16 sub-blocks, d * scale * (code - 32).
For the head, tiles of 16 rows: [columns / 256][16 rows] of d as f16, padded to 64 bytes; then, for
each block, [16 sub-blocks][16 rows] of scales as i8 and [16 sub-blocks][3][16 rows][4 bytes] of
codes. Of the 16 columns of a sub-block, byte c of the first four holds the low four bits of
columns c and 4+c, from the low bits up, of the second those of 8+c and 12+c, of the third the
high two bits of c, 4+c, 8+c and 12+c. That is 6.5625 bits a weight, as in a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.hilo import (
    AHEAD,
    Format,
    Integers,
    Split,
    joined,
    joined_reference,
    parts_reference,
)
from bitnet.kernels.numerics import F32, f32xL, fma_reference, padded
from bitnet.quant.tiled import TILE

BLOCK = 256
BLOCK_BYTES = 210
SUB = 16  # columns of a sub-block, and sub-blocks of a block
ZERO = 32
_SCALES_BYTES = SUB * TILE
_SUB_BYTES = 3 * 64  # codes of a sub-block
_BLOCK_TILE_BYTES = _SCALES_BYTES + SUB * _SUB_BYTES

i32x16 = t.vec(t.i32, 16)
i8x64 = t.vec(t.i8, 64)


def row_bytes(n: int) -> int:
    """Bytes of a row of `n` columns in a file."""
    return n // BLOCK * BLOCK_BYTES


def split_format(n: int) -> Format:
    """The activations that meet rows of `n` columns."""
    return Format(n, SUB, ZERO)


def _blocks_start(n: int) -> int:
    return padded(n // BLOCK * TILE * 2)


def tile_bytes(n: int) -> int:
    """Bytes of a tile of 16 rows with `n` columns."""
    return _blocks_start(n) + n // BLOCK * _BLOCK_TILE_BYTES


@dataclass(frozen=True)
class Block:
    """A block of one row: d as bits (i16), scales i8x16, and codes 0..63, i8x16 a sub-block."""

    d: Value
    scales: Value
    codes: list[Value]


def read_block(row: Buffer, number: Value) -> Block:
    """A block of a file's row, i8[row_bytes(n)]."""
    block = row.part(number * BLOCK_BYTES, BLOCK_BYTES)
    codes = []
    for j in range(SUB):
        half, run, start = j // 8, j % 8 // 2, j % 2 * SUB
        low = block.load(64 * half + 32 * (run % 2) + start, SUB).lshr(4 * (run // 2)) & 15
        high = block.load(128 + 32 * half + start, SUB).lshr(2 * run) & 3
        codes.append(low | (high << 4))
    return Block(block.load(208, 2).bitcast(t.i16), block.load(192, SUB), codes)


def embed(k: Function, row: Buffer, x: Buffer) -> None:
    """x = the weights of a row. row: i8[row_bytes(n)]; x: f32[n]."""
    with k.loop(0, x.known_count // BLOCK) as b:
        block = read_block(row, b)
        steps = block.scales.sext(t.i32).to_float() * k.target.f16_to_f32(k, block.d)
        for j, codes in enumerate(block.codes):
            values = (codes.zext(t.i32) - ZERO).to_float() * steps.lane(j)
            x.store(b * BLOCK + j * SUB, values)


def dots(k: Function, tile: Buffer, x: Split, tokens: int) -> list[Value]:
    """The products of a tile with the first rows of x: f32x16 each.

    tile: i8[tile_bytes(n)]. Within a block all sums are exact, for each part of x; put together
    and times d, they are added up block by block.
    """
    n = x.format.columns
    d, blocks = tile.as_type(t.i16), tile.part(_blocks_start(n), n // BLOCK * _BLOCK_TILE_BYTES)
    totals = [k.var(f32xL) for _ in range(tokens)]
    with k.loop(0, n // BLOCK) as b:
        sums = [[k.var(i32x16), k.var(i32x16)] for _ in range(tokens)]
        block = blocks.part(b * _BLOCK_TILE_BYTES, _BLOCK_TILE_BYTES)
        with k.loop(0, SUB) as j:
            codes = _codes(block, j)
            scales = block.load(j * TILE, TILE).sext(t.i32)
            sub = b * SUB + j
            for token, parts in enumerate(sums):
                for part, total in enumerate(parts):
                    dot = x.offset(token, part, sub)
                    for c, w in enumerate(codes):
                        dot = k.target.dot4(k, dot, w, x.four(token, part, sub * 4 + c))
                    total.set(total.get() + dot * scales)
        scale = k.target.f16_to_f32(k, d.load(b * TILE, TILE))
        for total, (high, low) in zip(totals, sums, strict=True):
            total.set(k.fma(joined(k, high.get(), low.get()), scale, total.get()))
    return [total.get() * x.scale[token] for token, total in enumerate(totals)]


def _codes(block: Buffer, j: Value) -> list[Value]:
    """The codes of a sub-block of a tile's block: four i8x64, [16 rows][4 columns]."""
    at = j * _SUB_BYTES + _SCALES_BYTES
    for i in range(0, _SUB_BYTES, 64):
        block.prefetch(at + (i + AHEAD))
    low = [block.load(at + i * 64, 64) for i in (0, 1)]
    high = block.load(at + 128, 64).bitcast(i32x16)
    tops = [high << 4, high << 2, high, high.lshr(2)]
    return [
        (low[c // 2].bitcast(i32x16).lshr(4 * (c % 2)).bitcast(i8x64) & 15)
        | (top.bitcast(i8x64) & 0x30)
        for c, top in enumerate(tops)
    ]


def pack_row(k: Function, source: Buffer, row: Value, tile: Buffer, n: int) -> None:
    """Put one row of a file, i8[row_bytes(n)], at its place `row` in a tile."""
    with k.loop(0, n // BLOCK) as b:
        put_block(tile, n, row, b, read_block(source, b))


def put_block(tile: Buffer, n: int, row: Value, b: Value, block: Block) -> None:
    """Put block `b` of a row at its place `row` in a tile."""
    tile.as_type(t.i16)[b * TILE + row] = block.d
    out = tile.part(_blocks_start(n) + b * _BLOCK_TILE_BYTES, _BLOCK_TILE_BYTES)
    words = out.as_type(t.i32)
    for j, codes in enumerate(block.codes):
        out[row + j * TILE] = block.scales.lane(j)
        low = (codes & 15).bitcast(t.vec(t.i32, 4))
        high = codes.lshr(4).bitcast(t.vec(t.i32, 4))
        packed = (
            low.lane(0) | (low.lane(1) << 4),
            low.lane(2) | (low.lane(3) << 4),
            high.lane(0) | (high.lane(1) << 2) | (high.lane(2) << 4) | (high.lane(3) << 6),
        )
        at = (_SCALES_BYTES + j * _SUB_BYTES) // 4
        for i, word in enumerate(packed):
            words[row + (at + i * TILE)] = word


# -- references ----------------------------------------------------------------------------------


def tiles_reference(
    codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.int8], d: npt.NDArray[np.float16]
) -> npt.NDArray[np.uint8]:
    """The tiles (n tiles, bytes) of codes (rows, n), scales (rows, n / 16) and d (rows, n / 256).

    rows: a multiple of 16.
    """
    rows, n = codes.shape
    n_tiles, n_blocks = rows // TILE, n // BLOCK
    tiles = np.zeros((n_tiles, tile_bytes(n)), np.uint8)
    steps = np.ascontiguousarray(d.reshape(n_tiles, TILE, n_blocks).transpose(0, 2, 1))
    tiles[:, : n_blocks * TILE * 2] = steps.view(np.uint8).reshape(n_tiles, -1)
    blocks = tiles[:, _blocks_start(n) :].reshape(n_tiles, n_blocks, _BLOCK_TILE_BYTES)
    by_rows = scales.view(np.uint8).reshape(n_tiles, TILE, n_blocks, SUB)
    blocks[..., :_SCALES_BYTES] = by_rows.transpose(0, 2, 3, 1).reshape(n_tiles, n_blocks, -1)
    fours = codes.reshape(n_tiles, TILE, n_blocks, SUB, 4, 4).transpose(4, 0, 2, 3, 1, 5)
    low, high = fours & 15, fours >> 4
    packed = np.stack(
        [
            low[0] | low[1] << 4,
            low[2] | low[3] << 4,
            high[0] | high[1] << 2 | high[2] << 4 | high[3] << 6,
        ],
        axis=3,
    )
    blocks[..., _SCALES_BYTES:] = packed.reshape(n_tiles, n_blocks, -1)
    return tiles


def head_reference(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.int8],
    d: npt.NDArray[np.float16],
    v: Integers,
    x_scale: F32,
) -> F32:
    """Logits (tokens, rows) of a table as `tiles_reference` takes it, v (tokens, n), x_scale."""
    weights = (codes.astype(np.int64) - ZERO) * np.repeat(scales.astype(np.int64), SUB, axis=1)
    total = np.zeros((len(v), len(codes)), np.float32)
    for b in range(codes.shape[1] // BLOCK):
        part = slice(b * BLOCK, (b + 1) * BLOCK)
        high, low = (p[:, part].astype(np.int64) @ weights[:, part].T for p in parts_reference(v))
        total = fma_reference(joined_reference(high, low), d[:, b].astype(np.float32), total)
    return np.asarray(total * x_scale[:, None])
