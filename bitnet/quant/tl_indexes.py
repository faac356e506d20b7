"""What TL1 and TL2 have in common: bytes that hold two 4-bit indexes, in blocks of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.tl_config import TLName

# Index of a pair -> its two codes; 3 where there is none.
PAIRS = np.array([(i // 3, i % 3) if i < 9 else (3, 3) for i in range(16)], np.uint8)

Bytes = NDArray[np.uint8]


def pair_indexes(codes: Bytes) -> Bytes:
    """Codes (..., n) to the indexes (..., n / 2) of their pairs."""
    return np.asarray(np.uint8(3) * codes[..., ::2] + codes[..., 1::2])


def join(indexes: Bytes) -> Bytes:
    """Indexes (..., 2) to bytes (...), the first one in the high bits."""
    return np.asarray(indexes[..., 0] << np.uint8(4) | indexes[..., 1])


def codes_of(packed: Bytes, table: Bytes) -> Bytes:
    """Bytes (..., n) to codes (..., 2 * n * w), `table` (16, w) giving those of an index.

    A code 3 raises InvalidArgumentError.
    """
    both = np.concatenate([np.repeat(table, 16, 0), np.tile(table, (16, 1))], axis=1)
    codes = both[packed]
    if codes.size and codes.max() > 2:
        raise InvalidArgumentError("an index stands for no ternary codes")
    return codes.reshape(*packed.shape[:-1], packed.shape[-1] * both.shape[1])


def check_data(name: TLName, data: Bytes, size: int) -> None:
    """Raise unless `data` is flat and has `size` bytes."""
    if data.dtype != np.uint8 or data.ndim != 1 or data.size != size:
        raise InvalidArgumentError(
            f"a {name} tensor of this shape is a flat array of {size} bytes, "
            f"not {data.dtype} of shape {data.shape}"
        )


def blocks_of(rows: int, bm: int, start: int, stop: int) -> tuple[int, int]:
    """The first block of `bm` rows that has rows from start to stop, and the one after the last."""
    if not 0 <= start <= stop <= rows:
        raise InvalidArgumentError(f"rows {start} to {stop} are outside 0 to {rows}")
    return start // bm, -(-stop // bm)
