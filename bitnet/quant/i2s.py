"""I2_S: four ternary codes a byte, one float32 scale a tensor.

A tensor of n weights is one flat run of n codes (-1, 0, +1 stored as 0, 1, 2; 3 is not a code),
cut into blocks of 128 codes in 32 bytes. Byte j of a block holds codes j, 32+j, 64+j and 96+j,
from the high bits down. After the n/4 bytes come the scale and 28 bytes to ignore.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.ternary import TRAILER_BYTES, check_codes, pack_trailer, read_trailer

# Who wrote the blocks: ours, or ARM builds of bitnet.cpp, see `from_arm64`; no file says so.
SourceLayout = Literal["x86", "arm64"]

BLOCK = 128
BLOCK_BYTES = 32
_LANES = 32
_SHIFTS = (6, 4, 2, 0)


def tensor_bytes(count: int) -> int:
    """Size in bytes of an I2_S tensor of `count` weights, scale and padding included."""
    if count <= 0 or count % BLOCK:
        raise InvalidArgumentError(
            f"an I2_S tensor needs a positive multiple of {BLOCK} weights, not {count}"
        )
    return count // 4 + TRAILER_BYTES


def check_columns(columns: int) -> None:
    """Raise unless rows of so many codes can be packed."""
    if columns % BLOCK:
        raise InvalidArgumentError(
            f"I2_S needs rows of a multiple of {BLOCK} codes, not {columns}: "
            "other engines drop the rest"
        )


def pack_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack codes (rows, cols) into rows*cols/4 bytes, without the scale.

    `cols` must be a multiple of 128, see `check_columns`. Ranges of rows may therefore be packed
    one after the other and concatenated.
    """
    check_codes(codes)
    if codes.ndim != 2:
        raise InvalidArgumentError(f"I2_S is packed from a matrix, not from shape {codes.shape}")
    check_columns(codes.shape[1])
    groups = codes.reshape(-1, 4, _LANES)
    packed = groups[:, 0] << np.uint8(6)
    for group in (1, 2, 3):
        packed |= groups[:, group] << np.uint8(_SHIFTS[group])
    return packed.reshape(-1)


def pack(codes: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A whole tensor, rows*cols/4 + 32 bytes, from codes (rows, cols) and its scale."""
    trailer = np.frombuffer(pack_trailer(scale), np.uint8)
    return np.concatenate([pack_codes(codes), trailer])


def read_scale(data: NDArray[np.uint8], count: int) -> float:
    """The scale of a tensor of `count` weights.

    Raises InvalidArgumentError unless it is finite and not negative.
    """
    _check_size(data, count)
    return read_trailer(data)


def unpack_rows(
    data: NDArray[np.uint8], shape: tuple[int, int], start: int, stop: int
) -> NDArray[np.uint8]:
    """Codes (stop - start, cols) of the rows start to stop of a tensor of `shape` (rows, cols).

    Only the blocks that hold these rows are read. Rows of a length that is not a multiple of 128
    start inside a block; the flat order is decoded. A code 3 raises InvalidArgumentError.
    """
    rows, cols = shape
    _check_size(data, rows * cols)
    if not 0 <= start <= stop <= rows:
        raise InvalidArgumentError(f"rows {start} to {stop} are outside 0 to {rows}")
    first, last = start * cols, stop * cols
    first_block, last_block = first // BLOCK, -(-last // BLOCK)
    packed = data[first_block * BLOCK_BYTES : last_block * BLOCK_BYTES].reshape(-1, _LANES)
    if np.any(packed & (packed >> np.uint8(1)) & np.uint8(0x55)):
        raise InvalidArgumentError(f"an I2_S code in rows {start} to {stop} is 3, not 0, 1 or 2")
    codes = np.empty((len(packed), 4, _LANES), np.uint8)
    for group, shift in enumerate(_SHIFTS):
        # Through a contiguous temporary and 32-byte items: over twice the speed of writing
        # 32 strided bytes at a time.
        part = (packed >> np.uint8(shift)) & np.uint8(3)
        codes.view("V32")[:, group, 0] = part.view("V32")[:, 0]
    skip = first - first_block * BLOCK
    return codes.reshape(-1)[skip : skip + last - first].reshape(stop - start, cols)


def from_arm64(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes of codes as an ARM build of bitnet.cpp packs them, in our order.

    There, byte j of 16 holds codes j, 16+j, 32+j and 48+j of 64, from the high bits down. `packed`
    is whole blocks of 128 codes, without the scale. Raises InvalidArgumentError for a code 3.
    """
    blocks = packed.reshape(-1, 2, 1, _LANES // 2)
    shifts = np.array(_SHIFTS, np.uint8)[:, None]
    return pack_codes((blocks >> shifts & np.uint8(3)).reshape(-1, BLOCK))


def _check_size(data: NDArray[np.uint8], count: int) -> None:
    if data.dtype != np.uint8 or data.ndim != 1 or data.size != tensor_bytes(count):
        raise InvalidArgumentError(
            f"an I2_S tensor of {count} weights is a flat array of {tensor_bytes(count)} bytes, "
            f"not {data.dtype} of shape {data.shape}"
        )
