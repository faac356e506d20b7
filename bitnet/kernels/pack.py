"""Packing weights into the tiled layouts, at the speed of memory.

A source is read 16 rows at a time: 16 vectors of 64 bytes, one from each row, are transposed as
32-bit words, so that each vector then holds four neighbouring columns of 16 rows. From them come
the fields that a layout encodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from llvmlite import ir

from bitnet.codegen import Buffer, Dim, Function, Module, Value, Var
from bitnet.codegen import types as t
from bitnet.kernels.layouts import TiledLayout, i8x64, i32x16, two_bit_fields
from bitnet.quant.tiled import GROUP_TILES, TILE, TILE_BYTES

# How a source holds its codes: "i2_s" as in files of that type (rows of a multiple of 128 columns);
# "bytes", one code a byte at some bit position, rows of any length.
SourceKind = Literal["i2_s", "bytes"]
# (first column, how many, fields): fills fields, i8[count / 4 rounded up][64].
Fill = Callable[[Dim, int, Buffer], None]

_AT_ONCE = 1280  # columns: whole tiles of all layouts, and whole vectors of all sources
_WORDS = TILE_BYTES // 4


def pack(module: Module, layout: TiledLayout, kind: SourceKind, columns: int) -> ir.Function:
    """The exported function pack(source, n_strips, shift, packed, first, step) -> i64.

    Packs 16 * n_strips rows. source: i2_s, or i8[rows][columns] with the codes at bit `shift` (a
    multiple of 2). The i-th strip becomes tile first + i * step of `packed`, i8, a matrix in
    `layout`. Gives 1 if some code was 3, which is none, else 0.
    """

    def body(k: Function) -> None:
        n_strips, shift, first, step = k.args[1], k.args[2], k.args[4], k.args[5]
        row_bytes = columns // 4 if kind == "i2_s" else columns
        source = Buffer(k, k.args[0], t.i8, n_strips * (TILE * row_bytes), "pack.source")
        last = first + (n_strips - 1) * step
        size = layout.group_bytes(columns)
        packed = Buffer(k, k.args[3], t.i8, (last // GROUP_TILES + 1) * size, "pack.packed")
        bad = k.var(i32x16)
        with k.loop(0, n_strips) as strip:
            rows = source.part(strip * (TILE * row_bytes), TILE * row_bytes)
            tile = first + strip * step
            group = packed.part(tile // GROUP_TILES * size, size)

            def fill(start: Dim, count: int, fields: Buffer) -> None:
                if kind == "i2_s":
                    _fields_of_i2_s(k, rows, columns // 4, start, count, fields, bad)
                else:
                    _fields_of_bytes(k, rows, columns, start, count, shift, fields, bad)

            pack_strip(k, layout, columns, _AT_ONCE, fill, group, tile % GROUP_TILES)
        k.ret(k.reduce(bad.get(), "or").equals(0).select(k.index(0), 1))

    return module.function(
        pack_name(layout, kind, columns),
        [t.ptr, t.i64, t.i64, t.ptr, t.i64, t.i64],
        body,
        returns=t.i64,
        exported=True,
    )


def pack_name(layout: TiledLayout, kind: SourceKind, columns: int) -> str:
    return f"pack_{kind}_{layout.name}_{columns}"


def pack_strip(
    k: Function,
    layout: TiledLayout,
    columns: int,
    at_once: int,
    fill: Fill,
    group: Buffer,
    member: Value,
) -> None:
    """Pack 16 rows into tile `member` of a group.

    at_once: how many columns `fill` is asked for, a multiple of the steps of all layouts.
    """
    fields = Buffer.local(k, t.i8, at_once * TILE, "pack.fields")

    def some(start: Dim, count: int) -> None:
        """Pack `count` columns from `start` on."""
        fill(start, count, fields)
        steps = -(-count // layout.step)
        for at in range(-(-count // 4), steps * layout.step // 4):  # fill the last tile
            fields.store(at * TILE_BYTES, k.const(i8x64, 0))
        per_tile = layout.step // 4
        with k.loop(0, steps) as step:
            codes = [
                fields.load((step * per_tile + j) * TILE_BYTES, TILE_BYTES) for j in range(per_tile)
            ]
            number = start // layout.step + step
            tile = number * (GROUP_TILES * TILE_BYTES) + member * TILE_BYTES
            group.store(tile, layout.encode(k, codes))

    whole = columns // at_once * at_once
    with k.loop(0, whole, at_once) as start:
        some(start, at_once)
    if whole < columns:
        some(whole, columns - whole)


def _fields_of_i2_s(
    k: Function, rows: Buffer, row_bytes: int, start: Dim, count: int, fields: Buffer, bad: Var
) -> None:
    """fields: i8[count / 4][64], four columns of the 16 rows each."""

    def some(at: Dim, n_bytes: int) -> None:
        """`n_bytes` of each row, up to 64, from byte `at` after `start`."""
        words = [
            rows.load(start // 4 + at + r * row_bytes, TILE_BYTES, valid=n_bytes).bitcast(i32x16)
            for r in range(TILE)
        ]
        for d, word in enumerate(_transpose(words)[: n_bytes // 4]):
            _note_code_3(word, bad)
            block, within = d // 8, d % 8
            for j, field in enumerate(two_bit_fields(word.bitcast(i8x64), 1)):
                # The low bits hold the last of a block's four runs of 32 columns.
                number = at + 32 * block + 8 * (3 - j) + within
                fields.store(number * TILE_BYTES, field.codes)

    whole = count // 4 // TILE_BYTES * TILE_BYTES
    with k.loop(0, whole, TILE_BYTES) as at:
        some(at, TILE_BYTES)
    if whole < count // 4:
        some(whole, count // 4 - whole)


def _fields_of_bytes(
    k: Function,
    rows: Buffer,
    columns: int,
    start: Dim,
    count: int,
    shift: Value,
    fields: Buffer,
    bad: Var,
) -> None:
    """fields: i8[count / 4 rounded up][64], four columns of the 16 rows each."""
    by = shift.trunc(t.i32)

    def some(at: Dim, n: int) -> None:
        words = [
            rows.load(start + at + r * columns, TILE_BYTES, valid=n).bitcast(i32x16)
            for r in range(TILE)
        ]
        for d, word in enumerate(_transpose(words)[: -(-n // 4)]):
            codes = word.lshr(by) & 0x03030303
            _note_code_3(codes, bad)
            fields.store((at // 4 + d) * TILE_BYTES, codes.bitcast(i8x64))

    whole = count // TILE_BYTES * TILE_BYTES
    with k.loop(0, whole, TILE_BYTES) as at:
        some(at, TILE_BYTES)
    if whole < count:
        some(whole, count - whole)


def _note_code_3(word: Value, bad: Var) -> None:
    bad.set(bad.get() | (word & word.lshr(1) & 0x55555555))


def _transpose(rows: Sequence[Value]) -> list[Value]:
    """16 vectors of 16 words: lane i of vector j becomes lane j of vector i."""
    v = list(rows)
    for b in (8, 4, 2, 1):
        low = [lane - b + TILE if lane & b else lane for lane in range(_WORDS)]
        high = [lane + TILE if lane & b else lane + b for lane in range(_WORDS)]
        for i in range(TILE):
            if not i & b:
                v[i], v[i + b] = v[i].shuffle(low, v[i + b]), v[i].shuffle(high, v[i + b])
    return v
