"""Parsing the header of a GGUF file: every count, length and offset is checked before its use.

Versions 2 and 3, which have the same layout, of either byte order. A big-endian file has the same
magic; its version tells what it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf_metadata import Number, StoredValue
from bitnet.formats.gguf_types import TL2_ID, tensor_bytes, type_names
from bitnet.formats.gguf_values import ByteOrder, Reader, parse_value

MAGIC = b"GGUF"
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
VERSIONS = (2, 3)

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_DIMS = 4
MAX_ELEMENTS = 1 << 40
MAX_KEY_BYTES = (1 << 16) - 1
MAX_NAME_BYTES = 256
MIN_ALIGNMENT = 8
MAX_ALIGNMENT = 1 << 20

_MIN_KEY_BYTES = 8 + 4 + 1  # empty key, type, one-byte value
_MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8  # empty name, one dimension, type, offset


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor is and what it holds.

    `shape` is in numpy order (slowest dimension first), `type` a name such as "F16" or "I2_S",
    `offset` counts from the start of its file and `nbytes` is the size of the raw data.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What comes before the data; metadata and tensors are in file order."""

    version: int
    order: ByteOrder
    metadata: dict[str, StoredValue]
    tensors: dict[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int  # from the start of the data section


def parse_header(path: str, view: memoryview) -> Header:
    """The header of the file whose bytes are `view`."""
    reader = Reader(path, view)
    if bytes(reader.take(4, "magic")) != MAGIC:
        raise InvalidModelError(path, "does not start with the GGUF magic")
    version = reader.u32("version")
    if version not in VERSIONS and _swapped(version) in (1, *VERSIONS):
        version, reader.order = _swapped(version), "big"
    if version == 1:
        raise UnsupportedModelError(
            path, "GGUF version 1 is not supported; convert the file to version 3"
        )
    if version not in VERSIONS:
        raise UnsupportedModelError(path, f"GGUF version {version} is not supported; 2 and 3 are")
    tensor_count = reader.count("tensor count", MAX_TENSORS, _MIN_TENSOR_BYTES)
    key_count = reader.count("key count", MAX_KEYS, _MIN_KEY_BYTES)
    metadata = _parse_metadata(reader, key_count)
    entries = _parse_entries(reader, tensor_count)
    alignment = _alignment(path, metadata)
    data_start = -(-reader.position // alignment) * alignment
    tensors = _place(path, entries, alignment, data_start, len(view))
    return Header(version, reader.order, metadata, tensors)


def _swapped(version: int) -> int:
    return int.from_bytes(version.to_bytes(4, "little"), "big")


def _parse_metadata(reader: Reader, count: int) -> dict[str, StoredValue]:
    metadata: dict[str, StoredValue] = {}
    for index in range(count):
        key = reader.string(f"metadata key {index}", MAX_KEY_BYTES)
        if not key:
            raise reader.error(f"metadata key {index} is empty")
        if key in metadata:
            raise reader.error(f"metadata key {key!r} appears twice")
        what = f"value of metadata key {key!r}"
        metadata[key] = parse_value(reader, reader.u32(what), what)
    return metadata


def _parse_entries(reader: Reader, count: int) -> list[_Entry]:
    entries: list[_Entry] = []
    names: set[str] = set()
    for index in range(count):
        name = reader.string(f"name of tensor {index}", MAX_NAME_BYTES)
        if not name:
            raise reader.error(f"name of tensor {index} is empty")
        if name in names:
            raise InvalidModelError(reader.path, "appears twice", tensor=name)
        names.add(name)
        what = f"entry of tensor {name}"
        dims = reader.u32(what)
        if not 1 <= dims <= MAX_DIMS:
            raise InvalidModelError(
                reader.path, f"has {dims} dimensions, not 1 to {MAX_DIMS}", tensor=name
            )
        shape = tuple(reader.u64(what) for _ in range(dims))[::-1]
        if not 1 <= math.prod(shape) <= MAX_ELEMENTS:
            raise InvalidModelError(
                reader.path,
                f"shape {shape} does not have 1 to {MAX_ELEMENTS} elements",
                tensor=name,
            )
        entries.append(_Entry(name, shape, reader.u32(what), reader.u64(what)))
    return entries


def _alignment(path: str, metadata: dict[str, StoredValue]) -> int:
    value = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    try:
        return check_alignment(value.item() if isinstance(value, Number) else value)
    except InvalidArgumentError as error:
        raise InvalidModelError(path, str(error)) from error


def check_alignment(value: object) -> int:
    """`value`, the file's alignment; raises InvalidArgumentError when it can be none."""
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not MIN_ALIGNMENT <= value <= MAX_ALIGNMENT
        or value & (value - 1)
    ):
        raise InvalidArgumentError(
            f"{ALIGNMENT_KEY} is {value!r}, "
            f"not a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}"
        )
    return value


def _place(
    path: str, entries: list[_Entry], alignment: int, data_start: int, file_bytes: int
) -> dict[str, TensorInfo]:
    """Resolve types and sizes; tensors must be aligned, inside the file and not overlap."""
    by_offset = sorted(entries, key=lambda entry: entry.offset)
    data_bytes = max(0, file_bytes - data_start)
    limits = [entry.offset for entry in by_offset] + [data_bytes]
    placed: dict[str, TensorInfo] = {}
    for entry, end in zip(by_offset, limits[1:], strict=True):
        if entry.offset % alignment:
            raise InvalidModelError(
                path,
                f"offset {entry.offset} is not a multiple of the alignment {alignment}",
                tensor=entry.name,
            )
        if entry.offset > data_bytes:
            raise InvalidModelError(
                path,
                f"starts at byte {entry.offset} of a data section of {data_bytes} bytes",
                tensor=entry.name,
            )
        type_name, nbytes = _type_and_size(path, entry, end - entry.offset, alignment)
        if nbytes > end - entry.offset:
            where = "the end of the file" if end == data_bytes else "the next tensor"
            raise InvalidModelError(
                path,
                f"{type_name} {entry.shape} takes {nbytes} bytes, "
                f"but {where} is {end - entry.offset} bytes on",
                tensor=entry.name,
            )
        placed[entry.name] = TensorInfo(
            entry.name, entry.shape, type_name, data_start + entry.offset, nbytes
        )
    return {entry.name: placed[entry.name] for entry in entries}


def _type_and_size(path: str, entry: _Entry, room: int, alignment: int) -> tuple[str, int]:
    names = type_names(entry.type_id)
    if not names:
        raise UnsupportedModelError(
            path, f"tensor type {entry.type_id} is not known", tensor=entry.name
        )
    if entry.type_id == TL2_ID:
        # The room up to the next tensor decides between the two types of this number.
        for name in names:
            size = _size_or_none(name, entry.shape)
            if size is not None and room in (size, -(-size // alignment) * alignment):
                return name, size
        raise InvalidModelError(
            path,
            f"type {TL2_ID} with {room} bytes fits neither TL2 nor MXFP4 of shape {entry.shape}",
            tensor=entry.name,
        )
    try:
        return names[0], tensor_bytes(names[0], entry.shape)
    except InvalidArgumentError as error:
        raise InvalidModelError(path, str(error), tensor=entry.name) from error


def _size_or_none(name: str, shape: tuple[int, ...]) -> int | None:
    try:
        return tensor_bytes(name, shape)
    except InvalidArgumentError:
        return None
