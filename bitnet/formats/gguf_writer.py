"""Writing GGUF files, version 3, little-endian: streamed, and moved into place when complete."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.formats.aside import written_aside
from bitnet.formats.gguf_header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_DIMS,
    MAX_NAME_BYTES,
    check_alignment,
)
from bitnet.formats.gguf_metadata import MetadataArray
from bitnet.formats.gguf_types import TYPE_IDS, tensor_bytes
from bitnet.formats.gguf_values import ARRAY, BOOL, NUMBER_DTYPES, STRING

# Python integers become uint32, or int32 when negative, or the 64-bit type when they need it;
# Python floats become float32. A numpy scalar or array keeps its own type. So whatever is in
# `Metadata.stored` is written as it was, but for an empty array of arrays, which becomes one of
# strings.
WritableValue: TypeAlias = Union[
    bool,
    int,
    float,
    str,
    "np.generic",
    "NDArray[np.generic]",
    "Sequence[str]",
    "Sequence[MetadataArray]",
]

_TYPE_OF_DTYPE: dict[np.dtype[np.generic], int] = {
    dtype: kind for kind, dtype in NUMBER_DTYPES.items()
}


@dataclass(frozen=True, slots=True)
class TensorData:
    """A tensor to write: `shape` slowest dimension first, `type` a name such as "F16" or "I2_S".

    `data` is the raw bytes, as bytes or an array of any little-endian dtype, or as an iterable of
    such parts in order, which are taken one at a time while writing.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    data: bytes | NDArray[np.generic] | Iterable[bytes | NDArray[np.generic]]


def write_gguf(
    path: str | os.PathLike[str],
    metadata: Mapping[str, WritableValue],
    tensors: Sequence[TensorData],
    verify: Callable[[Path], None] | None = None,
) -> None:
    """Write a GGUF file; `path` is replaced only when the whole file is on disk.

    The tensors are aligned to `general.alignment` of the metadata, or else to 32 bytes.
    verify: called with the whole file before it takes its place; may raise.

    Raises InvalidArgumentError, and leaves `path` as it was, for values that the format cannot
    hold or data that does not have the size its shape and type imply.
    """
    path = Path(path)
    wanted = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    alignment = check_alignment(int(wanted) if isinstance(wanted, np.integer) else wanted)
    header = _header(metadata, tensors, alignment)
    with written_aside(path) as file:
        file.write(header)
        for tensor in tensors:
            _write_tensor(file, tensor, alignment)
        if verify is not None:
            file.flush()
            verify(Path(file.name))


def _header(
    metadata: Mapping[str, WritableValue], tensors: Sequence[TensorData], alignment: int
) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), _value(key, value)]
    names: set[str] = set()
    offset = 0
    for tensor in tensors:
        _check_entry(tensor, names)
        size = tensor_bytes(tensor.type, tensor.shape)
        dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape[::-1])
        place = struct.pack("<IQ", TYPE_IDS[tensor.type], offset)
        parts += [_string(tensor.name), dims, place]
        offset = _aligned(offset + size, alignment)
    header = b"".join(parts)
    return header.ljust(_aligned(len(header), alignment), b"\0")


def _check_entry(tensor: TensorData, names: set[str]) -> None:
    if tensor.name in names or not 0 < len(tensor.name.encode()) <= MAX_NAME_BYTES:
        raise InvalidArgumentError(
            f"tensor name {tensor.name!r} must be unique and of 1 to {MAX_NAME_BYTES} bytes"
        )
    names.add(tensor.name)
    if not 1 <= len(tensor.shape) <= MAX_DIMS or min(tensor.shape) < 1:
        raise InvalidArgumentError(
            f"tensor {tensor.name}: shape {tensor.shape} must have 1 to {MAX_DIMS} "
            "positive dimensions"
        )


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: WritableValue) -> bytes:
    """A value with its type in front."""
    if isinstance(value, (bool, np.bool_)):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, (int, float, np.generic)):
        number = _number(key, value)
        return struct.pack("<I", _type_id(key, number.dtype)) + number.tobytes()
    return struct.pack("<I", ARRAY) + _array(key, value)


def _array(
    key: str, values: NDArray[np.generic] | Sequence[str] | Sequence[MetadataArray]
) -> bytes:
    """The type of the items, their number, and the items."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise InvalidArgumentError(f"metadata key {key!r}: arrays must have one dimension")
        kind = BOOL if values.dtype == np.bool_ else _type_id(key, values.dtype)
        return struct.pack("<IQ", kind, values.size) + values.tobytes()
    strings = [item for item in values if isinstance(item, str)]
    if len(strings) == len(values):
        return struct.pack("<IQ", STRING, len(values)) + b"".join(map(_string, strings))
    if not all(isinstance(item, (list, np.ndarray)) for item in values):
        raise InvalidArgumentError(
            f"metadata key {key!r}: a sequence may only hold strings, or only arrays"
        )
    head = struct.pack("<IQ", ARRAY, len(values))
    return head + b"".join(_array(key, item) for item in values if not isinstance(item, str))


def _number(key: str, value: int | float | np.generic) -> np.generic:
    if isinstance(value, np.generic):
        return value
    if isinstance(value, float):
        return np.float32(value)
    for dtype in (np.uint32, np.int32, np.uint64, np.int64):
        if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return dtype(value)
    raise InvalidArgumentError(f"metadata key {key!r}: {value} does not fit 64 bits")


def _type_id(key: str, dtype: np.dtype[np.generic]) -> int:
    if dtype not in _TYPE_OF_DTYPE:
        raise InvalidArgumentError(f"metadata key {key!r}: GGUF has no type for {dtype}")
    return _TYPE_OF_DTYPE[dtype]


def _write_tensor(file: BinaryIO, tensor: TensorData, alignment: int) -> None:
    expected = tensor_bytes(tensor.type, tensor.shape)
    written = 0
    for part in [tensor.data] if isinstance(tensor.data, (bytes, np.ndarray)) else tensor.data:
        raw = np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else memoryview(part)
        written += raw.nbytes
        if written > expected:
            break
        file.write(raw)
    if written != expected:
        raise InvalidArgumentError(
            f"tensor {tensor.name}: data has {'more than ' * (written > expected)}"
            f"{min(written, expected)} bytes; {tensor.type} {tensor.shape} takes {expected}"
        )
    file.write(bytes(_aligned(expected, alignment) - expected))


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
