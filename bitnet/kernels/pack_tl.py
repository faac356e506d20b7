"""Packing TL1 and TL2 tensors, see `bitnet.quant.tl1` and `tl2`, into the tiled layouts.

Their vectors hold a few columns of 16 or 32 rows, so that the fields of a tile come from them by
taking indexes apart, with arithmetic on the bytes of 32-bit numbers, and interleaving.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from bitnet.codegen import Buffer, Dim, Function, Module, Value, Var
from bitnet.codegen import types as t
from bitnet.kernels.layouts import TiledLayout
from bitnet.kernels.pack import pack_strip
from bitnet.quant import tl1, tl2
from bitnet.quant.tiled import GROUP_TILES, TILE, TILE_BYTES
from bitnet.quant.tl_config import Cut

_AT_ONCE = 960  # columns: whole tiles of all layouts, and whole pairs of vectors of triples

i8x16 = t.vec(t.i8, 16)
i16x16 = t.vec(t.i16, 16)
i32x4 = t.vec(t.i32, 4)


def pack_tl(module: Module, layout: TiledLayout, cut: Cut) -> ir.Function:
    """The exported function pack(a, b, c, packed, first, step) -> i64.

    Packs a block of bm rows. a, b, c: i8, what the sections of a TL2 tensor have of it; of TL1
    there is only the first. The i-th strip of 16 rows becomes tile first + i * step of `packed`,
    i8, a matrix in `layout`. Gives 1 if some index stood for no codes, else 0.
    """
    columns, bm = cut.columns, cut.blocks.bm
    n_strips = bm // TILE
    if cut.name == "TL1":
        sizes = (bm * columns // 4, 0, 0)
    else:
        sizes = tl2.section_bytes((bm, columns), cut.blocks)

    def body(k: Function) -> None:
        first, step = k.args[4], k.args[5]
        a, b, c = (
            Buffer(k, base, t.i8, n, f"pack.{name}")
            for base, n, name in zip(k.args[:3], sizes, "abc", strict=True)
        )
        size = layout.group_bytes(columns)
        last = first + (n_strips - 1) * step
        packed = Buffer(k, k.args[3], t.i8, (last // GROUP_TILES + 1) * size, "pack.packed")
        bad = k.var(i32x4)
        with k.loop(0, n_strips) as strip:
            tile = first + strip * step
            group = packed.part(tile // GROUP_TILES * size, size)

            def fill(start: Dim, count: int, fields: Buffer) -> None:
                if cut.name == "TL1":
                    _fields_of_tl1(k, a, cut, strip, start, count, fields, bad)
                else:
                    _fields_of_triples(k, a, b, cut, strip, start, count, fields, bad)
                    _fields_of_pairs(k, c, cut, strip, start, count, fields, bad)

            pack_strip(k, layout, columns, _AT_ONCE, fill, group, tile % GROUP_TILES)
        k.ret(k.reduce(bad.get(), "or").equals(0).select(k.index(0), 1))

    return module.function(
        pack_tl_name(layout, cut),
        [t.ptr] * 4 + [t.i64] * 2,
        body,
        returns=t.i64,
        exported=True,
    )


def pack_tl_name(layout: TiledLayout, cut: Cut) -> str:
    return f"pack_{layout.name}_{cut.suffix}"


def tl1_offset(cut: Cut, group: Value, number: Value) -> Value:
    """Where in a block the 16 bytes are of a group of 16 rows and the `number`-th 4 columns."""
    bm, bk, bmm = cut.blocks.bm, cut.blocks.bk, cut.blocks.bmm
    by = tl1.BY_TIMES_BMM // bmm
    groups, quads = bmm // TILE, by // 4
    within = number % (bk // 4)
    at = number // (bk // 4) * (bm // bmm) + group // groups
    at = at * (bk // by) + within // quads
    at = at * groups + group % groups
    return (at * quads + within % quads) * TILE


def _fields_of_tl1(
    k: Function,
    block: Buffer,
    cut: Cut,
    strip: Value,
    start: Dim,
    count: int,
    fields: Buffer,
    bad: Var,
) -> None:
    first = k.index(start // 4)
    with k.loop(0, count // 4) as i:
        packed = block.load(tl1_offset(cut, strip, first + i), TILE)
        fields.store(i * TILE_BYTES, _interleaved(_pair_codes(packed, bad)))


def _fields_of_triples(
    k: Function,
    indexes: Buffer,
    signs: Buffer,
    cut: Cut,
    strip: Value,
    start: Dim,
    count: int,
    fields: Buffer,
    bad: Var,
) -> None:
    """Sections A and B of TL2, 12 columns at a time: two vectors, half of the signs of eight."""
    bm, bk = cut.blocks.bm, cut.blocks.bk
    end = cut.columns - cut.pair_columns
    part, half = strip // 2, strip % 2
    first = k.index(start // 12)
    with k.loop(first, k.min(k.index(start + count), k.index(end)) // 12) as number:
        block = number // (bk // 12) * (bm // tl2.GROUP) + part
        within = number % (bk // 12)
        at = block * (bk // 6 * tl2.GROUP) + within * (2 * tl2.GROUP)
        words = signs.as_type(t.i16).load((block * (bk // 24) + within // 2) * TILE, TILE)
        # The bit of the first of these triples, moved to the top.
        words = words << (within % 2 * 8 + half).trunc(t.i16)
        codes = []
        for y in range(2):
            packed = _half_of_32(indexes, at + y * tl2.GROUP, half)
            for e, index in enumerate(_nibbles(packed)):
                negative = (words << 2 * (2 * y + e)).ashr(15).trunc(t.i8)
                codes += _triple_codes(index, negative, bad)
        for j in range(3):
            field = (number - first) * 3 + j
            fields.store(field * TILE_BYTES, _interleaved(codes[4 * j : 4 * j + 4]))


def _fields_of_pairs(
    k: Function,
    pairs: Buffer,
    cut: Cut,
    strip: Value,
    start: Dim,
    count: int,
    fields: Buffer,
    bad: Var,
) -> None:
    """Section C of TL2, 4 columns at a time."""
    n_pairs = cut.pair_columns
    if not n_pairs:
        return
    part, half, begin = strip // 2, strip % 2, cut.columns - n_pairs
    first = k.max(k.index(start), k.index(begin)) // 4
    with k.loop(first, k.index(start + count) // 4) as column:
        number = column - begin // 4
        block = number // 8 * (cut.blocks.bm // tl2.GROUP) + part
        packed = _half_of_32(pairs, (block * 8 + number % 8) * tl2.GROUP, half)
        at = (column - start // 4) * TILE_BYTES
        fields.store(at, _interleaved(_pair_codes(packed, bad)))


def _half_of_32(section: Buffer, at: Value, half: Value) -> Value:
    """i8x16, the first or second 16 of the 32 rows of a vector of TL2."""
    low, high = (section.load(at + (half * 8 + offset), 8) for offset in (0, 16))
    return low.shuffle(list(range(16)), high)


def _nibbles(packed: Value) -> list[Value]:
    """The high and the low four bits of each byte, i8x16."""
    words = packed.bitcast(i32x4)
    return [(n & 0x0F0F0F0F).bitcast(i8x16) for n in (words.lshr(4), words)]


def _pair_codes(packed: Value, bad: Var) -> list[Value]:
    """The codes of the four columns that bytes i8x16 hold as two pairs."""
    codes = []
    for index in _nibbles(packed):
        codes += _divided_by_3(index)
        # Five more than the first code of a pair reaches 8 when it is above 2.
        bad.set(bad.get() | (codes[-2].bitcast(i32x4) + 0x05050505) & 0x08080808)
    return codes


def _triple_codes(index: Value, negative: Value, bad: Var) -> list[Value]:
    """The codes of three columns, i8x16 each; negative: 0 or -1."""
    bad.set(bad.get() | (index.bitcast(i32x4) + 0x02020202) & 0x10101010)  # above 13
    value = (index ^ negative) - negative + 13
    words = value.bitcast(i32x4)
    ninth = ((words + 0x01010101) * 7).lshr(6) & 0x03030303
    rest = (words - ninth * 9).bitcast(i8x16)
    return [ninth.bitcast(i8x16), *_divided_by_3(rest)]


def _divided_by_3(number: Value) -> list[Value]:
    """Quotient and remainder of bytes up to 15."""
    words = number.bitcast(i32x4)
    third = (words * 11).lshr(5) & 0x07070707
    return [third.bitcast(i8x16), (words - third * 3).bitcast(i8x16)]


def _interleaved(columns: Sequence[Value]) -> Value:
    """A field, i8x64, of four columns of 16 rows."""
    both = list(range(2 * TILE))
    left, right = columns[0].shuffle(both, columns[1]), columns[2].shuffle(both, columns[3])
    lanes = [c * TILE + r for r in range(TILE) for c in range(4)]
    return left.shuffle(lanes, right)
