"""Reading GGUF's primitive values, of either byte order, from bytes that are not trusted.

What a file announces must fit in the bytes that are left before anything is allocated for it.
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidModelError
from bitnet.formats.gguf_metadata import MetadataArray, Number, StoredValue

MAX_STRING_BYTES = 1 << 24
MAX_ARRAY_ITEMS = 1 << 24
MAX_ARRAY_DEPTH = 4
MAX_ARRAYS = 1 << 16  # an empty one takes much more in memory than in the file

BOOL, STRING, ARRAY = 7, 8, 9
NUMBER_DTYPES: dict[int, np.dtype[Number]] = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}

ByteOrder: TypeAlias = Literal["little", "big"]

_U32: dict[ByteOrder, struct.Struct] = {
    "little": struct.Struct("<I"),
    "big": struct.Struct(">I"),
}
_U64: dict[ByteOrder, struct.Struct] = {
    "little": struct.Struct("<Q"),
    "big": struct.Struct(">Q"),
}


class Reader:
    """A position in the file that only moves forward and never past the end."""

    def __init__(self, path: str, view: memoryview) -> None:
        self.path = path
        self.view = view
        self.position = 0
        self.order: ByteOrder = "little"
        self.arrays = 0

    def error(self, rule: str) -> InvalidModelError:
        """The error to raise for this file."""
        return InvalidModelError(self.path, rule)

    def take(self, size: int, what: str) -> memoryview:
        """The next `size` bytes, which hold `what`."""
        start = self.position
        left = len(self.view) - start
        if size > left:
            raise self.error(f"{what} at byte {start} needs {size} bytes, but only {left} are left")
        self.position = start + size
        return self.view[start : start + size]

    def u32(self, what: str) -> int:
        """An unsigned 32-bit number."""
        (value,) = _U32[self.order].unpack(self.take(4, what))
        return int(value)

    def u64(self, what: str) -> int:
        """An unsigned 64-bit number."""
        (value,) = _U64[self.order].unpack(self.take(8, what))
        return int(value)

    def count(self, what: str, maximum: int, item_bytes: int) -> int:
        """A number of items that each take at least `item_bytes` of what is left of the file."""
        value = self.u64(what)
        if value > maximum:
            raise self.error(f"{what} {value} exceeds the limit of {maximum}")
        left = len(self.view) - self.position
        if value * item_bytes > left:
            raise self.error(
                f"{what} {value} needs at least {value * item_bytes} bytes, "
                f"but only {left} are left"
            )
        return value

    def string(self, what: str, maximum: int) -> str:
        """A UTF-8 string of at most `maximum` bytes, preceded by its length."""
        size = self.count(f"length of {what}", maximum, 1)
        try:
            return str(self.take(size, what), "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8") from error

    def numbers(self, count: int, dtype: np.dtype[Number], what: str) -> NDArray[Number]:
        """A read-only array of numbers; copied, so that it outlives the mapping and is aligned."""
        raw = np.frombuffer(self.take(count * dtype.itemsize, what), dtype)
        items = raw.byteswap() if self.order == "big" else raw.copy()
        items.flags.writeable = False
        return items


def parse_value(reader: Reader, kind: int, what: str, depth: int = 0) -> StoredValue:
    """The value of type `kind` that comes next, inside `depth` arrays."""
    if kind == STRING:
        return reader.string(what, MAX_STRING_BYTES)
    if kind == ARRAY:
        return _parse_array(reader, what, depth + 1)
    if kind == BOOL:
        (byte,) = reader.take(1, what)
        if byte > 1:
            raise reader.error(f"{what} is a boolean but holds {byte}")
        return bool(byte)
    if kind not in NUMBER_DTYPES:
        raise reader.error(f"{what} has the unknown type {kind}")
    number: Number = reader.numbers(1, NUMBER_DTYPES[kind], what)[0]
    return number


def _parse_array(reader: Reader, what: str, depth: int) -> MetadataArray:
    if depth > MAX_ARRAY_DEPTH:
        raise reader.error(f"{what} nests arrays deeper than {MAX_ARRAY_DEPTH}")
    reader.arrays += 1
    if reader.arrays > MAX_ARRAYS:
        raise reader.error(f"the metadata has more than {MAX_ARRAYS} arrays")
    kind = reader.u32(what)
    length = f"array length of {what}"
    if kind == STRING:
        return _parse_strings(reader, reader.count(length, MAX_ARRAY_ITEMS, 8), what)
    if kind == ARRAY:
        count = reader.count(length, MAX_ARRAY_ITEMS, 12)
        return [_parse_array(reader, what, depth + 1) for _ in range(count)]
    if kind != BOOL and kind not in NUMBER_DTYPES:
        raise reader.error(f"{what} is an array of the unknown type {kind}")
    dtype = np.dtype(np.uint8) if kind == BOOL else NUMBER_DTYPES[kind]
    count = reader.count(length, MAX_ARRAY_ITEMS, dtype.itemsize)
    items = reader.numbers(count, dtype, what)
    if kind == BOOL:
        if items.size and items.max() > 1:
            raise reader.error(f"{what} is an array of booleans but holds {items.max()}")
        return items.view(np.bool_)
    return items


def _parse_strings(reader: Reader, count: int, what: str) -> list[str]:
    """An array of strings; vocabularies have 10**5 and more, hence a loop without calls of ours."""
    view, position, end = reader.view, reader.position, len(reader.view)
    unpack = _U64[reader.order].unpack_from
    strings: list[str] = []
    for index in range(count):
        start = position + 8
        if start > end:
            raise reader.error(f"item {index} of {what} starts past the end of the file")
        position = start + unpack(view, position)[0]
        if position > end or position - start > MAX_STRING_BYTES:
            raise reader.error(
                f"item {index} of {what} has {position - start} bytes, "
                f"more than the file or the limit of {MAX_STRING_BYTES}"
            )
        try:
            strings.append(str(view[start:position], "utf-8"))
        except UnicodeDecodeError as error:
            raise reader.error(f"item {index} of {what} is not UTF-8") from error
    reader.position = position
    return strings
