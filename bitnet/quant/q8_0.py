"""Q8_0, a block format of ggml: 32 weights as int8 with one float16 scale, 34 bytes.

A block is d (float16), then 32 int8 q; a weight is d * q. The product is exact in float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError

BLOCK = 32
BLOCK_BYTES = 34
_Q_MAX = np.float32(127)


def unpack(data: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """q (rows, n) and d (rows, n / 32) of the blocks of uint8 (rows, n / 32 * 34)."""
    blocks = data.reshape(len(data), -1, BLOCK_BYTES)
    q = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
    d = np.ascontiguousarray(blocks[..., :2]).view(np.float16)
    return q.reshape(len(data), -1), d[..., 0]


def dequantize(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The weights (rows, n) as float32."""
    q, d = unpack(data)
    with np.errstate(invalid="ignore"):  # a scale that is not finite makes weights that are not
        return q.astype(np.float32) * np.repeat(d.astype(np.float32), BLOCK, axis=1)


def quantize(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The blocks of float32 weights (rows, n), n a multiple of 32.

    As ggml does, but for two details that make the error no larger: weights are divided by the
    scale as it is stored, and ties are rounded to even. Raises InvalidArgumentError.
    """
    rows, n = weights.shape
    if n % BLOCK:
        raise InvalidArgumentError(f"Q8_0 needs rows of a multiple of {BLOCK} weights, not {n}")
    x = weights.reshape(rows, -1, BLOCK)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        d = (np.abs(x).max(axis=-1, keepdims=True) / _Q_MAX).astype(np.float16)
        scale = d.astype(np.float32)
        inverse = np.where(scale > 0, np.float32(1) / scale, np.float32(0))
        q = np.rint(np.clip(x * inverse, -_Q_MAX, _Q_MAX))
    if not np.isfinite(d).all():
        raise InvalidArgumentError("Q8_0 cannot hold weights that are too large or not finite")
    return np.concatenate([d.view(np.uint8), q.astype(np.int8).view(np.uint8)], axis=-1).reshape(
        rows, -1
    )
