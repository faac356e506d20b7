"""Where the block sizes of TL1 and TL2 tensors in a GGUF file come from.

In this order: metadata keys ``bitnet.tl.TENSOR.bm``, ``.bk`` and ``.bmm`` of the file, a
``kernel_config.ini`` beside it, the sizes that bitnet.cpp comes with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path

from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.formats.gguf_metadata import Metadata
from bitnet.quant import tl1, tl2
from bitnet.quant.tl_config import (
    CONFIG_NAME,
    MAX_CONFIG_BYTES,
    MAX_SIZE,
    PRESETS,
    Blocks,
    Shape,
    TLName,
    read_config,
)

TL_PREFIX = "bitnet.tl."
_CHECKS = {"TL1": tl1.check_blocks, "TL2": tl2.check_blocks}


class BlockSizes:
    """Those of the tensors of one file."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self._path = path
        self._metadata = metadata

    def find(self, tensor: str, name: TLName, shape: Shape) -> Blocks:
        """The block sizes of a tensor (rows, columns).

        Raises UnsupportedModelError when they are nowhere, InvalidModelError when they do not fit.
        """
        blocks = self._from_metadata(tensor) or self._beside.get(shape) or PRESETS[name].get(shape)
        if blocks is None:
            rows, columns = shape
            raise UnsupportedModelError(
                self._path,
                f"nothing tells how {name} of shape {shape} is cut into blocks; put the "
                f"{CONFIG_NAME} that the file was made with beside it, with a section for "
                f"m = {rows}, k = {columns}",
                tensor=tensor,
            )
        try:
            check_blocks(name, shape, blocks)
        except InvalidArgumentError as error:
            raise InvalidModelError(self._path, str(error), tensor=tensor) from error
        return blocks

    def _from_metadata(self, tensor: str) -> Blocks | None:
        keys = [f"{TL_PREFIX}{tensor}.{field.name}" for field in fields(Blocks)]
        if not any(key in self._metadata for key in keys):
            return None
        return Blocks(*(self._metadata.get_int(key, 1, MAX_SIZE - 1) for key in keys))

    @cached_property
    def _beside(self) -> Mapping[Shape, Blocks]:
        """What the configuration beside the file says; nothing if there is none."""
        try:
            return read_config_file(self._path.parent / CONFIG_NAME)
        except ModelNotFoundError:
            return {}


def block_keys(tensor: str, blocks: Blocks) -> dict[str, int]:
    """The metadata that tells how a tensor is cut."""
    return {f"{TL_PREFIX}{tensor}.{size}": value for size, value in asdict(blocks).items()}


def check_blocks(name: TLName, shape: Shape, blocks: Blocks) -> None:
    """Raise InvalidArgumentError unless a tensor of this type and shape can be cut so."""
    _CHECKS[name](shape, blocks)


def read_config_file(path: Path) -> dict[Shape, Blocks]:
    """The block sizes in a ``kernel_config.ini``, by shape (rows, columns).

    Raises ModelNotFoundError if there is none, InvalidModelError for one that cannot be read.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise InvalidModelError(path, f"cannot be read: {error.strerror}") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise InvalidModelError(path, f"is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        return read_config(text.decode())
    except (UnicodeDecodeError, InvalidArgumentError) as error:
        raise InvalidModelError(path, str(error)) from error
