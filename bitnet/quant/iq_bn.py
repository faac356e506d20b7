"""IQ1_BN and IQ2_BN of ik_llama.cpp: rows that start with their scale, then blocks of 64 codes.

IQ2_BN: a float32 scale; byte j of a block's 16 holds codes j, 16+j, 32+j and 48+j, from the low
bits up. IQ1_BN: a float16 scale; of a block's 13 bytes, three hold the first 15 of each 16 codes,
five each, and the last byte the four that are left. Such a byte is the fraction
(c0 + 3 c1 + 9 c2 + 27 c3 + 81 c4) / 243, rounded up to 256ths.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.ternary import check_codes

Kind = Literal["IQ1_BN", "IQ2_BN"]

BLOCK = 64
BLOCK_BYTES: dict[Kind, int] = {"IQ1_BN": 13, "IQ2_BN": 16}
SCALE_DTYPES: dict[Kind, np.dtype[np.floating]] = {
    "IQ1_BN": np.dtype("<f2"),
    "IQ2_BN": np.dtype("<f4"),
}
_POWERS = np.array([1, 3, 9, 27, 81], np.uint16)
# The codes of each byte: times a power of 3, 81 for the first, a code comes to the top.
_FIVES = (np.outer(np.arange(256), _POWERS[::-1]) % 256 * 3 >> 8).astype(np.uint8)
_SHIFTS = 2 * np.arange(4, dtype=np.uint8)[:, None]

Codes = NDArray[np.uint8]


def unpack(kind: Kind, data: NDArray[np.uint8]) -> tuple[Codes, NDArray[np.float32]]:
    """Codes (rows, n) and scales (rows,) of uint8 (rows, bytes of a row).

    Raises InvalidArgumentError where a code of IQ2_BN is 3; there is no such code in IQ1_BN.
    """
    rows = len(data)
    blocks = data[:, SCALE_DTYPES[kind].itemsize :].reshape(rows, -1, BLOCK_BYTES[kind])
    if kind == "IQ2_BN":
        codes = blocks[..., None, :] >> _SHIFTS & np.uint8(3)
        if codes.size and codes.max() > 2:
            raise InvalidArgumentError("an IQ2_BN code is 3, not 0, 1 or 2")
        return codes.reshape(rows, -1), scales(kind, data)
    groups = np.empty((*blocks.shape[:2], 4, 16), np.uint8)
    groups[..., :15] = _FIVES[blocks[..., :12]].reshape(*blocks.shape[:2], 4, 15)
    groups[..., 15] = _FIVES[blocks[..., 12]][..., :4]
    return groups.reshape(rows, -1), scales(kind, data)


def scales(kind: Kind, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The scales (rows,) alone."""
    dtype = SCALE_DTYPES[kind]
    return np.ascontiguousarray(data[:, : dtype.itemsize]).view(dtype)[:, 0].astype(np.float32)


def pack(kind: Kind, codes: Codes, row_scales: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The inverse of `unpack`; raises InvalidArgumentError for scales that do not fit, too."""
    check_codes(codes)
    rows, n = codes.shape
    if n % BLOCK or row_scales.shape != (rows,):
        raise InvalidArgumentError(
            f"{kind} needs rows of a multiple of {BLOCK} codes and a scale for each row, "
            f"not shapes {codes.shape} and {row_scales.shape}"
        )
    with np.errstate(over="ignore"):
        stored = row_scales.astype(SCALE_DTYPES[kind])
    if not (stored.astype(np.float32) == row_scales).all():
        raise InvalidArgumentError(f"{kind} cannot hold these scales exactly")
    if kind == "IQ2_BN":
        blocks = codes.reshape(rows, -1, 4, 16) << _SHIFTS
        packed = np.bitwise_or.reduce(blocks, axis=-2).reshape(rows, -1)
    else:
        groups = codes.reshape(rows, n // BLOCK, 4, 16)
        fives = groups[..., :15].reshape(rows, -1, 12, 5)
        numbers = np.empty((rows, n // BLOCK, 13), np.uint16)
        numbers[..., :12] = np.sum(fives * _POWERS, axis=-1)
        numbers[..., 12] = np.sum(groups[..., 15] * _POWERS[:4], axis=-1)
        packed = ((numbers * np.uint16(256) + np.uint16(242)) // np.uint16(243)).astype(np.uint8)
    heads = stored.view(np.uint8).reshape(rows, -1)
    return np.concatenate([heads, packed.reshape(rows, -1)], axis=1)
