"""Ternary codes: quantising latent weights, scales, the packing of Hugging Face checkpoints.

A code is w + 1 for w in {-1, 0, +1}; codes are uint8 arrays (rows = outputs, cols = inputs) and
the weight they stand for is scale * (code - 1). All functions raise InvalidArgumentError; whoever
knows the file turns that into an error that names it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError

MEAN_FLOOR = np.float32(1e-5)
TRAILER_BYTES = 32
_MAX_SCALE = float(np.finfo(np.float32).max)


def check_codes(codes: NDArray[np.uint8]) -> None:
    """Raise unless `codes` is a uint8 array of values 0, 1 and 2."""
    if codes.dtype != np.uint8:
        raise InvalidArgumentError(f"ternary codes must be uint8, not {codes.dtype}")
    if codes.size and codes.max() > 2:
        raise InvalidArgumentError(f"ternary codes must be 0, 1 or 2, not {codes.max()}")


def pack_trailer(scale: float) -> bytes:
    """The 32 bytes that end a tensor in bitnet.cpp's types: the scale, then zeros."""
    _check_scale(scale)
    return struct.pack("<f28x", scale)


def read_trailer(data: NDArray[np.uint8]) -> float:
    """The scale in the trailer of a tensor's data.

    Raises InvalidArgumentError unless it is finite and not negative.
    """
    scale = float(data[-TRAILER_BYTES:][:4].view("<f4")[0])
    _check_scale(scale)
    return scale


def _check_scale(scale: float) -> None:
    if not 0.0 <= scale <= _MAX_SCALE:
        raise InvalidArgumentError(
            f"a scale must be a float32 that is finite and not negative, not {scale}"
        )


def absmean_multiplier(parts: Iterable[NDArray[np.float32]]) -> np.float32:
    """1 / max(mean|w|, 1e-5) over a tensor given in parts; what latent weights are multiplied by.

    The mean is summed in float64, so that it does not depend on how the tensor is cut.
    The scale of the quantised tensor is 1 / multiplier.
    """
    total, count = 0.0, 0
    for part in parts:
        total += float(np.sum(np.abs(part), dtype=np.float64))
        count += part.size
    if count == 0:
        raise InvalidArgumentError("cannot quantise a tensor without weights")
    if not np.isfinite(total):
        raise InvalidArgumentError("cannot quantise weights that hold infinities or NaN")
    return np.float32(1) / max(np.float32(total / count), MEAN_FLOOR)


def quantize(weights: NDArray[np.float32], multiplier: np.float32) -> NDArray[np.uint8]:
    """Codes of float32 weights: clamp(round_half_even(w * multiplier), -1, 1) + 1."""
    rounded = np.rint(weights * np.float32(multiplier))
    codes: NDArray[np.uint8] = (np.clip(rounded, -1, 1) + np.float32(1)).astype(np.uint8)
    return codes


def exact_scale(parts: Iterable[NDArray[np.float32]]) -> float | None:
    """s > 0 if every weight of the tensor is exactly -s, 0 or +s, otherwise None.

    None also for a tensor of zeros, whose scale cannot be told. When there is an s, the codes are
    `quantize(weights, 1 / s)`.
    """
    scale: np.float32 | None = None
    for part in parts:
        magnitude = np.abs(part)
        if scale is None:
            largest = magnitude.max(initial=np.float32(0))
            if largest == 0:
                continue
            scale = largest
        if not np.all((magnitude == scale) | (magnitude == 0)):
            return None
    return None if scale is None or not np.isfinite(scale) else float(scale)


def pack_quarters(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack codes (rows, cols) the way transformers does: uint8 (rows / 4, cols).

    Byte row r holds rows r, r + rows/4, r + rows/2 and r + 3*rows/4, from the low bits up.
    """
    check_codes(codes)
    if codes.ndim != 2 or codes.shape[0] % 4:
        raise InvalidArgumentError(
            f"packing needs a matrix with a multiple of 4 rows, not shape {codes.shape}"
        )
    quarters = codes.reshape(4, codes.shape[0] // 4, codes.shape[1])
    packed: NDArray[np.uint8] = quarters[0].copy()
    for slot in (1, 2, 3):
        packed |= quarters[slot] << np.uint8(2 * slot)
    return packed


def unpack_quarters(packed: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.uint8]:
    """Codes (stop - start, cols) of the rows start to stop of a packed (rows / 4, cols) tensor."""
    if packed.dtype != np.uint8 or packed.ndim != 2:
        raise InvalidArgumentError(
            f"packed codes must be a uint8 matrix, not {packed.dtype} of shape {packed.shape}"
        )
    quarter, cols = packed.shape
    if not 0 <= start <= stop <= 4 * quarter:
        raise InvalidArgumentError(f"rows {start} to {stop} are outside 0 to {4 * quarter}")
    codes = np.empty((stop - start, cols), np.uint8)
    for slot in range(4):
        low, high = max(start, slot * quarter), min(stop, (slot + 1) * quarter)
        if low < high:
            part = packed[low - slot * quarter : high - slot * quarter] >> np.uint8(2 * slot)
            np.bitwise_and(part, np.uint8(3), out=codes[low - start : high - start])
    if codes.size and codes.max() > 2:
        raise InvalidArgumentError(f"a packed code in rows {start} to {stop} is 3, not 0, 1 or 2")
    return codes
