"""Ternary matrix times int8 activations: exact integers, so any order gives the same sums.

Layout of a matrix of M rows (outputs) and K columns (inputs), both padded to multiples of 64.
Weights are codes w+1 in {0, 1, 2}, two bits each. A tile of 16 rows x 16 columns takes 64 bytes:
byte 4r+c holds row r, columns c, 4+c, 8+c, 12+c from the low bits up. Four tiles, 64 rows, make
a group. Memory order: [M/64 groups][K/16][4 tiles][64 bytes].

Masking a tile with 3 << 2j leaves the codes of columns 4j..4j+3, shifted left by 2j, as unsigned
bytes: one multiply-accumulate takes them times four activations, with no shift per weight.
sum((w+1) * q) - sum(q) = sum(w * q). Padding rows have code 1 (weight 0), padding columns meet
activations that are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from bitnet.codegen import Buffer, Dim, Function, Module, Value
from bitnet.codegen import types as t
from bitnet.kernels.numerics import F32, padded

TILE = 16
TILE_BYTES = 64
GROUP_TILES = 4
GROUP_ROWS = GROUP_TILES * TILE

# One token's accumulators hold sums of 2 * 64 * 127: beyond this they could overflow 32 bits.
MAX_COLUMNS = 2**19

i32x16 = t.vec(t.i32, 16)
i8x64 = t.vec(t.i8, 64)

Codes = npt.NDArray[np.uint8]


def group_bytes(columns: int) -> int:
    """Bytes of a group of 64 rows with `columns` columns, a multiple of 64."""
    return columns // TILE * GROUP_TILES * TILE_BYTES


def packed_bytes(rows: int, columns: int) -> int:
    """Bytes of a whole packed matrix."""
    return padded(rows) // GROUP_ROWS * group_bytes(padded(columns))


def group_dot(
    k: Function,
    weights: Buffer,
    q: Buffer,
    columns: int,
    n_tokens: Dim,
    use: Callable[[Value, list[Value]], None],
) -> None:
    """Multiply one group of 64 rows with every token of a batch.

    weights: i8[group_bytes(columns)]; q: i8[n_tokens * columns]. Writes, for each token, a call
    `use(token, sums)` where sums is four i32x16: the rows' sums of code * q.
    """
    block = k.target.gemm_tokens
    sums = Buffer.local(k, t.i32, block * GROUP_ROWS, "ternary.sums")

    def multiply(token: Value, count: int) -> None:
        _call_block_dot(k, weights, q.part(token * columns, count * columns), sums, columns, count)
        for i in range(count):
            row = sums.part(i * GROUP_ROWS, GROUP_ROWS)
            use(token + i, [row.load(tile * TILE, TILE) for tile in range(GROUP_TILES)])

    whole_blocks = n_tokens // block * block
    with k.loop(0, whole_blocks, block) as token:
        multiply(token, block)
    with k.loop(whole_blocks, n_tokens) as token:
        multiply(token, 1)


def _call_block_dot(
    k: Function, weights: Buffer, q: Buffer, sums: Buffer, columns: int, tokens: int
) -> None:
    """`block_dot` as a function of its own, shared by all linears of this width."""
    if k.module.checked:  # in line, so that it keeps the bounds of the caller's buffers
        block_dot(k, weights, q, sums, columns, tokens)
        return

    def body(f: Function) -> None:
        w, x, s = (
            Buffer(f, base, like.element, like.count, like.name)
            for base, like in zip(f.args, (weights, q, sums), strict=True)
        )
        block_dot(f, w, x, s, columns, tokens)

    function = k.module.function(f"ternary_dot_{columns}x{tokens}", [t.ptr] * 3, body)
    k.call(function, weights.base, q.base, sums.base)


def block_dot(
    k: Function, weights: Buffer, q: Buffer, sums: Buffer, columns: int, tokens: int
) -> None:
    """sums[token][64 rows] = sum of code * q, for one group of rows and a few tokens.

    weights: i8[group_bytes(columns)]; q: i8[tokens * columns]; sums: i32[tokens * 64].
    """
    at_once = k.target.gemm_tiles
    for first in range(0, GROUP_TILES, at_once):
        tiles = range(first, min(first + at_once, GROUP_TILES))
        if tokens == 1:
            _dot_one_token(k, weights, q.as_type(t.i32), sums, columns, tiles)
        else:
            _dot_block(k, weights, q.as_type(t.i32), sums, columns, tiles, tokens)


def _dot_one_token(
    k: Function, weights: Buffer, q: Buffer, sums: Buffer, columns: int, tiles: range
) -> None:
    """No shifts: an accumulator per bit position, put together at the end."""
    acc = {(tile, j): k.var(i32x16) for tile in tiles for j in range(4)}
    with k.loop(0, columns // TILE) as step:
        four = [q[step * 4 + j].splat(16).bitcast(i8x64) for j in range(4)]
        for tile in tiles:
            codes = weights.load((step * GROUP_TILES + tile) * TILE_BYTES, TILE_BYTES)
            for j in range(4):
                total = acc[tile, j]
                total.set(k.target.dot4(k, total.get(), codes & (3 << 2 * j), four[j]))
    for tile in tiles:
        result = acc[tile, 0].get()
        for j in range(1, 4):
            result = result + acc[tile, j].get().ashr(2 * j)
        sums.store(tile * TILE, result)


def _dot_block(
    k: Function, weights: Buffer, q: Buffer, sums: Buffer, columns: int, tiles: range, tokens: int
) -> None:
    """Codes are shifted into place once and used for all tokens of the block."""
    acc = {(tile, token): k.var(i32x16) for tile in tiles for token in range(tokens)}
    with k.loop(0, columns // TILE) as step:
        packed = {
            tile: weights.load((step * GROUP_TILES + tile) * TILE_BYTES, TILE_BYTES)
            for tile in tiles
        }
        for j in range(4):
            codes = {tile: _codes_at(packed[tile], j) for tile in tiles}
            for token in range(tokens):
                four = q[step * 4 + (token * columns // 4 + j)].splat(16).bitcast(i8x64)
                for tile in tiles:
                    total = acc[tile, token]
                    total.set(k.target.dot4(k, total.get(), codes[tile], four))
    for (tile, token), total in acc.items():
        sums.store(token * GROUP_ROWS + tile * TILE, total.get())


def _codes_at(packed: Value, j: int) -> Value:
    """The codes at bit position 2j of each byte, as bytes 0..2."""
    return (packed.bitcast(i32x16).lshr(2 * j)).bitcast(i8x64) & 3


def scale_sums(sums: Value, q_total: Value, w_scale: Value, q_scale: Value) -> Value:
    """The linear's output y = (sum of code*q - sum of q) * (w_scale / q_scale), f32x16.

    sums: i32x16; q_total: i32; w_scale: f32x16, the scales of the rows; q_scale: f32, the
    token's quantisation scale.
    """
    return (sums - q_total).to_float() * (w_scale / q_scale)


def pack(module: Module, columns: int) -> ir.Function:
    """The exported function pack(codes, n_tiles, packed), which fills groups of a matrix.

    codes: i8[16 * n_tiles][padded columns] values 0..2; packed: i8, the layout above;
    n_tiles: i64, a multiple of 4.
    """

    def body(k: Function) -> None:
        n_tiles = k.args[1]
        codes = Buffer(k, k.args[0], t.i32, n_tiles * (TILE * columns // 4), "pack.codes")
        size = n_tiles * (columns // TILE * TILE_BYTES // 4)
        packed = Buffer(k, k.args[2], t.i32, size, "pack.packed")
        with k.loop(0, n_tiles) as tile, k.loop(0, TILE) as row, k.loop(0, columns // TILE) as step:
            source = (tile * TILE + row) * (columns // 4) + step * 4
            word = codes[source]
            for j in range(1, 4):
                word = word | (codes[source + j] << 2 * j)
            group, member = tile // GROUP_TILES, tile % GROUP_TILES
            tile_number = (group * (columns // TILE) + step) * GROUP_TILES + member
            packed[tile_number * (TILE_BYTES // 4) + row] = word

    return module.function(f"pack_{columns}", [t.ptr, t.i64, t.ptr], body, exported=True)


# -- references ----------------------------------------------------------------------------------


def pack_reference(codes: Codes) -> Codes:
    """codes: uint8 (rows, columns), both multiples of 64, to the packed bytes (1-D)."""
    rows, columns = codes.shape
    parts = codes.reshape(rows // GROUP_ROWS, GROUP_TILES, TILE, columns // TILE, 4, 4)
    shifted = parts << (2 * np.arange(4, dtype=np.uint8))[:, None]
    tiles = np.bitwise_or.reduce(shifted, axis=4)  # group, tile, row, step, byte
    return np.ascontiguousarray(tiles.transpose(0, 3, 1, 2, 4)).reshape(-1)


def linear_reference(codes: Codes, w_scale: F32, q: npt.NDArray[np.int8], q_scale: F32) -> F32:
    """y (tokens, rows) of a ternary linear.

    codes: (rows, columns); w_scale: (rows,); q: (tokens, columns); q_scale: (tokens,).
    """
    sums = q.astype(np.int64) @ (codes.astype(np.int64).T - 1)
    return sums.astype(np.float32) * (w_scale / q_scale[:, None]).astype(np.float32)
