"""TQ1_0 and TQ2_0, ggml's ternary blocks: 256 codes and a float16 scale in 54 or 66 bytes.

TQ2_0: byte j of each 32 holds codes j, 32+j, 64+j and 96+j of 128, from the low bits up; then the
scale. TQ1_0: a byte holds n codes (n = 5, in the last 4 bytes 4) as the fraction
(81 c0 + 27 c1 + 9 c2 + 3 c3 + c4) / 243, rounded up to 256ths, so that multiplying it by powers of
3 brings one code after the other to the top. Its 32 + 16 + 4 bytes hold codes that are 32, 16 and 4
apart.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.ternary import check_codes

Kind = Literal["TQ1_0", "TQ2_0"]

BLOCK = 256
BLOCK_BYTES: dict[Kind, int] = {"TQ1_0": 54, "TQ2_0": 66}
_PARTS = ((0, 32, 5), (32, 16, 5), (48, 4, 4))  # of TQ1_0: first byte, bytes, codes a byte
_POWERS = np.array([81, 27, 9, 3, 1], np.uint16)[:, None]

Codes = NDArray[np.uint8]


def unpack(kind: Kind, data: NDArray[np.uint8]) -> tuple[Codes, NDArray[np.float16]]:
    """Codes (rows, n) and scales (rows, n / 256) of the blocks of uint8 (rows, bytes of a row).

    Raises InvalidArgumentError where a code of TQ2_0 is 3; there is no such code in TQ1_0.
    """
    rows = len(data)
    blocks = data.reshape(rows, -1, BLOCK_BYTES[kind])
    d = scales(kind, data)
    if kind == "TQ2_0":
        shifts = 2 * np.arange(4, dtype=np.uint8)[:, None]
        codes = blocks[..., :64].reshape(rows, -1, 2, 1, 32) >> shifts & np.uint8(3)
        if codes.size and codes.max() > 2:
            raise InvalidArgumentError("a TQ2_0 code is 3, not 0, 1 or 2")
        return codes.reshape(rows, -1), d
    fields = []
    for start, size, count in _PARTS:
        part = blocks[..., None, start : start + size]
        top = (part * _POWERS[::-1][:count].astype(np.uint8)).astype(np.uint16) * 3 >> 8
        fields.append(top.astype(np.uint8).reshape(rows, -1, size * count))
    return np.concatenate(fields, axis=-1).reshape(rows, -1), d


def scales(kind: Kind, data: NDArray[np.uint8]) -> NDArray[np.float16]:
    """The scales (rows, n / 256) alone."""
    blocks = data.reshape(len(data), -1, BLOCK_BYTES[kind])
    return np.ascontiguousarray(blocks[..., -2:]).view(np.float16)[..., 0]


def pack(kind: Kind, codes: Codes, d: NDArray[np.float16]) -> NDArray[np.uint8]:
    """The inverse of `unpack`. Raises InvalidArgumentError."""
    check_codes(codes)
    rows, n = codes.shape
    if n % BLOCK or d.shape != (rows, n // BLOCK):
        raise InvalidArgumentError(
            f"{kind} needs rows of a multiple of {BLOCK} codes and a scale for each {BLOCK}, "
            f"not shapes {codes.shape} and {d.shape}"
        )
    blocks = codes.reshape(rows, -1, BLOCK)
    if kind == "TQ2_0":
        shifts = 2 * np.arange(4, dtype=np.uint8)[:, None]
        fields = [np.bitwise_or.reduce(blocks.reshape(rows, -1, 2, 4, 32) << shifts, axis=-2)]
    else:
        fields, start = [], 0
        for _, size, count in _PARTS:
            part = blocks[..., start : start + size * count].reshape(rows, -1, count, size)
            number = np.sum(part * _POWERS[:count], axis=-2, dtype=np.uint16)
            fields.append((number * np.uint16(256) + np.uint16(242)) // np.uint16(243))
            start += size * count
    ends = np.ascontiguousarray(d, np.float16).view(np.uint8).reshape(rows, -1, 2)
    parts = [field.astype(np.uint8).reshape(rows, n // BLOCK, -1) for field in fields]
    return np.concatenate([*parts, ends], axis=-1).reshape(rows, -1)
