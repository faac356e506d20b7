"""Tensor types of GGUF files: their numbers, and how many bytes a tensor of each takes.

The standard ones are as in ggml. I2_S, TL1 and TL2 exist only in bitnet.cpp's files; TL2 has the
number that ggml later gave to MXFP4, so that only the size of a tensor tells the two apart.
IQ1_BN and IQ2_BN are of ik_llama.cpp.
"""

from __future__ import annotations

import math

from bitnet.errors import InvalidArgumentError
from bitnet.quant import i2s, tl1, tl2

I2_S_ID, TL1_ID, TL2_ID = 36, 38, 39

# name: (number, elements in a block, bytes in a block). Written out, and held equal to the tables
# of the gguf package by a test, because importing that package costs more than opening a model.
BLOCK_TYPES: dict[str, tuple[int, int, int]] = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q8_1": (9, 32, 40),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "Q8_K": (15, 256, 292),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98),
    "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18),
    "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136),
    "I8": (24, 1, 1),
    "I16": (25, 1, 2),
    "I32": (26, 1, 4),
    "I64": (27, 1, 8),
    "F64": (28, 1, 8),
    "IQ1_M": (29, 256, 56),
    "BF16": (30, 1, 2),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17),
    "NVFP4": (40, 64, 36),
    "Q1_0": (41, 128, 18),
}

# Of ik_llama.cpp: as above, and bytes of a scale in front of each row.
ROW_TYPES: dict[str, tuple[int, int, int, int]] = {
    "IQ1_BN": (134, 64, 13, 2),
    "IQ2_BN": (135, 64, 16, 4),
}

TYPE_IDS: dict[str, int] = {
    **{name: number for name, (number, _, _) in BLOCK_TYPES.items()},
    **{name: number for name, (number, _, _, _) in ROW_TYPES.items()},
    "I2_S": I2_S_ID,
    "TL1": TL1_ID,
    "TL2": TL2_ID,
}


def type_names(number: int) -> list[str]:
    """The names a type number can stand for: none, one, or two for 39."""
    return [name for name, other in TYPE_IDS.items() if other == number]


def tensor_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of `shape` (slowest dimension first).

    Raises InvalidArgumentError if the type is not known or cannot have that shape.
    """
    count = math.prod(shape)
    if type_name == "I2_S":
        return i2s.tensor_bytes(count)
    if type_name == "TL1":
        return tl1.tensor_bytes(count)
    if type_name == "TL2":
        if len(shape) != 2:
            raise InvalidArgumentError(f"a TL2 tensor is a matrix, not of shape {shape}")
        return tl2.tensor_bytes((shape[0], shape[1]))
    if type_name in ROW_TYPES:
        _, elements, size, row_head = ROW_TYPES[type_name]
    elif type_name in BLOCK_TYPES:
        _, elements, size = BLOCK_TYPES[type_name]
        row_head = 0
    else:
        raise InvalidArgumentError(f"tensor type {type_name!r} is not known")
    if shape[-1] % elements:
        raise InvalidArgumentError(
            f"a {type_name} tensor needs rows of a multiple of {elements} elements, not {shape[-1]}"
        )
    return count // elements * size + count // shape[-1] * row_head
