"""Models of random weights, made in memory: they say nothing, and take as long as real ones.

The speed of a ternary model does not depend on its weights, only on their number.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from bitnet.bench.shapes import SHAPES
from bitnet.errors import InvalidArgumentError, UnsupportedOperationError
from bitnet.models import Checkpoint, ModelSpec
from bitnet.models.tensors import DenseTensor
from bitnet.models.ternary_tensors import I2STensor
from bitnet.quant import i2s
from bitnet.quant.ternary import pack_trailer

_BITS = 16  # of the random numbers that choose from the tables
_AT_ONCE = 1 << 18  # chosen at a time, so that they stay in the CPU's cache


class RandomSource:
    """A `bitnet.models.checkpoint.Source` whose tensors are made when asked for.

    The same seed, name and shape give the same tensor. Nothing is kept here.
    """

    layout = None
    version = ""
    weight_types = frozenset({"I2_S"})

    def __init__(self, name: str, spec: ModelSpec, seed: int = 0) -> None:
        self.path = Path(name)
        self.name = name
        self.spec = spec
        self.seed = seed
        ternary = [i2s.tensor_bytes(rows * cols) for rows, cols in spec.ternary_shapes().values()]
        dense = [2 * prod(shape) for shape in spec.dense_shapes().values()]
        self.size_bytes = sum(ternary) + sum(dense)
        self.seconds = 0.0  # spent so far on making tensors
        self._code_pairs = _code_pairs()
        normal = np.random.default_rng(seed).standard_normal(1 << _BITS)
        self._halves = (0.02 * normal).astype(np.float16).view(np.uint16)

    def ternary(self, name: str) -> I2STensor:
        rows, cols = shape = self.spec.ternary_shapes()[name]
        start = time.perf_counter()
        codes = self._choices(name, rows * cols // 8, self._code_pairs).view(np.uint8)
        trailer = np.frombuffer(pack_trailer(cols**-0.5), np.uint8)
        data = np.concatenate([codes, trailer])
        self.seconds += time.perf_counter() - start
        return I2STensor(self.path, name, shape, lambda: data)

    def dense(self, name: str) -> DenseTensor:
        shape = self.spec.dense_shapes()[name]
        if len(shape) == 1:
            return DenseTensor(name, np.ones(shape, np.float32), "f32")
        start = time.perf_counter()
        data = self._choices(name, shape[0] * shape[1], self._halves)
        self.seconds += time.perf_counter() - start
        return DenseTensor(name, data.view(np.float16).reshape(shape), "f16")

    def packed(self, name: str) -> None:
        """There is no file."""

    def tokenizer(self) -> NoReturn:
        raise UnsupportedOperationError("a model of random weights has no tokenizer")

    def release(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing to do."""

    def _choices(
        self, name: str, count: int, table: npt.NDArray[np.uint16]
    ) -> npt.NDArray[np.uint16]:
        """`count` random entries of a table of 2**16."""
        rng = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
        out = np.empty(count, np.uint16)
        for start in range(0, count, _AT_ONCE):
            part = out[start : start + _AT_ONCE]
            words = rng.integers(0, 2**64, -(-part.size // 4), np.uint64).view(np.uint16)
            part[:] = table[words[: part.size]]
        return out


def _code_pairs() -> npt.NDArray[np.uint16]:
    """2**16 times two bytes of I2_S: each of the 81**2 pairs without a code 3 about as often."""
    digits = np.array(np.meshgrid(*[range(3)] * 4)).reshape(4, -1)
    valid = sum(digits[i] << (2 * i) for i in range(4)).astype(np.uint8)
    index = np.arange(1 << _BITS)
    pairs = np.stack([valid[index % 81], valid[index // 81 % 81]], axis=1)
    return pairs.view(np.uint16).reshape(-1)


class RandomCheckpoint(Checkpoint):
    """A model of the shape `shape` of `SHAPES`, cut to `n_layers` layers.

    Raises InvalidArgumentError.
    """

    def __init__(self, shape: str, n_layers: int | None = None, seed: int = 0) -> None:
        if shape not in SHAPES:
            known = ", ".join(SHAPES)
            raise InvalidArgumentError(f"unknown shape {shape!r}; the shapes are {known}")
        spec, name = SHAPES[shape], f"random {shape}"
        if n_layers is not None:
            if not 1 <= n_layers <= spec.n_layers:
                raise InvalidArgumentError(
                    f"{shape} can be cut to 1..{spec.n_layers} layers, not {n_layers}"
                )
            name += f", {n_layers} of {spec.n_layers} layers"
            spec = replace(spec, n_layers=n_layers)
        self._random = RandomSource(name, spec, seed)
        super().__init__(self._random)

    @property
    def seconds(self) -> float:
        """Time spent so far on making tensors."""
        return self._random.seconds
