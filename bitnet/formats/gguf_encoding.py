"""Encoding what GGUF files start with, version 3, little-endian: metadata and tensor entries."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.formats.gguf_header import MAGIC
from bitnet.formats.gguf_metadata import MetadataArray
from bitnet.formats.gguf_types import TYPE_IDS
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


def encode_start(metadata: Mapping[str, WritableValue], n_tensors: int) -> bytes:
    """What comes before the entries: counts and metadata.

    Raises InvalidArgumentError for values that the format cannot hold.
    """
    pieces = [MAGIC, struct.pack("<IQQ", 3, n_tensors, len(metadata))]
    for key, value in metadata.items():
        pieces += [_string(key), _value(key, value)]
    return b"".join(pieces)


def encode_entry(name: str, shape: tuple[int, ...], type_name: str, offset: int) -> bytes:
    """The entry of a tensor; its length does not depend on `offset`."""
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return _string(name) + dims + struct.pack("<IQ", TYPE_IDS[type_name], offset)


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
