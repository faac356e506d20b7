"""Memory handed to compiled code: aligned numpy arrays and the cffi structs that point at them."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

import cffi
import numpy as np
import numpy.typing as npt

from bitnet.errors import ModelMemoryError
from bitnet.program.abi import CDEF

_ALIGNMENT = 64
_HUGE_PAGE = 2 << 20

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


def allocate_pages(size: int) -> npt.NDArray[np.uint8]:
    """Zeros in pages of their own, in huge ones where the system has them. Raises ModelMemoryError.

    Nothing is taken until it is written.
    """
    # Python's default is memory shared with child processes, which gets no huge pages.
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        pages = mmap.mmap(-1, size + _HUGE_PAGE, **private)
    except (OSError, OverflowError) as error:
        raise ModelMemoryError(f"cannot allocate {size} bytes") from error
    raw = np.frombuffer(pages, np.uint8)
    start = -raw.ctypes.data % _HUGE_PAGE
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE, start, size // _HUGE_PAGE * _HUGE_PAGE)
    return raw[start : start + size]


def address(array: npt.NDArray[Any]) -> Any:
    """The array's address as cffi takes it for a pointer field; keep the array alive."""
    return ffi.cast("void *", array.ctypes.data)
