"""Q6_K, a block format of ggml: 256 weights of 6 bits in 16 sub-blocks, 210 bytes.

A block is ql (128 bytes), qh (64 bytes), scales (16 int8) and d (float16). A weight of sub-block
j is d * scales[j] * (code - 32), code in 0..63: exact in float32. Weight e = 128 h + 32 r + l
(h 0..1, r 0..3, l 0..31) has its low four bits in ql[64 h + 32 (r % 2) + l], the low half for
r < 2, and its high two bits in qh[32 h + l] from bit 2 r on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError

BLOCK = 256
BLOCK_BYTES = 210
SUB = 16  # weights of a sub-block, and sub-blocks of a block
ZERO = 32  # the code of weight 0
LARGEST = 65504.0 * 127 * 31  # beyond, d might not fit a float16
_TINY = np.float32(1e-15)  # sub-blocks below this are zero
_TRIES = range(-9, 10)

Float = NDArray[np.float32]


def unpack(
    data: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.float16]]:
    """Codes (rows, n), scales (rows, n / 16) and d (rows, n / 256) of a table of blocks.

    data: uint8 (rows, n / 256 * 210).
    """
    rows = len(data)
    blocks = data.reshape(rows, -1, BLOCK_BYTES)
    ql = blocks[..., :128].reshape(rows, -1, 2, 1, 2, 32)
    qh = blocks[..., 128:192].reshape(rows, -1, 2, 1, 32)
    low = ql >> np.array([0, 4], np.uint8).reshape(2, 1, 1) & 15
    high = qh >> np.arange(0, 8, 2, dtype=np.uint8).reshape(4, 1) & 3
    codes = np.bitwise_or(low.reshape(rows, -1, 2, 4, 32), high << 4, dtype=np.uint8)
    scales = np.ascontiguousarray(blocks[..., 192:208]).view(np.int8)
    d = np.ascontiguousarray(blocks[..., 208:]).view(np.float16)
    return codes.reshape(rows, -1), scales.reshape(rows, -1), d[..., 0]


def pack(
    codes: NDArray[np.uint8], scales: NDArray[np.int8], d: NDArray[np.float16]
) -> NDArray[np.uint8]:
    """The inverse of `unpack`."""
    rows = len(codes)
    parts = codes.reshape(rows, -1, 2, 4, 32)
    low, high = parts & 15, parts >> 4
    ql = low[..., :2, :] | low[..., 2:, :] << 4
    qh = high[..., 0, :] | high[..., 1, :] << 2 | high[..., 2, :] << 4 | high[..., 3, :] << 6
    fields = [
        ql.reshape(rows, -1, 128),
        qh.reshape(rows, -1, 64),
        np.ascontiguousarray(scales).view(np.uint8).reshape(rows, -1, SUB),
        np.ascontiguousarray(d).view(np.uint8).reshape(rows, -1, 2),
    ]
    return np.concatenate(fields, axis=-1).reshape(rows, -1)


def dequantize(data: NDArray[np.uint8]) -> Float:
    """The weights (rows, n) as float32."""
    codes, scales, d = unpack(data)
    with np.errstate(invalid="ignore"):  # a scale that is not finite makes weights that are not
        step = np.repeat(d.astype(np.float32), SUB, axis=1) * scales.astype(np.float32)
        return (codes.astype(np.float32) - np.float32(ZERO)) * np.repeat(step, SUB, axis=1)


def quantize(weights: Float) -> NDArray[np.uint8]:
    """The blocks of float32 weights (rows, n), n a multiple of 256; after ggml's reference.

    A sub-block's scale is searched among 19 for the least squared error weighted with x**2; the
    scales are then rounded to int8 multiples of d, and the weights to multiples of their product.
    Raises InvalidArgumentError.
    """
    rows, n = weights.shape
    if n % BLOCK:
        raise InvalidArgumentError(f"Q6_K needs rows of a multiple of {BLOCK} weights, not {n}")
    if not (np.abs(weights) <= LARGEST).all():
        raise InvalidArgumentError("Q6_K cannot hold weights that are too large or not finite")
    x = weights.reshape(rows, -1, SUB, SUB)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        wanted = _best_scales(x)
        most = _furthest(wanted)[..., None]
        inverse = np.float32(-128) / most
        d = np.where(np.abs(most) < _TINY, 0, np.float32(1) / inverse).astype(np.float16)
        scales = np.where(d != 0, np.rint(np.clip(wanted * inverse, -128, 127)), 0)
        step = (d.astype(np.float32) * scales.astype(np.float32))[..., None]
        codes = np.where(step != 0, np.rint(np.clip(x / step, -32, 31)), 0) + ZERO
    return pack(codes.astype(np.uint8).reshape(rows, n), scales.astype(np.int8), d)


def _best_scales(x: Float) -> Float:
    """The scale of each sub-block (..., 16), which may be negative."""
    furthest = _furthest(x)
    scale, best = np.zeros_like(furthest), np.zeros_like(furthest)
    for i in _TRIES:
        inverse = (np.float32(i) * np.float32(-0.1) + np.float32(-32)) / furthest
        codes = np.rint(np.clip(x * inverse[..., None], np.float32(-32), np.float32(31)))
        weighted = x * x * codes
        xl, ll = _sum(weighted * x), _sum(weighted * codes)
        better = (ll > 0) & (xl * xl > best * ll)
        scale = np.where(better, xl / ll, scale)
        best = np.where(better, scale * xl, best)
    return np.where(np.abs(furthest) < _TINY, np.float32(0), scale)


def _furthest(x: Float) -> Float:
    """The element of the last axis with the largest magnitude; the positive one of two."""
    high, low = x.max(axis=-1), (-x).max(axis=-1)
    return np.asarray(np.where(high >= low, high, -low))


def _sum(x: Float) -> Float:
    """The last axis of 16 folded in halves."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = x[..., :half] + x[..., half:]
    return np.asarray(x[..., 0])
