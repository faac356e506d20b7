"""How ternary weights lie in memory when they are multiplied.

Weights are codes w+1 in {0, 1, 2}. Three layouts:

`2bit` and `b3` are tiled: 64 bytes hold 16 rows (outputs) of a few columns (inputs), four bytes a
row, so that one multiply-accumulate takes them times four broadcast activations. Two tiles, 32
rows, make a group. Memory order: [rows/32 groups][columns/step][2 tiles][64 bytes], where `step`
is the number of columns that a tile holds. Byte 4r+c of a tile belongs to row r and columns
c, 4+c, 8+c, ...: "field" j holds columns 4j..4j+3.

    2bit   16 columns. Field j is bits 2j and 2j+1 of each byte.
    b3     20 columns. A byte is c0 + 3 c1 + 9 c2 + 27 c3 + 82 c4, c_j being the codes of field j:
           1.6 bits a weight. It is 82 and not 81 so that c4 can be told from byte >> 1, which is
           one look-up in a table of 128.

`i2_s` is the layout of I2_S tensors in files, used where it is mapped: [rows][columns/128][32
bytes], byte j of 32 holding columns j, 32+j, 64+j and 96+j from the high bits down.

Columns beyond the matrix meet activations that are zero, so their codes do not matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.numerics import PAD

LayoutName = Literal["b3", "2bit", "i2_s"]

TILE = 16  # rows
TILE_BYTES = 64
GROUP_TILES = 2
GROUP_ROWS = GROUP_TILES * TILE
I2_S_BLOCK = 128  # columns in 32 bytes

i32x16 = t.vec(t.i32, 16)
i8x64 = t.vec(t.i8, 64)

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Field:
    """Codes of four columns as bytes 0..2, shifted left by `shift` bits."""

    codes: Value
    shift: int


class Layout(ABC):
    """What all layouts say."""

    name: LayoutName

    @abstractmethod
    def q_width(self, n: int) -> int:
        """How many activations, of whole vectors, a row of `n` columns meets."""

    def place(self, column: Dim) -> Dim:
        """Where the activation of a column goes; 16 columns from a multiple of 16 on stay so."""
        return column


class TiledLayout(Layout):
    """A layout of tiles; see above."""

    step: int
    """Columns in a tile."""

    def columns(self, n: int) -> int:
        """`n` columns rounded up to whole tiles."""
        return -(-n // self.step) * self.step

    def q_width(self, n: int) -> int:
        return -(-self.columns(n) // PAD) * PAD

    def group_bytes(self, n: int) -> int:
        """Bytes of 32 rows with `n` columns."""
        return self.columns(n) // self.step * GROUP_TILES * TILE_BYTES

    def packed_bytes(self, rows: int, n: int) -> int:
        """Bytes of a matrix; `rows` is a multiple of 32."""
        return rows // GROUP_ROWS * self.group_bytes(n)

    @abstractmethod
    def fields(self, k: Function, packed: Value, n_shifts: int) -> list[Field]:
        """The fields of a tile, i8x64, with shifts of 0, 2, ..., 2 * (n_shifts - 1) bits.

        The more shifts are allowed (1, 2 or 4), the fewer instructions it takes.
        """

    @abstractmethod
    def encode(self, k: Function, codes: Sequence[Value]) -> Value:
        """A tile, i8x64, of the codes (i8x64, bytes 0..2) of its fields."""

    @abstractmethod
    def encode_reference(self, fields: Codes) -> Codes:
        """uint8 (..., step / 4, 64), the codes of the fields, to tiles (..., 64)."""

    def pack_reference(self, codes: Codes) -> Codes:
        """Codes (rows, columns), rows a multiple of 32, to the packed bytes (1-D)."""
        rows, n = codes.shape
        full = np.zeros((rows, self.columns(n)), np.uint8)
        full[:, :n] = codes
        parts = full.reshape(-1, GROUP_TILES, TILE, full.shape[1] // self.step, self.step // 4, 4)
        fields = parts.transpose(0, 3, 1, 4, 2, 5)  # group, step, tile, field, row, column
        return self.encode_reference(fields.reshape(*fields.shape[:4], TILE_BYTES)).reshape(-1)


class TwoBit(TiledLayout):
    name: LayoutName = "2bit"
    step = 16

    def fields(self, k: Function, packed: Value, n_shifts: int) -> list[Field]:
        return two_bit_fields(packed, n_shifts)

    def encode(self, k: Function, codes: Sequence[Value]) -> Value:
        tile = codes[0].bitcast(i32x16)
        for j in range(1, 4):
            tile = tile | (codes[j].bitcast(i32x16) << 2 * j)
        return tile.bitcast(i8x64)

    def encode_reference(self, fields: Codes) -> Codes:
        shifts = 2 * np.arange(4, dtype=np.uint8)[:, None]
        return np.asarray(np.bitwise_or.reduce(fields << shifts, axis=-2))


class Base3(TiledLayout):
    name: LayoutName = "b3"
    step = 20

    _WEIGHTS = (1, 3, 9, 27, 82)

    def fields(self, k: Function, packed: Value, n_shifts: int) -> list[Field]:
        if not k.target.has_lookup:
            return [Field(codes, 0) for codes in self._digits(packed)]
        four = k.target.lookup(k, _FOUR_TRITS, packed)
        fifth = k.target.lookup(k, _FIFTH_TRIT, packed.bitcast(i32x16).lshr(1).bitcast(i8x64))
        return [*two_bit_fields(four, n_shifts), Field(fifth, 0)]

    def _digits(self, packed: Value) -> list[Value]:
        """All five codes by comparing and subtracting."""
        digits = []
        rest = packed
        for weight in reversed(self._WEIGHTS):
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
        for code, weight in zip(codes[1:], self._WEIGHTS[1:], strict=True):
            tile = tile + code.bitcast(i32x16) * weight
        return tile.bitcast(i8x64)

    def encode_reference(self, fields: Codes) -> Codes:
        weights = np.array(self._WEIGHTS, np.uint8)[:, None]
        return np.asarray(np.sum(fields * weights, axis=-2, dtype=np.uint8))


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


def two_bit_fields(packed: Value, n_shifts: int) -> list[Field]:
    """The four 2-bit numbers of each byte, from the low bits up."""
    fields = []
    for j in range(4):
        shift = j % n_shifts
        moved = packed.bitcast(i32x16).lshr(2 * (j - shift)).bitcast(i8x64) if j > shift else packed
        fields.append(Field(moved & (3 << 2 * shift), 2 * shift))
    return fields


def _trits() -> tuple[list[int], list[int]]:
    four, fifth = [0] * 256, [0] * 128
    for rest in range(81):
        digits = [rest // 3**j % 3 for j in range(4)]
        for c4 in range(3):
            byte = rest + 82 * c4
            four[byte] = sum(digit << 2 * j for j, digit in enumerate(digits))
            fifth[byte >> 1] = c4
    return four, fifth


# A byte of b3 -> its first four codes as 2-bit fields; byte >> 1 -> its fifth code.
_FOUR_TRITS, _FIFTH_TRIT = _trits()

LAYOUTS: dict[LayoutName, Layout] = {
    layout.name: layout for layout in (Base3(), TwoBit(), InPlace())
}
