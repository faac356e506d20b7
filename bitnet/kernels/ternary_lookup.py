"""Ternary products by look-up, with weights as TL1 and TL2 files hold them: used in place.

They are exact, as everywhere, but sums of w * q: nothing is to be subtracted from them. See
`bitnet.quant.tl1` and `tl2` for how weights are laid out, `lookup` for the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.layouts import i8x64, i16x32, i32x16
from bitnet.kernels.lookup import TABLES_BYTES, LookUp, i16x16
from bitnet.kernels.numerics import padded
from bitnet.kernels.ternary import BLOCK_ROWS, Use, as_function, for_all_tokens
from bitnet.quant import tl2
from bitnet.quant.tiled import TILE
from bitnet.quant.tl_config import Cut

UNIT_ROWS = 32
UNIT_FIELDS = 4  # i64 numbers that a unit is described by: see `unit_block`

_PAIR_MOST, _TRIPLE_MOST, _MOST = 2 * 127, 3 * 127, 2**15 - 1
_AHEAD = 8192  # bytes of a unit that are prefetched ahead

i32x32 = t.vec(t.i32, 32)


def unit_block(
    k: Function,
    layout: LookUp,
    units: Buffer,
    q: Buffer,
    columns: int,
    second: int,
    n_tokens: Dim,
    use: Use,
) -> None:
    """Multiply 64 rows with every token of a batch; `use` gets the sums of w * q.

    units: i64[2 * UNIT_FIELDS], for each 32 rows the addresses of their part in the sections (of
        TL1 there is only the first), and the number of their cut in `layout.of(columns)`.
    q: i8[n_tokens * q_width(columns)], with tables.
    second: how far the second half of these 32 rows is from the first: 16 when they are
        neighbours, 32 when the halves of both units take turns.
    """
    width = layout.q_width(columns)

    def dot(unit: Buffer, row: Buffer, out: Buffer, cut: Cut) -> None:
        as_function(
            k,
            f"lookup_{cut.suffix}_{second}",
            [unit, row, out],
            lambda f, u, x, y: _dot_unit(f, cut, u, x, y, second),
        )

    def multiply(token: Value, _: int, sums: Buffer) -> None:
        row = q.part(token * width, width)
        for number in range(2):
            unit = units.part(number * UNIT_FIELDS, UNIT_FIELDS)
            out = sums.part(number * (BLOCK_ROWS // 2 + TILE - second), second + TILE)
            for i, cut in enumerate(layout.of(columns)):
                with k.if_(unit[UNIT_FIELDS - 1].equals(i)):
                    dot(unit, row, out, cut)

    for_all_tokens(k, n_tokens, 1, multiply, use)


def unit_offsets(cut: Cut, number: int) -> list[int]:
    """Where 32 rows of a block of bm rows begin in its sections."""
    bk, bmm = cut.blocks.bk, cut.blocks.bmm
    if cut.name == "TL1":
        part, within = divmod(number, bmm // UNIT_ROWS)
        return [part * (bk * bmm // 4) + within * UNIT_ROWS]
    return [number * n for n in (bk // 6 * UNIT_ROWS, bk // 24 * UNIT_ROWS, 8 * UNIT_ROWS)]


def _dot_unit(k: Function, cut: Cut, unit: Buffer, q: Buffer, sums: Buffer, second: int) -> None:
    """The sums of 32 rows and one token."""
    acc = _Sums(k)
    tables = q.part(padded(cut.columns), q.known_count - padded(cut.columns))
    if cut.name == "TL1":
        _tl1_pairs(k, cut, unit, tables, acc)
        low, high = (acc.total(which, turns=_takes_turns(cut)) for which in range(2))
        # Each has eight rows of the one group of 16, then eight of the other.
        eight = list(range(8))
        for g in range(2):
            rows = [lane + 8 * g for lane in eight]
            sums.store(g * second, low.shuffle(rows + [row + 16 for row in rows], high))
        return
    pairs = cut.pair_columns
    _tl2_triples(k, cut, unit, tables, acc)
    if pairs:
        at = (cut.columns - pairs) // 12 * TABLES_BYTES
        _tl2_pairs(k, cut, unit, tables.part(at, pairs // 8 * TABLES_BYTES), acc)
    for which in range(2):
        sums.store(which * second, acc.total(which, turns=False))


def _takes_turns(cut: Cut) -> bool:
    """Whether 64 bytes of TL1 are 16 rows of some columns, then of others, then the next 16 rows.

    Otherwise the columns change after 32 rows.
    """
    return cut.blocks.bmm == UNIT_ROWS


def _tl1_pairs(k: Function, cut: Cut, unit: Buffer, tables: Buffer, acc: _Sums) -> None:
    bm, bk, bmm = cut.blocks.bm, cut.blocks.bk, cut.blocks.bmm
    n_blocks, n_steps, stride = cut.columns // bk, bk // 8, bm * bk // 4
    run = bk * bmm // 4 - (bmm - UNIT_ROWS)  # a wider part begins with, or ends with, other rows
    indexes = _section(k, unit, 0, n_blocks, stride, run)
    ahead = _AHEAD // run + 1

    def step(block: Value, number: Value) -> None:
        at = block * stride + number * (2 * bmm)
        ats = [at] if _takes_turns(cut) else [at, at + bmm]
        for line in ats:  # where it does not take turns, the next unit has the other halves
            indexes.prefetch(line + ahead * stride, again=not _takes_turns(cut))
        parts = [indexes.load(line, 64 // len(ats)) for line in ats]
        packed = parts[0] if len(ats) == 1 else parts[0].shuffle(list(range(64)), parts[1])
        some = tables.part((block * n_steps + number) * TABLES_BYTES, TABLES_BYTES)
        for words in _look_up(k, packed, some, turns=_takes_turns(cut)):
            acc.add(words)

    acc.run(n_blocks, n_steps, 2 * _PAIR_MOST, step)


def _tl2_triples(k: Function, cut: Cut, unit: Buffer, tables: Buffer, acc: _Sums) -> None:
    bm, bk = cut.blocks.bm, cut.blocks.bk
    n_blocks, n_steps = (cut.columns - cut.pair_columns) // bk, bk // 24
    run = n_steps * 128
    indexes = _section(k, unit, 0, n_blocks, bm * bk // 6, run)
    signs = _section(k, unit, 1, n_blocks, bm * bk // 24, n_steps * 32)
    ahead = _AHEAD // run + 1

    def step(block: Value, number: Value) -> None:
        sign_at = block * (bm * bk // 24) + number * 32
        signs.prefetch(sign_at + ahead * (bm * bk // 24))
        words = signs.load(sign_at, 32).bitcast(i16x16)
        both = words.shuffle(list(range(16)) * 2)
        for half in range(2):
            at = block * (bm * bk // 6) + number * 128 + half * 64
            indexes.prefetch(at + ahead * (bm * bk // 6))
            some = tables.part(((block * n_steps + number) * 2 + half) * TABLES_BYTES, TABLES_BYTES)
            looked_up = _look_up(k, indexes.load(at, 64), some, turns=False)
            for e, (low, high) in enumerate(looked_up):
                signed = []
                for which, value in enumerate((low, high)):
                    # The bits of eight triples and two rows take turns, from the high ones down.
                    shifts = [2 * (4 * half + e + 2 * (i // 16)) + which for i in range(32)]
                    negative = (both << k.vector(t.i16, shifts)).ashr(15)
                    signed.append((value ^ negative) - negative)
                acc.add(signed)

    acc.run(n_blocks, n_steps, 4 * _TRIPLE_MOST, step)


def _tl2_pairs(k: Function, cut: Cut, unit: Buffer, tables: Buffer, acc: _Sums) -> None:
    stride, n_blocks = cut.blocks.bm * tl2.GROUP // 4, cut.pair_columns // tl2.GROUP
    indexes = _section(k, unit, 2, n_blocks, stride, 256)

    def step(block: Value, number: Value) -> None:
        packed = indexes.load(block * stride + number * 64, 64)
        some = tables.part((block * 4 + number) * TABLES_BYTES, TABLES_BYTES)
        for words in _look_up(k, packed, some, turns=False):
            acc.add(words)

    acc.run(n_blocks, 4, 2 * _PAIR_MOST, step)


def _section(
    k: Function, unit: Buffer, number: int, n_blocks: int, stride: int, run: int
) -> Buffer:
    """What a unit has of a section: `run` bytes in each block of columns."""
    size = max(0, (n_blocks - 1) * stride + run)
    return Buffer(k, unit[number].to_pointer(), t.i8, size, f"lookup.section{number}")


def _look_up(k: Function, packed: Value, tables: Buffer, *, turns: bool) -> list[list[Value]]:
    """What the high, then the low four bits of 64 bytes stand for.

    Each as the first eight of 16 bytes, then the last eight, i16x32.
    """
    words = packed.bitcast(i32x16)
    lanes = list(range(32)) * 2 if turns else list(range(16)) * 2 + list(range(16, 32)) * 2
    halves = [[16 * (i // 8) + i % 8 + at for i in range(32)] for at in (0, 8)]
    results = []
    for e, index in enumerate((words.lshr(4), words)):
        found = []
        for at in (64 * e, 64 * e + 32):
            table = tables.load(at, 16).shuffle(lanes, tables.load(at + 16, 16))
            found.append(k.target.lookup16(k, table, (index & 0x0F0F0F0F).bitcast(i8x64)))
        low, high = found
        taking_turns = [[lane + 64 * part for lane in half for part in range(2)] for half in halves]
        results.append([low.shuffle(order, high).bitcast(i16x32) for order in taking_turns])
    return results


class _Sums:
    """Sums of the first and the last eight rows of each 16 bytes."""

    def __init__(self, k: Function) -> None:
        self._k = k
        self._partials = [k.var(i16x32) for _ in range(2)]
        self._totals = [k.var(i32x32) for _ in range(2)]

    def add(self, words: Sequence[Value]) -> None:
        for partial, value in zip(self._partials, words, strict=True):
            partial.set(partial.get() + value)

    def run(
        self, n_blocks: int, n_steps: int, most: int, step: Callable[[Value, Value], None]
    ) -> None:
        """Run `step(block, number)`, which adds at most `most`, for all of them."""
        k = self._k
        at_once = _MOST // (most * n_steps)
        with k.loop(0, n_blocks, at_once) as first:
            last = k.min(first + at_once, k.index(n_blocks))
            with k.loop(first, last) as block, k.loop(0, n_steps) as number:
                step(block, number)
            for partial, total in zip(self._partials, self._totals, strict=True):
                total.set(total.get() + partial.get().sext(t.i32))
                partial.set(k.const(i16x32, 0))

    def total(self, which: int, *, turns: bool) -> Value:
        """i32x16: eight rows of one group of 16 and eight of another, over all columns."""
        value = self._totals[which].get()
        first = [*range(8), *range(16, 24)] if turns else list(range(16))
        last = [i + 8 for i in first] if turns else [i + 16 for i in first]
        return value.shuffle(first) + value.shuffle(last)
