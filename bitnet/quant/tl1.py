"""TL1: pairs of ternary codes as 4-bit numbers, laid out for look-ups on 128-bit registers.

The pair of columns 2p and 2p+1 with codes a and b is the index 3a + b, 0 to 8. Rows are cut into
blocks of bm, those into parts of bmm, those into groups of 16; columns into blocks of bk, those
into parts of by = 256 / bmm, those into pairs of pairs. In memory order:

    [rows / bm][columns / bk][bm / bmm][bk / by][bmm / 16][by / 4][16 rows]

with a byte for 4 columns of a row, the first pair in its high bits. After these rows*columns/4
bytes come the tensor's float32 scale and 28 bytes to ignore.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.ternary import TRAILER_BYTES, check_codes, pack_trailer, read_trailer
from bitnet.quant.tl_config import Blocks, Shape
from bitnet.quant.tl_indexes import PAIRS, blocks_of, check_data, codes_of, join, pair_indexes

GROUP = 16  # rows
BY_TIMES_BMM = 256


def tensor_bytes(count: int) -> int:
    """Size in bytes of a TL1 tensor of `count` weights, scale and padding included."""
    if count <= 0 or count % 4:
        raise InvalidArgumentError(f"a TL1 tensor needs a multiple of 4 weights, not {count}")
    return count // 4 + TRAILER_BYTES


def check_blocks(shape: Shape, blocks: Blocks) -> None:
    """Raise unless a matrix (rows, columns) can be cut into such blocks."""
    rows, columns = shape
    if blocks.bmm not in (32, 64):
        raise InvalidArgumentError(f"TL1 parts have 32 or 64 rows (bmm), not {blocks.bmm}")
    by = BY_TIMES_BMM // blocks.bmm
    for what, whole, part in (
        ("bm", blocks.bm, blocks.bmm),
        ("bk", blocks.bk, by),
        ("rows", rows, blocks.bm),
        ("columns", columns, blocks.bk),
    ):
        if whole % part:
            raise InvalidArgumentError(
                f"TL1 of shape {shape} cannot be cut by {blocks}: "
                f"{what} {whole} is no multiple of {part}"
            )


def pack_codes(codes: NDArray[np.uint8], blocks: Blocks) -> NDArray[np.uint8]:
    """Codes (rows, columns) to rows*columns/4 bytes, without the scale.

    Whole blocks of bm rows may be packed one after the other and concatenated.
    """
    check_codes(codes)
    rows, columns = codes.shape
    check_blocks((rows, columns), blocks)
    by_row = join(pair_indexes(codes).reshape(rows, -1, 2))
    in_order = by_row.reshape(_sizes(rows, columns, blocks)).transpose(0, 4, 1, 5, 2, 6, 3)
    return in_order.reshape(-1)


def pack(codes: NDArray[np.uint8], scale: float, blocks: Blocks) -> NDArray[np.uint8]:
    """A whole tensor, rows*columns/4 + 32 bytes, from codes (rows, columns) and its scale."""
    trailer = np.frombuffer(pack_trailer(scale), np.uint8)
    return np.concatenate([pack_codes(codes, blocks), trailer])


def read_scale(data: NDArray[np.uint8], count: int) -> float:
    """The scale of a tensor of `count` weights.

    Raises InvalidArgumentError unless it is finite and not negative.
    """
    check_data("TL1", data, tensor_bytes(count))
    return read_trailer(data)


def block_sections(
    data: NDArray[np.uint8], shape: Shape, blocks: Blocks, number: int
) -> tuple[NDArray[np.uint8]]:
    """The bytes of a block of bm rows."""
    size = blocks.bm * shape[1] // 4
    return (data[number * size :][:size],)


def unpack_rows(
    data: NDArray[np.uint8], shape: Shape, blocks: Blocks, start: int, stop: int
) -> NDArray[np.uint8]:
    """Codes (stop - start, columns) of the rows start to stop of a tensor of `shape`.

    Only the blocks that hold these rows are read. An index above 8 raises InvalidArgumentError.
    """
    check_blocks(shape, blocks)
    check_data("TL1", data, tensor_bytes(shape[0] * shape[1]))
    bm, columns = blocks.bm, shape[1]
    first, last = blocks_of(shape[0], bm, start, stop)
    rows = (last - first) * bm
    packed = data[first * bm * columns // 4 :][: rows * columns // 4]
    sizes = _sizes(rows, columns, blocks)
    in_order = packed.reshape([sizes[i] for i in (0, 4, 1, 5, 2, 6, 3)])
    by_row = in_order.transpose(0, 2, 4, 6, 1, 3, 5).reshape(rows, columns // 4)
    return codes_of(by_row[start - first * bm :][: stop - start], PAIRS)


def _sizes(rows: int, columns: int, blocks: Blocks) -> tuple[int, ...]:
    """What rows, then columns / 4, are cut into."""
    bm, bk, bmm = blocks.bm, blocks.bk, blocks.bmm
    by = BY_TIMES_BMM // bmm
    return (rows // bm, bm // bmm, bmm // GROUP, GROUP, columns // bk, bk // by, by // 4)
