"""Ternary tensors as checkpoints store them, each read by rows into the same codes.

`source` is called for the data on every use, so that nothing is touched before it is needed and a
closed file is noticed. Errors of the codecs are turned into ones that name file and tensor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.models.tensors import DenseTensor, FloatKind, StoredBlock, StoredRows
from bitnet.quant import i2s, ternary, tl1, tl2
from bitnet.quant.tl_config import Blocks, Cut, TLName

_CHUNK_WEIGHTS = 1 << 20

Source = Callable[[], npt.NDArray[Any]]


@dataclass(frozen=True)
class StoredTensor:
    """What all of them have: where they are from, and a factor on the scale they store."""

    path: str | os.PathLike[str]
    name: str
    """The name in the file, for messages."""
    shape: tuple[int, int]
    source: Source
    factor: float = 1.0

    def _scaled(self, scale: float) -> float:
        """`scale * factor` in float32, checked."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.float32(scale) * np.float32(self.factor)
        if not (np.isfinite(value) and value >= 0):
            raise self._invalid(f"its scale is {value}, not finite and positive")
        return float(value)

    def _check_rows(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.shape[0]:
            raise self._invalid(f"rows {start} to {stop} are outside 0 to {self.shape[0]}")

    def _invalid(self, rule: str) -> InvalidModelError:
        return InvalidModelError(self.path, rule, tensor=self.name)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InvalidArgumentError as error:
            raise self._invalid(str(error)) from error


class I2STensor(StoredTensor):
    """I2_S, see `bitnet.quant.i2s`."""

    @cached_property
    def scale(self) -> float:
        with self._named():
            return self._scaled(i2s.read_scale(self.source(), self.shape[0] * self.shape[1]))

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        with self._named():
            return i2s.unpack_rows(self.source(), self.shape, start, stop)

    def stored(self) -> list[StoredRows]:
        rows, columns = self.shape
        if columns % i2s.BLOCK:
            return []
        self.scale  # noqa: B018  # checks the size of the data
        return [StoredRows("i2_s", self.source()[: rows * columns // 4], range(rows))]


@dataclass(frozen=True, kw_only=True)
class TLTensor(StoredTensor):
    """TL1 or TL2, see `bitnet.quant.tl1` and `tl2`; `blocks` fit its shape."""

    kind: TLName
    blocks: Blocks

    @cached_property
    def scale(self) -> float:
        with self._named():
            if self.kind == "TL1":
                return self._scaled(tl1.read_scale(self.source(), self.shape[0] * self.shape[1]))
            return self._scaled(tl2.read_scale(self.source(), self.shape))

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        unpack_rows = tl1.unpack_rows if self.kind == "TL1" else tl2.unpack_rows
        with self._named():
            return unpack_rows(self.source(), self.shape, self.blocks, start, stop)

    def stored(self) -> list[StoredBlock]:
        self.scale  # noqa: B018  # checks the size of the data
        data, bm = self.source(), self.blocks.bm
        cut = Cut(self.kind, self.shape[1], self.blocks)
        sections = tl1.block_sections if self.kind == "TL1" else tl2.block_sections
        return [
            StoredBlock(
                cut,
                sections(data, self.shape, self.blocks, number),
                range(number * bm, (number + 1) * bm),
            )
            for number in range(self.shape[0] // bm)
        ]


class QuartersTensor(StoredTensor):
    """The packing of transformers: uint8 (rows / 4, cols); `factor` is the whole scale."""

    @cached_property
    def scale(self) -> float:
        return self._scaled(1.0)

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        with self._named():
            return ternary.unpack_quarters(self.source(), start, stop)

    def stored(self) -> list[StoredRows]:
        quarter = self.shape[0] // 4
        data = self.source().reshape(-1)
        runs = [range(i * quarter, (i + 1) * quarter) for i in range(4)]
        return [StoredRows("bytes", data, rows, 2 * i) for i, rows in enumerate(runs)]


@dataclass(frozen=True)
class FloatTensor(StoredTensor):
    """Weights in a float type: as trained, or already -s, 0 and +s."""

    kind: FloatKind = "f32"
    latent: bool = False
    """Quantise by the mean absolute value; without, other values than -s, 0 and +s are an error."""

    @property
    def scale(self) -> float:
        return self._scaled(self._quantisation[1])

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        self._check_rows(start, stop)
        multiplier, _ = self._quantisation
        codes = np.empty((stop - start, self.shape[1]), np.uint8)
        done = 0
        for part in self._parts(start, stop):
            codes[done : done + len(part)] = ternary.quantize(part, multiplier)
            done += len(part)
        return codes

    def stored(self) -> list[StoredRows]:
        return []

    @cached_property
    @np.errstate(invalid="ignore")  # a NaN is refused like other weights that are not ternary
    def _quantisation(self) -> tuple[np.float32, float]:
        """What weights are multiplied by to get codes, and the scale; reads the whole tensor."""
        if self.latent:
            with self._named():
                multiplier = ternary.absmean_multiplier(self._parts(0, self.shape[0]))
            return multiplier, float(np.float32(1) / multiplier)
        scale = ternary.exact_scale(self._parts(0, self.shape[0]))
        if scale is not None:
            return np.float32(1) / np.float32(scale), scale
        if any(np.any(part) for part in self._parts(0, self.shape[0])):
            raise UnsupportedModelError(
                self.path,
                f"its {self.kind} weights are not ternary (only -s, 0 and +s for one s); "
                "convert the model again from its original checkpoint",
                tensor=self.name,
            )
        return np.float32(1), 1.0

    def _parts(self, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
        """The rows start to stop as float32, a few at a time."""
        data = self.source()
        step = max(1, _CHUNK_WEIGHTS // self.shape[1])
        for first in range(start, stop, step):
            rows = data[first : min(first + step, stop)]
            yield DenseTensor(self.name, rows, self.kind).float32()
