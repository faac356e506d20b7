"""The layouts that ternary weights are multiplied in, as kernels see them.

Weights are codes w+1 in {0, 1, 2}. `2bit` and `b3` are tiled, see `bitnet.quant.tiled`. `i2_s` is
the layout of I2_S tensors in files, used where it is mapped: [rows][columns/128][32 bytes], byte j
of 32 holding columns j, 32+j, 64+j and 96+j from the high bits down. `tl1` and `tl2` are in
`bitnet.kernels.lookup`: they also depend on how tensors are cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitnet.codegen import Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.numerics import PAD
from bitnet.quant import tiled
from bitnet.quant.tiled import B3_WEIGHTS, STEPS, TILE, TILE_BYTES, TiledName, decode, encode

LayoutName = Literal["b3", "2bit", "i2_s", "tl1", "tl2"]

I2_S_BLOCK = 128  # columns in 32 bytes

i32x16 = t.vec(t.i32, 16)
i16x32 = t.vec(t.i16, 32)
i8x64 = t.vec(t.i8, 64)


@dataclass(frozen=True)
class Field:
    """Codes of four columns as bytes 0..2, shifted left by `shift` bits."""

    codes: Value
    shift: int


class Layout(ABC):
    """What all layouts say."""

    @property
    @abstractmethod
    def name(self) -> LayoutName: ...

    @abstractmethod
    def q_width(self, n: int) -> int:
        """How many activations, of whole vectors, a row of `n` columns meets."""

    def place(self, column: Dim) -> Dim:
        """Where the activation of a column goes; 16 columns from a multiple of 16 on stay so."""
        return column


class TiledLayout(Layout):
    """A layout of tiles; see above."""

    name: TiledName

    @property
    def step(self) -> int:
        """Columns in a tile."""
        return STEPS[self.name]

    def columns(self, n: int) -> int:
        """`n` columns rounded up to whole tiles."""
        return -(-n // self.step) * self.step

    def q_width(self, n: int) -> int:
        return -(-self.columns(n) // PAD) * PAD

    def group_bytes(self, n: int) -> int:
        """Bytes of 32 rows with `n` columns."""
        return tiled.group_bytes(self.name, n)

    def packed_bytes(self, rows: int, n: int) -> int:
        """Bytes of a matrix; `rows` is a multiple of 32."""
        return tiled.matrix_bytes(self.name, rows, n)

    @abstractmethod
    def fields(self, k: Function, packed: Value, n_shifts: int) -> list[Field]:
        """The fields of a tile, i8x64, with shifts of 0, 2, ..., 2 * (n_shifts - 1) bits.

        The more shifts are allowed (1, 2 or 4), the fewer instructions it takes.
        """

    @abstractmethod
    def encode(self, k: Function, codes: Sequence[Value]) -> Value:
        """A tile, i8x64, of the codes (i8x64, bytes 0..2) of its fields."""


class TwoBit(TiledLayout):
    name: TiledName = "2bit"

    def fields(self, k: Function, packed: Value, n_shifts: int) -> list[Field]:
        return two_bit_fields(packed, n_shifts)

    def encode(self, k: Function, codes: Sequence[Value]) -> Value:
        tile = codes[0].bitcast(i32x16)
        for j in range(1, 4):
            tile = tile | (codes[j].bitcast(i32x16) << 2 * j)
        return tile.bitcast(i8x64)


class Base3(TiledLayout):
    name: TiledName = "b3"

    def fields(self, k: Function, packed: Value, n_shifts: int) -> list[Field]:
        if k.target.has_lookup:
            four = k.target.lookup(k, _FOUR_TRITS, packed)
            fifth = k.target.lookup(k, _FIFTH_TRIT, packed.bitcast(i32x16).lshr(1).bitcast(i8x64))
            return [*two_bit_fields(four, n_shifts), Field(fifth, 0)]
        digits = self._looked_up if k.target.has_lookup16 else self._compared
        return [Field(codes, 0) for codes in digits(k, packed)]

    def _looked_up(self, k: Function, packed: Value) -> list[Value]:
        """All five codes, by dividing by 9 and looking up remainder and quotient."""
        rest = packed
        for n in (1, 2):  # what would be negative is large
            without = packed - packed.constant(n * B3_WEIGHTS[4])
            rest = rest.below(without).select(rest, without)
        fifth = _lookup16(k, lambda i: i // 2 % 3, (packed - rest) & 15)  # of 0, 82 and 164
        words = rest.bitcast(i16x32)
        even, odd = _div_9(words & 255), _div_9(words)
        quotient = (even | odd & 0xFF00).bitcast(i8x64)
        remainder = rest - _lookup16(k, lambda i: 9 * i, quotient)
        return [
            *(_lookup16(k, digit, remainder) for digit in (lambda i: i % 3, lambda i: i // 3 % 3)),
            *(_lookup16(k, digit, quotient) for digit in (lambda i: i % 3, lambda i: i // 3 % 3)),
            fifth,
        ]

    def _compared(self, k: Function, packed: Value) -> list[Value]:
        """All five codes by comparing and subtracting."""
        digits = []
        rest = packed
        for weight in reversed(B3_WEIGHTS):
            one, two = (rest.at_least(n * weight) for n in (1, 2))
            # The sum of two masks of 0 or -1.
            digits.append(-(one.sext(t.i8) + two.sext(t.i8)))
            rest = (
                rest
                - one.select(packed.constant(weight), 0)
                - two.select(packed.constant(weight), 0)
            )
        return digits[::-1]

    def encode(self, k: Function, codes: Sequence[Value]) -> Value:
        # Bytes of a 32-bit number: no product or sum carries into the next byte.
        tile = codes[0].bitcast(i32x16)
        for code, weight in zip(codes[1:], B3_WEIGHTS[1:], strict=True):
            tile = tile + code.bitcast(i32x16) * weight
        return tile.bitcast(i8x64)


class InPlace(Layout):
    """I2_S where it is mapped.

    64 bytes of a row are two blocks of 128 columns. The activations of each 256 columns are put
    into the order in which the fields of such 64 bytes come.
    """

    name: LayoutName = "i2_s"
    step = 2 * I2_S_BLOCK

    def q_width(self, n: int) -> int:
        return -(-n // self.step) * self.step

    def place(self, column: Dim) -> Dim:
        within = column % self.step
        block, field, lane = within // I2_S_BLOCK, within % I2_S_BLOCK // 32, within % 32
        return column - within + field * TILE_BYTES + block * 32 + lane

    def strip_bytes(self, n: int) -> int:
        """Bytes of 16 rows, and of what is read, but not used, behind them.

        Behind the last rows of a tensor that is its trailer.
        """
        return TILE * n // 4 + I2_S_BLOCK // 4


def _lookup16(k: Function, function: Callable[[int], int], index: Value) -> Value:
    """function(i) for each i of `index` i8x64, all 0..15."""
    return k.target.lookup16(k, k.bytes([function(i) & 255 for i in range(16)] * 4), index)


def _div_9(words: Value) -> Value:
    """i16x32: each unsigned number up to 80 * 256 divided by 9.

    Of a byte above another one, the quotient is in the upper byte.
    """
    return (words.zext(t.i32) * (2**16 // 9 + 1)).lshr(16).trunc(t.i16)


def two_bit_fields(packed: Value, n_shifts: int) -> list[Field]:
    """The four 2-bit numbers of each byte, from the low bits up."""
    fields = []
    for j in range(4):
        shift = j % n_shifts
        moved = packed.bitcast(i32x16).lshr(2 * (j - shift)).bitcast(i8x64) if j > shift else packed
        fields.append(Field(moved & (3 << 2 * shift), 2 * shift))
    return fields


# A byte of b3 -> its first four codes as 2-bit fields; byte >> 1 -> its fifth code.
_B3_CODES = decode("b3", np.arange(256, dtype=np.uint8))
_FOUR_TRITS = encode("2bit", _B3_CODES[:4]).tolist()
_FIFTH_TRIT = np.minimum(_B3_CODES[4, ::2], _B3_CODES[4, 1::2]).tolist()

LAYOUTS: dict[LayoutName, Layout] = {
    layout.name: layout for layout in (Base3(), TwoBit(), InPlace())
}
