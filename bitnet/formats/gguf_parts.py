"""GGUF files in several parts: NAME-00001-of-00003.gguf and so on.

Each part is a GGUF file with tensors of its own; the first one has the metadata of the model.
split.no (from 0), split.count and split.tensors.count (of all parts) are in every part. They are
what gguf-split of llama.cpp writes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitnet.errors import InvalidModelError
from bitnet.formats.gguf_header import Header, TensorInfo, parse_header
from bitnet.formats.gguf_metadata import Metadata, StoredValue
from bitnet.formats.mapped import MappedFile

MAX_PARTS = 4096
SPLIT_PREFIX = "split."
_NAMED = 8  # missing parts that an error names

_COUNT, _NUMBER, _TENSORS = "split.count", "split.no", "split.tensors.count"
_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One file: all of a model, or a part of it."""

    path: Path
    file: MappedFile
    header: Header


def open_parts(path: Path) -> list[Part]:
    """All parts of the model of which `path` is one, in order.

    Raises InvalidModelError for parts that are missing or do not belong together.
    """
    opened = _open(path)
    count = _integer(opened, _COUNT, MAX_PARTS, 1)
    if count <= 1:
        return [opened]
    own = _integer(opened, _NUMBER, count - 1)
    paths = _paths(path, own, count)
    missing = [other.name for other in paths if not other.exists()]
    if missing:
        names = ", ".join(missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise InvalidModelError(path, f"is one of {count} parts; missing: {names}{more}")
    parts = [opened if i == own else _open(other) for i, other in enumerate(paths)]
    for i, part in enumerate(parts):
        found = (_integer(part, _NUMBER, MAX_PARTS), _integer(part, _COUNT, MAX_PARTS))
        if found != (i, count):
            raise InvalidModelError(
                part.path,
                f"says that it is part {found[0] + 1} of {found[1]}, not {i + 1} of {count}",
            )
    return parts


def part_names(name: str) -> list[str]:
    """The names of all files of the model that the file `name` is of, in order."""
    match = _NAME.fullmatch(name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]) <= MAX_PARTS:
        return [name]
    return _names(match["stem"], int(match["count"]))


def join_tensors(parts: list[Part]) -> dict[str, tuple[TensorInfo, Part]]:
    """The tensors of all parts with where they are.

    Raises InvalidModelError if a name appears twice, or if there are not as many as announced.
    """
    tensors: dict[str, tuple[TensorInfo, Part]] = {}
    for part in parts:
        for name, info in part.header.tensors.items():
            if name in tensors:
                raise InvalidModelError(
                    part.path, f"is in {tensors[name][1].path.name} too", tensor=name
                )
            tensors[name] = (info, part)
    if len(parts) > 1:
        announced = _integer(parts[0], _TENSORS, 2**31)
        if announced != len(tensors):
            raise InvalidModelError(
                parts[0].path, f"announces {announced} tensors, but the parts hold {len(tensors)}"
            )
    return tensors


def join_metadata(parts: list[Part]) -> dict[str, StoredValue]:
    """The metadata of the model."""
    metadata = parts[0].header.metadata
    if len(parts) == 1:
        return metadata
    return {key: value for key, value in metadata.items() if not key.startswith(SPLIT_PREFIX)}


def part_path(path: Path, number: int, count: int) -> Path:
    """Where part `number`, from 0, of the model to be written as `path` goes."""
    return path.with_name(_part_name(_stem(path), number, count))


def find_parts(path: Path) -> list[Path]:
    """Files that are named as parts of a model written as `path`, of any count; first parts first.

    A set without its first part opens as no model.
    """
    stem = _stem(path)
    found: set[tuple[int, Path]] = set()
    for other in path.parent.glob("*.gguf"):
        match = _NAME.fullmatch(other.name)
        # Names that differ in case are those of one file on some systems.
        if match is not None and match["stem"].casefold() == stem.casefold():
            number = int(match["number"]) - 1
            part = part_path(path, number, int(match["count"]))
            if part.is_file():
                found.add((number, part))
    return [part for _, part in sorted(found)]


def split_keys(number: int, count: int, n_tensors: int) -> dict[str, np.generic]:
    """What part `number`, from 0, says of itself; `n_tensors` are those of all parts."""
    return {
        _NUMBER: np.uint16(number),
        _COUNT: np.uint16(count),
        _TENSORS: np.int32(n_tensors),
    }


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gguf")


def _part_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number + 1:05}-of-{count:05}.gguf"


def _open(path: Path) -> Part:
    file = MappedFile(path)
    return Part(path, file, parse_header(os.fspath(path), file.data.data))


def _integer(part: Part, key: str, maximum: int, default: int | None = None) -> int:
    metadata = Metadata(os.fspath(part.path), part.header.metadata)
    return metadata.get_int(key, 0, maximum, default=default)


def _paths(path: Path, number: int, count: int) -> list[Path]:
    match = _NAME.fullmatch(path.name)
    if match is None or (int(match["number"]), int(match["count"])) != (number + 1, count):
        raise InvalidModelError(
            path,
            f"is part {number + 1} of {count}, so its name must end in "
            f"-{number + 1:05}-of-{count:05}.gguf",
        )
    return [path.with_name(name) for name in _names(match["stem"], count)]


def _names(stem: str, count: int) -> list[str]:
    return [_part_name(stem, number, count) for number in range(count)]
