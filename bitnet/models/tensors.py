"""The two kinds of tensor a checkpoint hands out, whatever file they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from bitnet.quant import q6_k, q8_0
from bitnet.quant.tl_config import Cut

FloatKind = Literal["f32", "f16", "bf16"]
BlockKind = Literal["q8_0", "q6_k"]
TableKind = Literal[FloatKind, BlockKind]

FLOAT_DTYPES: dict[FloatKind, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
}


def is_float(kind: TableKind) -> TypeGuard[FloatKind]:
    return kind in FLOAT_DTYPES


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Neighbouring rows of a ternary tensor as their file holds them."""

    kind: Literal["i2_s", "bytes"]
    """I2_S with rows of a multiple of 128 columns, or a code a byte from bit `shift` on."""
    data: npt.NDArray[np.uint8]
    """All bytes of these rows, one row after the other, flat."""
    rows: range
    shift: int = 0

    def part(self, rows: range) -> StoredRows:
        """Some of the rows."""
        row_bytes = len(self.data) // len(self.rows)
        first = self.rows.start
        data = self.data[(rows.start - first) * row_bytes : (rows.stop - first) * row_bytes]
        return StoredRows(self.kind, data, rows, self.shift)


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block of rows of a TL1 or TL2 tensor as its file holds it."""

    cut: Cut
    sections: tuple[npt.NDArray[np.uint8], ...]
    """What the sections of the tensor have of it: one of TL1, three of TL2."""
    rows: range


class TernaryTensor(Protocol):
    """A linear layer's weights: ``y = scale * sum((code - 1) * x)`` for each output row."""

    @property
    def name(self) -> str:
        """Canonical name, such as ``blk.0.attn_q.weight``."""

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""

    @property
    def scale(self) -> float | npt.NDArray[np.float32]:
        """The one scale of the tensor, exactly representable in float32, or (outputs,) scales."""

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Return rows ``start`` to ``stop`` as codes 0, 1 and 2, which mean -1, 0 and +1.

        The result is C-contiguous, shape (stop - start, inputs). Raises InvalidModelError
        or UnsupportedModelError when the stored values are not ternary codes.
        """

    def stored(self) -> Sequence[StoredRows | StoredBlock]:
        """All rows as they are stored, in order, unchecked; none where there is no such form."""


@dataclass(frozen=True, slots=True)
class DenseTensor:
    """A float tensor, C-contiguous and memory-mapped where the file allows it."""

    name: str
    data: npt.NDArray[Any]
    """float32, float16, uint16 holding the bits of bfloat16, or uint8 (rows, bytes of a row)
    holding blocks; see ``kind``."""
    kind: TableKind

    def float32(self) -> npt.NDArray[np.float32]:
        """Return the values as float32 (exact; a copy unless the data are float32)."""
        if self.kind == "q8_0":
            return q8_0.dequantize(self.data)
        if self.kind == "q6_k":
            return q6_k.dequantize(self.data)
        if self.kind == "bf16":
            return (self.data.astype(np.uint32) << 16).view(np.float32)
        return self.data.astype(np.float32, copy=False)
