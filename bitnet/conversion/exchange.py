"""Rewriting a model as a GGUF file of a ternary type that other engines read too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from bitnet.conversion.origin import Origin, has_row_scales
from bitnet.conversion.output import Output
from bitnet.conversion.packing import ONE_SCALE, TernaryType, pack_tensor
from bitnet.errors import InvalidArgumentError, UnsupportedModelError
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.formats.gguf_writer import TensorData, WritableValue
from bitnet.models.tensors import TernaryTensor
from bitnet.models.ternary_tensors import TLTensor
from bitnet.models.tl_blocks import block_keys, check_blocks, read_config_file
from bitnet.program.tl_options import usual_blocks
from bitnet.quant import i2s
from bitnet.quant.tl_config import PRESETS, Blocks, Shape, TLName

ExchangeType = Literal["i2_s", "tl1", "tl2", "tq1_0", "tq2_0", "iq1_bn", "iq2_bn"]

# general.file_type: of bitnet.cpp, of ggml, and of ik_llama.cpp.
_TYPES: dict[ExchangeType, tuple[TernaryType, int]] = {
    "i2_s": ("I2_S", 40),
    "tl1": ("TL1", 38),
    "tl2": ("TL2", 39),
    "tq1_0": ("TQ1_0", 36),
    "tq2_0": ("TQ2_0", 37),
    "iq1_bn": ("IQ1_BN", 136),
    "iq2_bn": ("IQ2_BN", 137),
}
_FILE_TYPE_KEY, _QUANTIZATION_KEY = "general.file_type", "general.quantization_version"
_QUANTIZATION_VERSION = 2  # of ggml's block formats


def write_exchange(
    origin: Origin, output: Output, to: ExchangeType, tl_config: Path | None
) -> None:
    """Write the model as a GGUF file of type `to`.

    tl_config: a ``kernel_config.ini`` for TL1 and TL2, before all other block sizes. Raises as
    `convert`, naming the tensor that has no form in this type.
    """
    exchange = _Exchange(origin, output, to, tl_config)
    metadata = origin.metadata() | exchange.metadata()
    check = partial(origin.check, weight_types=frozenset([exchange.type]))
    output.write(metadata, exchange.tensors(), check, origin.workers)


class _Exchange:
    """The metadata and tensors of the new file; tensors are made as they are written."""

    def __init__(
        self, origin: Origin, output: Output, to: ExchangeType, tl_config: Path | None
    ) -> None:
        self._origin = origin
        self._output = output
        self.type, self._file_type = _TYPES[to]
        self._config: Mapping[Shape, Blocks] = read_config_file(tl_config) if tl_config else {}
        self._blocks: dict[str, Blocks] = {}
        for name, shape in origin.spec.ternary_shapes().items():
            self._check(name, shape)
            origin.release()

    def metadata(self) -> dict[str, WritableValue]:
        """What tells the types of the tensors, and how they are cut."""
        keys: dict[str, WritableValue] = {
            _FILE_TYPE_KEY: self._file_type,
            _QUANTIZATION_KEY: _QUANTIZATION_VERSION,
        }
        for name, blocks in self._blocks.items():
            keys |= block_keys(name, blocks)
        return keys

    def tensors(self) -> list[TensorData]:
        spec = self._origin.spec
        return [
            *(self._origin.dense(self._output, name) for name in spec.dense_shapes()),
            *(self._ternary(name, shape) for name, shape in spec.ternary_shapes().items()),
        ]

    def _ternary(self, name: str, shape: Shape) -> TensorData:
        def make() -> Iterable[npt.NDArray[Any]]:
            tensor, blocks = self._origin.ternary(name), self._blocks.get(name)
            yield pack_tensor(self.type, tensor, blocks, self._origin.path, self._origin.workers)

        return self._output.tensor(name, shape, self.type, make, self._origin.release)

    def _check(self, name: str, shape: Shape) -> None:
        """Raise if a tensor has no form in this type."""
        tensor = self._origin.ternary(name)
        if self.type in ONE_SCALE and has_row_scales(tensor):
            raise UnsupportedModelError(
                self._origin.path,
                f"its rows have scales of their own, and {self.type} has one scale a tensor",
                tensor=name,
            )
        try:
            match self.type:
                case "TL1" | "TL2":
                    self._blocks[name] = self._find_blocks(self.type, tensor, shape)
                case "I2_S":
                    i2s.check_columns(shape[1])
            tensor_bytes(self.type, shape)
        except InvalidArgumentError as error:
            raise UnsupportedModelError(self._origin.path, str(error), tensor=name) from error

    def _find_blocks(self, kind: TLName, tensor: TernaryTensor, shape: Shape) -> Blocks:
        own = tensor.blocks if isinstance(tensor, TLTensor) and tensor.kind == kind else None
        blocks = self._config.get(shape) or own or PRESETS[kind].get(shape)
        if blocks is None:
            return self._usual_blocks[shape]
        check_blocks(kind, shape, blocks)
        return blocks

    @cached_property
    def _usual_blocks(self) -> dict[Shape, Blocks]:
        """For the shapes that no configuration knows."""
        kind: TLName = "TL1" if self.type == "TL1" else "TL2"
        shapes = self._origin.spec.ternary_shapes().values()
        known = {*self._config, *PRESETS[kind]}
        return usual_blocks(kind, (shape for shape in shapes if shape not in known))
