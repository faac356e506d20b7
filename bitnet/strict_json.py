"""JSON from files that are not trusted: what it takes in memory is bounded before it is parsed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn, TypeAlias, Union

from bitnet.errors import InvalidModelError

JSONValue: TypeAlias = Union[bool, int, float, str, "list[JSONValue]", "dict[str, JSONValue]", None]

# Of the small files that say what a model is.
MAX_CONFIG_BYTES = 2**22

MAX_DEPTH = 32
# A value takes up to some 200 bytes, whatever it takes in the file.
MAX_VALUES = 1 << 19


def parse(raw: bytes, *, unique: bool = True) -> JSONValue:
    """The value of UTF-8 text in JSON, with keys that are unique at every level, or ValueError.

    Not `unique`: the last of several values of a key counts, as it does for Python's readers.
    Refused too are NaN and infinities, text that is not valid Unicode, and more than MAX_DEPTH
    levels or about MAX_VALUES values.
    """
    if 1 + raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise ValueError(f"it has more than about {MAX_VALUES} values")
    try:
        value: JSONValue = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique if unique else dict,
            parse_constant=_refuse_constant,
        )
    except RecursionError as error:
        raise ValueError(f"it has more than {MAX_DEPTH} levels") from error
    _check(value)
    return value


def parse_object(
    path: str | os.PathLike[str], raw: bytes, what: str, *, unique: bool = True
) -> dict[str, JSONValue]:
    """What `parse` gives for `what` in a model's file, if it is an object; or InvalidModelError."""
    value = parse_value(path, raw, what, unique=unique)
    if not isinstance(value, dict):
        raise InvalidModelError(path, f"{what} is not a JSON object")
    return value


def parse_value(
    path: str | os.PathLike[str], raw: bytes, what: str, *, unique: bool = True
) -> JSONValue:
    """What `parse` gives for `what` in a model's file, or InvalidModelError."""
    try:
        return parse(raw, unique=unique)
    except ValueError as error:
        raise InvalidModelError(path, f"{what} is not valid JSON: {error}") from error


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a model's file; InvalidModelError if it cannot be read or has more than that."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidModelError(path, f"cannot be read: {error}") from error
    if len(data) > limit:
        raise InvalidModelError(path, f"has more than {limit} bytes")
    return data


def _unique(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} appears twice")
            seen.add(key)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _check(value: JSONValue) -> None:
    """Raise ValueError for deep nesting and for halves of surrogate pairs, spelled as escapes."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[JSONValue] = []
        for item in level:
            if isinstance(item, str):
                item.encode()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
        if not inner:
            return
        level = inner
    raise ValueError(f"it has more than {MAX_DEPTH} levels")
