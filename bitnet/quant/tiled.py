"""The layouts that ternary weights are multiplied in, `2bit` and `b3`, as numpy sees them.

64 bytes, a tile, hold 16 rows (outputs) of a few columns (inputs), four bytes a row, so that one
multiply-accumulate takes them times four broadcast activations. Two tiles, 32 rows, make a group.
Memory order: [rows/32 groups][columns/step][2 tiles][64 bytes], where `step` is the number of
columns that a tile holds. Byte 4r+c of a tile belongs to row r and columns c, 4+c, 8+c, ...:
"field" j holds columns 4j..4j+3.

    2bit   16 columns. Field j is bits 2j and 2j+1 of each byte.
    b3     20 columns. A byte is c0 + 3 c1 + 9 c2 + 27 c3 + 82 c4, c_j being the codes of field j:
           1.6 bits a weight. It is 82 and not 81 so that c4 can be told from byte >> 1.

Columns beyond the matrix meet activations that are zero, so their codes do not matter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.ternary import check_codes

TiledName = Literal["b3", "2bit"]

TILE = 16  # rows
TILE_BYTES = 64
GROUP_TILES = 2
GROUP_ROWS = GROUP_TILES * TILE
PAD = 64  # rows of a matrix, and elements of a row of activations, are padded to a multiple
STEPS: dict[TiledName, int] = {"b3": 20, "2bit": 16}
B3_WEIGHTS = (1, 3, 9, 27, 82)

Codes = NDArray[np.uint8]


def group_bytes(layout: TiledName, columns: int) -> int:
    """Bytes of 32 rows."""
    return -(-columns // STEPS[layout]) * GROUP_TILES * TILE_BYTES


def matrix_bytes(layout: TiledName, rows: int, columns: int) -> int:
    """Bytes of a matrix; `rows` is a multiple of 32."""
    return rows // GROUP_ROWS * group_bytes(layout, columns)


def pack(layout: TiledName, codes: Codes) -> Codes:
    """Codes (rows, columns), rows a multiple of 32, to the packed bytes (1-D)."""
    check_codes(codes)
    rows, columns = codes.shape
    step = STEPS[layout]
    full = np.zeros((rows, -(-columns // step) * step), np.uint8)
    full[:, :columns] = codes
    parts = full.reshape(-1, GROUP_TILES, TILE, full.shape[1] // step, step // 4, 4)
    fields = parts.transpose(0, 3, 1, 4, 2, 5)  # group, step, tile, field, row, column
    return encode(layout, fields.reshape(*fields.shape[:4], TILE_BYTES)).reshape(-1)


def unpack_tiles(layout: TiledName, data: Codes, columns: int, tiles: range) -> Codes:
    """Codes (16 * len(tiles), columns) of some tiles of rows of a packed matrix.

    Raises InvalidArgumentError for bytes that stand for no codes.
    """
    step, out = STEPS[layout], []
    size = group_bytes(layout, columns)
    for tile in tiles:
        group = data[tile // GROUP_TILES * size :][:size].reshape(-1, GROUP_TILES, TILE_BYTES)
        fields = decode(layout, np.ascontiguousarray(group[:, tile % GROUP_TILES]))
        by_row = fields.reshape(-1, step // 4, TILE, 4).transpose(2, 0, 1, 3)
        out.append(by_row.reshape(TILE, -1)[:, :columns])
    codes = np.concatenate(out) if out else np.empty((0, columns), np.uint8)
    if codes.size and codes.max() > 2:
        raise InvalidArgumentError(f"a byte of layout {layout} stands for no ternary codes")
    return codes


def encode(layout: TiledName, fields: Codes) -> Codes:
    """uint8 (..., step / 4, n), the codes of the fields, to bytes (..., n)."""
    if layout == "2bit":
        shifts = 2 * np.arange(4, dtype=np.uint8)[:, None]
        return np.asarray(np.bitwise_or.reduce(fields << shifts, axis=-2))
    weights = np.array(B3_WEIGHTS, np.uint8)[:, None]
    return np.asarray(np.sum(fields * weights, axis=-2, dtype=np.uint8))


def decode(layout: TiledName, data: Codes) -> Codes:
    """Bytes (..., n) to the codes of their fields, uint8 (..., step / 4, n); 3 where there is none.

    Bytes of b3 from 246 on stand for nothing, and neither do 81 and 163.
    """
    if layout == "2bit":
        return np.stack([data >> np.uint8(2 * j) & np.uint8(3) for j in range(4)], axis=-2)
    return np.moveaxis(_B3_CODES[data], -1, -2)


def _b3_codes() -> Codes:
    table = np.full((256, 5), 3, np.uint8)
    for last in range(3):
        for rest in range(81):
            table[rest + 82 * last] = [*(rest // 3**j % 3 for j in range(4)), last]
    return table


_B3_CODES = _b3_codes()
