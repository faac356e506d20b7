"""Reading safetensors checkpoints: one file, or several listed by an index; mapped, not loaded.

A file is the header's length (8 bytes, little-endian), a JSON header, and the tensors' bytes
without gaps. The safetensors library has no numpy type for bfloat16, hence a reader of our own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import (
    InvalidModelError,
    ModelClosedError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.formats.mapped import MappedFile
from bitnet.strict_json import JSONValue, parse_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

MAX_HEADER_BYTES = 100_000_000
MAX_SHARDS = 4096
MAX_SHARD_NAME_BYTES = 255
MAX_DIMS = 8
MAX_ELEMENTS = 1 << 40

# bfloat16 has no numpy type and is handed out as its bits; a boolean may be any byte in a file.
DTYPES: dict[str, np.dtype[np.number]] = {
    "BOOL": np.dtype("u1"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's type ("F32", "BF16", "U8" ...), shape, file, and bytes in that file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int


class SafetensorsFolder:
    """The tensors of a folder that holds model.safetensors or a sharded checkpoint.

    `path` is the folder, or any safetensors file in it. Raises ModelNotFoundError when there is
    no such path, InvalidModelError when a file breaks a rule of the format, and
    UnsupportedModelError for element types that are not known here.

    `close` (or leaving the `with` block) ends the use of this object. The mappings live as long as
    the arrays that `data` handed out. A file must not be shortened while it is mapped.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    size_bytes: int

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.path = path.parent if path.is_file() else path
        if not self.path.is_dir():
            raise ModelNotFoundError(f"there is no folder {path}")
        tensors: dict[str, TensorInfo] = {}
        self._files: dict[Path, MappedFile] | None = {}
        for file, names in _shards(self.path).items():
            mapped = MappedFile(file)
            found = _parse_file(file, mapped.data)
            if names is not None:
                _check_against_index(file, names, found)
            tensors.update(found)
            self._files[file] = mapped
        self.tensors = MappingProxyType(tensors)
        self.size_bytes = sum(mapped.data.size for mapped in self._files.values())

    def data(self, name: str) -> NDArray[np.generic]:
        """A tensor as a read-only array of its shape; bfloat16 as uint16, booleans as uint8.

        It is a view of the mapped file, or a copy where a file keeps it at an unaligned place.
        Raises InvalidModelError if there is no such tensor, ModelClosedError after `close`.
        """
        if self._files is None:
            raise ModelClosedError(f"{self.path} is closed")
        info = self.tensors.get(name)
        if info is None:
            raise InvalidModelError(self.path, "is missing", tensor=name)
        raw = self._files[info.file].data[info.offset : info.offset + info.nbytes]
        values = raw.view(DTYPES[info.dtype]).reshape(info.shape)
        array = values if values.flags.aligned else values.copy()
        array.flags.writeable = False
        return array

    def release(self) -> None:
        """Give back the memory that the files take; their tensors come again when they are used."""
        for mapped in (self._files or {}).values():
            mapped.release()

    def close(self) -> None:
        """End the use of this object; may be called twice."""
        self._files = None

    def __enter__(self) -> SafetensorsFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _shards(folder: Path) -> Mapping[Path, set[str] | None]:
    """Files to read, each with the tensors the index says it has (None: there is no index)."""
    if (folder / SINGLE_FILE).exists():
        return {folder / SINGLE_FILE: None}
    if not (folder / INDEX_FILE).exists():
        raise InvalidModelError(folder, f"holds neither {SINGLE_FILE} nor {INDEX_FILE}")
    return _read_index(folder / INDEX_FILE)


def _read_index(path: Path) -> dict[Path, set[str] | None]:
    raw = MappedFile(path).data
    if raw.size > MAX_HEADER_BYTES:
        raise InvalidModelError(path, f"has {raw.size} bytes, over the limit of {MAX_HEADER_BYTES}")
    weight_map = parse_object(path, raw.tobytes(), "the index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidModelError(path, "weight_map must be an object with entries")
    names_of: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_plain_file_name(shard):
            raise InvalidModelError(
                path, f"{shard!r} is not the name of a .safetensors file", tensor=name
            )
        names_of.setdefault(shard, set()).add(name)
    if len(names_of) > MAX_SHARDS:
        raise InvalidModelError(
            path, f"lists {len(names_of)} files, over the limit of {MAX_SHARDS}"
        )
    for shard in names_of:
        if not (path.parent / shard).is_file():
            raise InvalidModelError(path, f"lists {shard}, which is not there")
    return {path.parent / shard: names for shard, names in names_of.items()}


def _is_plain_file_name(name: str) -> bool:
    # No separators of any system and no drive letters, so that a shard cannot be outside the
    # folder. Symbolic links are let through: download caches are made of them.
    if len(name.encode()) > MAX_SHARD_NAME_BYTES or not name.isprintable():
        return False
    return name.endswith(".safetensors") and not any(char in '/\\:\0"<>|?*' for char in name)


def _check_against_index(file: Path, names: set[str], found: dict[str, TensorInfo]) -> None:
    for name in sorted(names - found.keys()):
        raise InvalidModelError(file, "is in the index but not in this file", tensor=name)
    for name in sorted(found.keys() - names):
        raise InvalidModelError(file, "is in this file but the index does not say so", tensor=name)


def _parse_file(path: Path, data: NDArray[np.uint8]) -> dict[str, TensorInfo]:
    """Tensors of one file, after checking that they cover its data exactly once."""
    if data.size < 8:
        raise InvalidModelError(path, f"has {data.size} bytes, too few for a header")
    header_bytes = int.from_bytes(data[:8].tobytes(), "little")
    if header_bytes > min(MAX_HEADER_BYTES, data.size - 8):
        raise InvalidModelError(
            path,
            f"header of {header_bytes} bytes exceeds the file's {data.size - 8} "
            f"or the limit of {MAX_HEADER_BYTES}",
        )
    header = parse_object(path, data[8 : 8 + header_bytes].tobytes(), "the header")
    header.pop("__metadata__", None)
    start = 8 + header_bytes
    tensors = [_parse_entry(path, name, entry, start) for name, entry in header.items()]
    position = start
    for info in sorted(tensors, key=lambda info: (info.offset, info.nbytes)):
        if info.offset != position:
            raise InvalidModelError(
                path,
                f"data starts at byte {info.offset}, not at {position} where the last ended",
                tensor=info.name,
            )
        position += info.nbytes
        if position > data.size:
            raise InvalidModelError(
                path,
                f"data ends at byte {position} of a file of {data.size} bytes",
                tensor=info.name,
            )
    if position != data.size:
        raise InvalidModelError(path, f"has {data.size - position} bytes after the last tensor")
    return {info.name: info for info in tensors}


def _parse_entry(path: Path, name: str, entry: JSONValue, start: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidModelError(
            path, "entry must have exactly dtype, shape and data_offsets", tensor=name
        )
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UnsupportedModelError(path, f"element type {dtype!r} is not known", tensor=name)
    shape = _naturals(path, name, "shape", entry["shape"])
    offsets = _naturals(path, name, "data_offsets", entry["data_offsets"])
    if len(shape) > MAX_DIMS or math.prod(shape) > MAX_ELEMENTS:
        raise InvalidModelError(
            path,
            f"shape {shape} exceeds {MAX_DIMS} dimensions or {MAX_ELEMENTS} elements",
            tensor=name,
        )
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != nbytes:
        raise InvalidModelError(
            path, f"data_offsets {offsets} must span the {nbytes} bytes of its shape", tensor=name
        )
    return TensorInfo(name, dtype, shape, path, start + offsets[0], nbytes)


def _naturals(path: Path, name: str, what: str, value: JSONValue) -> tuple[int, ...]:
    numbers: list[int] = []
    for item in value if isinstance(value, list) else [None]:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < 1 << 63:
            raise InvalidModelError(path, f"{what} must be a list of natural numbers", tensor=name)
        numbers.append(item)
    return tuple(numbers)
