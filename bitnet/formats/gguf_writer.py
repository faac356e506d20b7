"""Writing GGUF files, version 3, little-endian: streamed, and moved into place when complete.

A model may be written in several files, see `gguf_parts`. Headers come from `gguf_encoding`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.formats.gguf_encoding import WritableValue, encode_entry, encode_start
from bitnet.formats.gguf_header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAX_DIMS,
    MAX_NAME_BYTES,
    check_alignment,
)
from bitnet.formats.gguf_parts import MAX_PARTS, find_parts, part_path, split_keys
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.formats.new_files import folder_aside, put_in_place

__all__ = ["TensorData", "WritableValue", "write_gguf"]


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


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    header: bytes
    tensors: Sequence[TensorData]


def write_gguf(
    path: str | os.PathLike[str],
    metadata: Mapping[str, WritableValue],
    tensors: Sequence[TensorData],
    verify: Callable[[Path], None] | None = None,
    *,
    max_file_bytes: int | None = None,
) -> None:
    """Write a GGUF file; `path` is replaced only when the whole file is on disk.

    The tensors are aligned to `general.alignment` of the metadata, or else to 32 bytes.
    verify: called with the whole file before it takes its place, of parts with the first one; may
        raise.
    max_file_bytes: a model that takes more is written in parts of up to this size, with whole
        tensors in order, at least one in each. For `path` NAME.gguf they are
        NAME-00001-of-00002.gguf and so on. What fits is one file, `path` itself. Either
        replaces `path` and all parts of this name, however many: their first part goes first and
        the new one comes last, so that old and new files are never taken for one model.

    Raises InvalidArgumentError, and leaves what was there, for values that the format cannot hold
    or data that does not have the size its shape and type imply.
    """
    path = Path(path)
    wanted = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    alignment = check_alignment(int(wanted) if isinstance(wanted, np.integer) else wanted)
    _check_entries(tensors)
    files = _files(path, metadata, tensors, alignment, max_file_bytes)
    with folder_aside(path) as aside:
        new = [aside / file.name for file in files]
        for place, file in zip(new, files, strict=True):
            _write_file(place, file, alignment)
        if verify is not None:
            verify(new[0])
        old = [] if max_file_bytes is None else find_parts(path)
        if len(new) > 1 and path.is_file():
            old.append(path)
        put_in_place(new, old)


def _files(
    path: Path,
    metadata: Mapping[str, WritableValue],
    tensors: Sequence[TensorData],
    alignment: int,
    limit: int | None,
) -> list[_File]:
    whole = _File(path.name, _header(metadata, tensors, alignment), tensors)
    if limit is None:
        return [whole]
    if limit < 1:
        raise InvalidArgumentError(f"files of up to {limit} bytes cannot be written")
    # The first part has all metadata. Others are read on their own, so they need the alignment.
    later = {key: value for key, value in metadata.items() if key == ALIGNMENT_KEY}
    parts = _split(metadata, later, tensors, alignment, limit)
    count = len(parts)
    data_bytes = sum(_padded_bytes(tensor, alignment) for tensor in tensors)
    if count == 1 or len(whole.header) + data_bytes <= limit:
        return [whole]
    if count > MAX_PARTS:
        raise InvalidArgumentError(
            f"files of up to {limit} bytes would be {count} parts, more than {MAX_PARTS}"
        )
    files = []
    for number, part in enumerate(parts):
        own = {**(later if number else metadata), **split_keys(number, count, len(tensors))}
        name = part_path(path, number, count).name
        files.append(_File(name, _header(own, part, alignment), part))
    return files


def _split(
    first: Mapping[str, WritableValue],
    later: Mapping[str, WritableValue],
    tensors: Sequence[TensorData],
    alignment: int,
    limit: int,
) -> list[list[TensorData]]:
    """The tensors of each part; `first` and `later` are the metadata of the parts."""
    keys = split_keys(0, 0, 0)  # as long as any others
    parts: list[list[TensorData]] = [[]]
    header, data = len(encode_start({**first, **keys}, 0)), 0
    for tensor in tensors:
        size = _padded_bytes(tensor, alignment)
        entry = len(encode_entry(tensor.name, tensor.shape, tensor.type, 0))
        if parts[-1] and _aligned(header + entry, alignment) + data + size > limit:
            parts.append([])
            header, data = len(encode_start({**later, **keys}, 0)), 0
        parts[-1].append(tensor)
        header += entry
        data += size
    return parts


def _check_entries(tensors: Sequence[TensorData]) -> None:
    names: set[str] = set()
    for tensor in tensors:
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


def _header(
    metadata: Mapping[str, WritableValue], tensors: Sequence[TensorData], alignment: int
) -> bytes:
    pieces = [encode_start(metadata, len(tensors))]
    offset = 0
    for tensor in tensors:
        size = _padded_bytes(tensor, alignment)
        pieces.append(encode_entry(tensor.name, tensor.shape, tensor.type, offset))
        offset += size
    header = b"".join(pieces)
    return header.ljust(_aligned(len(header), alignment), b"\0")


def _write_file(path: Path, content: _File, alignment: int) -> None:
    with path.open("wb") as file:
        file.write(content.header)
        for tensor in content.tensors:
            _write_tensor(file, tensor, alignment)
        file.flush()
        os.fsync(file.fileno())


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


def _padded_bytes(tensor: TensorData, alignment: int) -> int:
    return _aligned(tensor_bytes(tensor.type, tensor.shape), alignment)


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
