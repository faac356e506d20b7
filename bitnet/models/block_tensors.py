"""Ternary tensors in types whose blocks or rows have scales: TQ1_0, TQ2_0, IQ1_BN, IQ2_BN.

A row must have one scale. A block with a scale of 0 holds zeros, whatever its codes are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitnet.errors import UnsupportedModelError
from bitnet.models.tensors import StoredRows
from bitnet.models.ternary_tensors import StoredTensor
from bitnet.quant import iq_bn, tq

TernaryBlockKind = Literal["TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN"]
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class BlockTensor(StoredTensor):
    """`source` gives the bytes, `factor` multiplies all scales."""

    kind: TernaryBlockKind

    @cached_property
    def scale(self) -> float | npt.NDArray[np.float32]:
        """One number where all rows that are not zero have the same."""
        with np.errstate(over="ignore", invalid="ignore"):
            scales = self._scales * np.float32(self.factor)
        wrong = np.flatnonzero(~(np.isfinite(scales) & (scales >= 0)))
        if wrong.size:
            row = int(wrong[0])
            raise self._invalid(f"the scale of row {row} is {scales[row]}, not finite and positive")
        different = np.unique(scales[scales > 0])
        if different.size > 1:
            return scales
        return float(different[0]) if different.size else 0.0

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        self._check_rows(start, stop)
        codes = np.empty((stop - start, self.shape[1]), np.uint8)
        data = self._rows()
        for first in range(start, stop, _ROWS_AT_ONCE):
            rows = slice(first, min(first + _ROWS_AT_ONCE, stop))
            codes[rows.start - start : rows.stop - start] = self._unpack(data[rows])
        return codes

    def stored(self) -> list[StoredRows]:
        return []

    def _rows(self) -> npt.NDArray[np.uint8]:
        return self.source().reshape(self.shape[0], -1)

    def _unpack(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        scales: npt.NDArray[Any]
        with self._named():
            match self.kind:
                case "TQ1_0" | "TQ2_0":
                    codes, scales = tq.unpack(self.kind, data)
                case "IQ1_BN" | "IQ2_BN":
                    codes, row_scales = iq_bn.unpack(self.kind, data)
                    scales = row_scales[:, None]
        zero = np.repeat(scales == 0, codes.shape[1] // scales.shape[1], axis=1)
        codes[zero] = 1
        return codes

    @cached_property
    def _scales(self) -> npt.NDArray[np.float32]:
        """One for each row (outputs,), as stored."""
        data = self._rows()
        match self.kind:
            case "IQ1_BN" | "IQ2_BN":
                return iq_bn.scales(self.kind, data)
            case "TQ1_0" | "TQ2_0":
                blocks = tq.scales(self.kind, data).astype(np.float32)
        rows: npt.NDArray[np.float32] = blocks.max(axis=1)
        different = (blocks != rows[:, None]) & (blocks != 0) & ~np.isnan(rows)[:, None]
        mixed = np.flatnonzero(different.any(axis=1))  # NaN is refused with other wrong scales
        if mixed.size:
            row = int(mixed[0])
            found = np.unique(blocks[row])
            raise UnsupportedModelError(
                self.path,
                f"row {row} has blocks with different scales, from {found[0]:g} to {found[-1]:g}: "
                f"weights that were not ternary before they became {self.kind}",
                tensor=self.name,
            )
        return rows
