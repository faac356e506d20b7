"""Writing safetensors checkpoints: streamed, in one file or in several with an index."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidArgumentError
from bitnet.formats.safetensors import DTYPES, INDEX_FILE, MAX_SHARDS, SINGLE_FILE

MAX_FILE_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class TensorData:
    """A tensor to write, of a type such as "BF16".

    `data` is its bytes, as arrays in order, which are taken one at a time while writing.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Iterable[npt.NDArray[Any]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def write_safetensors(
    folder: Path, tensors: Sequence[TensorData], max_file_bytes: int = MAX_FILE_BYTES
) -> None:
    """Write a checkpoint into `folder`, in files of up to `max_file_bytes` of tensors.

    A tensor that is larger has a file of its own. Raises InvalidArgumentError for names that are
    not unique and for data that does not have the size of its tensor.
    """
    names = [tensor.name for tensor in tensors]
    if len({*names}) != len(names):
        raise InvalidArgumentError("two tensors have the same name")
    files = _split(tensors, max_file_bytes)
    if len(files) > MAX_SHARDS:
        raise InvalidArgumentError(f"{len(files)} files, more than {MAX_SHARDS}")
    if len(files) == 1:
        _write_file(folder / SINGLE_FILE, files[0])
        return
    places: dict[str, str] = {}
    for number, part in enumerate(files, 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        _write_file(folder / file, part)
        places |= {tensor.name: file for tensor in part}
    total = sum(tensor.nbytes for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _split(tensors: Sequence[TensorData], limit: int) -> list[list[TensorData]]:
    """The tensors of each file."""
    files: list[list[TensorData]] = [[]]
    size = 0
    for tensor in tensors:
        if files[-1] and size + tensor.nbytes > limit:
            files.append([])
            size = 0
        files[-1].append(tensor)
        size += tensor.nbytes
    return files


def _write_file(path: Path, tensors: Sequence[TensorData]) -> None:
    # Wide types first, so that all of them are aligned; readers view the file in place.
    ordered = sorted(tensors, key=lambda tensor: -DTYPES[tensor.dtype].itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.nbytes
        shape = [*tensor.shape]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in ordered:
            written = 0
            for part in tensor.data:
                file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
                written += part.nbytes
            if written != tensor.nbytes:
                raise InvalidArgumentError(
                    f"tensor {tensor.name}: {written} bytes were given, not {tensor.nbytes}"
                )
        file.flush()
        os.fsync(file.fileno())
