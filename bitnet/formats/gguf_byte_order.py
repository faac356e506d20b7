"""Tensor data of big-endian GGUF files, as little-endian bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.formats.gguf_types import BLOCK_TYPES
from bitnet.quant.ternary import TRAILER_BYTES

_NUMBERS = ("F16", "BF16", "F32", "F64", "I8", "I16", "I32", "I64")
# Where the 16-bit scales of a block are; all else in it are bytes.
_SCALES = {"Q4_0": [0], "Q8_0": [0], "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": []}


def to_little(type_name: str, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of the bytes of a big-endian tensor with the bytes of each number turned around.

    Raises InvalidArgumentError for types whose numbers are not known.
    """
    swapped = data.copy()
    if type_name in _NUMBERS:
        width = BLOCK_TYPES[type_name][2]
        swapped = np.ascontiguousarray(swapped.reshape(-1, width)[:, ::-1]).reshape(-1)
    elif type_name == "I2_S":
        scale = data.size - TRAILER_BYTES
        swapped[scale : scale + 4] = data[scale : scale + 4][::-1]
    elif type_name in _SCALES:
        size = BLOCK_TYPES[type_name][2]
        for place in _SCALES[type_name]:
            swapped[place::size], swapped[place + 1 :: size] = (
                data[place + 1 :: size],
                data[place::size],
            )
    else:
        raise InvalidArgumentError(f"type {type_name} in big-endian files is not supported")
    swapped.flags.writeable = False
    return swapped
