"""JSON from files that are not trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias, Union

from bitnet.errors import InvalidModelError

JSONValue: TypeAlias = Union[bool, int, float, str, "list[JSONValue]", "dict[str, JSONValue]", None]


def parse_object(path: Path, raw: bytes, what: str, *, unique: bool = True) -> dict[str, JSONValue]:
    """A JSON object whose keys are unique at every level, or InvalidModelError.

    Not `unique`: the last of several values of a key counts, as it does for Python's readers.
    """
    value = parse_json(path, raw, what, unique=unique)
    if not isinstance(value, dict):
        raise InvalidModelError(path, f"{what} is not a JSON object")
    return value


def parse_json(path: Path, raw: bytes, what: str, *, unique: bool = True) -> JSONValue:
    """A JSON value, or InvalidModelError; `unique` as in `parse_object`."""
    hook = _unique if unique else dict
    try:
        value: JSONValue = json.loads(raw.decode("utf-8"), object_pairs_hook=hook)
    except (ValueError, RecursionError) as error:  # ValueError: syntax, UTF-8, our own, digits
        raise InvalidModelError(path, f"{what} is not valid JSON: {error}") from error
    return value


def _unique(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} appears twice")
            seen.add(key)
    return values
