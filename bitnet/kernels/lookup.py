"""The layouts `tl1` and `tl2`, and the tables that ternary products are looked up in.

For each pair or triple of activations there is a table of what its indexes come to, 16 numbers of
16 bits, made once a token. A vector of indexes then takes one look-up for the low bytes and one
for the high ones, see `ternary_lookup`.

A row of activations is followed by its tables, in groups of four pairs or triples 0 to 3:

    low bytes of 0, of 2; high bytes of 0, of 2; low bytes of 1, of 3; high bytes of 1, of 3

because 64 bytes of indexes hold 0 and 2 in their high bits, 1 and 3 in their low ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.layouts import Layout
from bitnet.kernels.numerics import padded
from bitnet.quant.tl_config import Cut, TLName
from bitnet.quant.tl_indexes import PAIRS

LookUpName = Literal["tl1", "tl2"]

TABLES_BYTES = 128  # of four
MAX_BK = 504  # 16 bits hold the sums over so many columns

i16x16 = t.vec(t.i16, 16)


@dataclass(frozen=True)
class LookUp(Layout):
    """TL1 or TL2 where it is mapped; cuts: how the tensors are cut, whatever their columns."""

    kind: TLName
    cuts: tuple[Cut, ...]

    @property
    def name(self) -> LookUpName:
        return "tl1" if self.kind == "TL1" else "tl2"

    def of(self, columns: int) -> list[Cut]:
        """How tensors of so many columns are cut.

        Raises InvalidArgumentError where they cannot be multiplied in place.
        """
        cuts = [cut for cut in self.cuts if (cut.name, cut.columns) == (self.kind, columns)]
        if not cuts:
            raise InvalidArgumentError(
                f"layout {self.name!r} uses tensors as they are stored, "
                f"and those of {columns} columns are not {self.kind}"
            )
        for cut in cuts:
            if cut.blocks.bk > MAX_BK or cut.blocks.bk % 8:
                raise InvalidArgumentError(
                    f"layout {self.name!r} needs blocks of a multiple of 8 columns, "
                    f"at most {MAX_BK}, not {cut.blocks.bk}"
                )
        if len({cut.pair_columns for cut in cuts}) > 1:
            raise InvalidArgumentError(
                f"layout {self.name!r} needs tensors of {columns} columns with as many pairs each"
            )
        return cuts

    def q_width(self, n: int) -> int:
        pairs = self.of(n)[0].pair_columns
        return padded(n) + ((n - pairs) // 12 + pairs // 8) * TABLES_BYTES

    def matrix_bytes(self, rows: int, n: int) -> int:
        """Bytes of weights in a matrix."""
        pairs = self.of(n)[0].pair_columns
        return rows * (n - pairs) * 5 // 24 + rows * pairs // 4


def make_tables(k: Function, layout: LookUp, n: int, q: Buffer) -> None:
    """Fill the tables behind a row of `n` activations; q: i8[layout.q_width(n)]."""
    pairs = layout.of(n)[0].pair_columns
    n_triples, at = (n - pairs) // 12, padded(n)
    triple = [
        [(i + 13) // place % 3 - 1 if i < 14 else 0 for i in range(16)] for place in (9, 3, 1)
    ]
    pair = [[int(code) - 1 if i < 9 else 0 for i, code in enumerate(column)] for column in PAIRS.T]
    for first, count, weights, tables in (
        (0, n_triples, triple, at),
        (n - pairs, pairs // 8, pair, at + n_triples * TABLES_BYTES),
    ):
        with k.loop(0, count) as group:
            start = group * (4 * len(weights)) + first
            for number in range(4):
                table = _table(k, weights, q, start + number * len(weights))
                low = group * TABLES_BYTES + (tables + number % 2 * 64 + number // 2 * 16)
                q.store(low, table.trunc(t.i8))
                q.store(low + 32, table.ashr(8).trunc(t.i8))


def _table(k: Function, weights: Sequence[Sequence[int]], q: Buffer, start: Value) -> Value:
    """i16x16: the sums of the activations from `start` on, weighted as each index says."""
    total = k.const(i16x16, 0)
    for i, column in enumerate(weights):
        total = total + k.vector(t.i16, column) * q[start + i].sext(t.i16)
    return total
