"""Memory handed to compiled code: aligned numpy arrays and the cffi structs that point at them."""

from __future__ import annotations

from typing import Any

import cffi
import numpy as np
import numpy.typing as npt

from bitnet.errors import ModelMemoryError
from bitnet.program.abi import CDEF

_ALIGNMENT = 64

ffi = cffi.FFI()
ffi.cdef(CDEF)


def allocate(count: int, dtype: npt.DTypeLike, *, zero: bool = False) -> npt.NDArray[Any]:
    """A 1-D array that starts on a cache line. Raises ModelMemoryError."""
    size = count * np.dtype(dtype).itemsize
    try:
        raw = (np.zeros if zero else np.empty)(size + _ALIGNMENT, np.uint8)
    except MemoryError as error:
        raise ModelMemoryError(f"cannot allocate {size} bytes") from error
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype)


def address(array: npt.NDArray[Any]) -> Any:
    """The array's address as cffi takes it for a pointer field; keep the array alive."""
    return ffi.cast("void *", array.ctypes.data)
