"""The key-value part of a GGUF file, with getters that check type and range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidModelError

# Arrays of numbers and booleans are read-only numpy arrays of their own dtype; arrays of strings
# and of arrays are lists.
MetadataArray: TypeAlias = Union["NDArray[np.generic]", "list[str]", "list[MetadataArray]"]
MetadataValue: TypeAlias = bool | int | float | str | MetadataArray
# As the file has it: numbers are numpy scalars of their own type.
Number: TypeAlias = np.integer | np.floating
StoredValue: TypeAlias = bool | str | Number | MetadataArray


class Metadata(Mapping[str, MetadataValue]):
    """Keys and values in file order; every getter raises InvalidModelError that names the key.

    A getter's `default` is returned when the key is absent; without one the key is required.
    """

    def __init__(self, path: str, stored: Mapping[str, StoredValue]) -> None:
        self._path = path
        self.stored = stored
        """The values with the types that the file has them in, to be written again."""
        self._values: dict[str, MetadataValue] = {
            key: value.item() if isinstance(value, Number) else value
            for key, value in stored.items()
        }

    def __getitem__(self, key: str) -> MetadataValue:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_int(self, key: str, minimum: int, maximum: int, *, default: int | None = None) -> int:
        """An integer in minimum..maximum."""
        value = self._values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, "an integer")
        if not minimum <= value <= maximum:
            raise self._error(key, f"is {value}, outside {minimum} to {maximum}")
        return value

    def get_float(
        self, key: str, minimum: float, maximum: float, *, default: float | None = None
    ) -> float:
        """A finite floating-point number in minimum..maximum."""
        value = self._values.get(key, default)
        if not isinstance(value, float):
            raise self._wrong(key, "a floating-point number")
        if not (math.isfinite(value) and minimum <= value <= maximum):
            raise self._error(key, f"is {value}, outside {minimum} to {maximum}")
        return value

    def get_bool(self, key: str, *, default: bool | None = None) -> bool:
        """A boolean."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "a boolean")
        return value

    def get_str(self, key: str, *, default: str | None = None) -> str:
        """A string."""
        value = self._values.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def get_strings(self, key: str) -> list[str]:
        """An array of strings."""
        value = self._values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "an array of strings")
        return [item for item in value if isinstance(item, str)]

    def get_ints(self, key: str) -> NDArray[np.int64]:
        """An array of integers of any width, as int64."""
        value = self._values.get(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            raise self._wrong(key, "an array of integers")
        if value.size and int(value.max()) > np.iinfo(np.int64).max:
            raise self._error(key, f"holds {value.max()}, outside the range of int64")
        return value.astype(np.int64)

    def get_floats(self, key: str) -> NDArray[np.float64]:
        """An array of floating-point numbers of either width, as float64; NaN is let through."""
        value = self._values.get(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise self._wrong(key, "an array of floating-point numbers")
        return value.astype(np.float64)

    def _wrong(self, key: str, kind: str) -> InvalidModelError:
        return self._error(key, f"must be {kind}" if key in self._values else "is missing")

    def _error(self, key: str, rule: str) -> InvalidModelError:
        return InvalidModelError(self._path, f"metadata key {key!r} {rule}")
