"""Memory handed to compiled code: aligned numpy arrays and the cffi structs that point at them."""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress
from typing import Any, TypeAlias

import cffi
import numpy as np
import numpy.typing as npt

from bitnet.errors import ModelMemoryError
from bitnet.program.abi import CDEF

_ALIGNMENT = 64
_HUGE_PAGE = 2 << 20

ffi = cffi.FFI()
ffi.cdef(CDEF)

# Name -> number of elements and their type.
Sizes: TypeAlias = "dict[str, tuple[int, type[np.number[Any]]]]"


def total_bytes(sizes: Sizes) -> int:
    return sum(count * np.dtype(dtype).itemsize for count, dtype in sizes.values())


class MemoryBudget:
    """Counts bytes, and refuses more than its limit. Safe to use from several threads.

    Counted are a model's weights, also those mapped from files, its KV caches and the buffers of
    its steps; not the compiled code, the tokenizer, and the logits that a step hands out.

    limit: bytes; None is no limit. It may be set at any time: what is in use stays.
    within: a budget that counts the same bytes, among others.
    """

    _lock = threading.Lock()  # one for all: taking goes through several of them

    def __init__(self, limit: int | None = None, within: MemoryBudget | None = None) -> None:
        self.limit = limit
        self.used = 0
        """Bytes in use."""
        self._budgets: list[MemoryBudget] = [self, *(within._budgets if within else [])]

    def take(self, n_bytes: int, purpose: str) -> None:
        """Count bytes that are about to be allocated. Raises ModelMemoryError beyond a limit."""
        with self._lock:
            for budget in self._budgets:
                if budget.limit is not None and budget.used + n_bytes > budget.limit:
                    raise ModelMemoryError(
                        f"{purpose} need {n_bytes} bytes; of a limit of {budget.limit}, "
                        f"{budget.used} are in use"
                    )
            for budget in self._budgets:
                budget.used += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """The opposite of `take`."""
        with self._lock:
            for budget in self._budgets:
                budget.used -= n_bytes

    def close(self) -> None:
        """Give back all that is in use."""
        with self._lock:
            rest = self.used
            for budget in self._budgets:
                budget.used -= rest


def allocate(count: int, dtype: npt.DTypeLike, *, zero: bool = False) -> npt.NDArray[Any]:
    """A 1-D array that starts on a cache line. Raises ModelMemoryError."""
    size = count * np.dtype(dtype).itemsize
    try:
        raw = (np.zeros if zero else np.empty)(size + _ALIGNMENT, np.uint8)
    except MemoryError as error:
        raise ModelMemoryError(f"cannot allocate {size} bytes") from error
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype)


def allocate_pages(size: int, *, huge: bool = True) -> npt.NDArray[np.uint8]:
    """Zeros in pages of their own, in huge ones where the system has them. Raises ModelMemoryError.

    Nothing is taken until it is written. huge: pages of megabytes, which all are near the thread
    that writes to them first; without, it is those of the smallest size.
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
            if huge:
                pages.madvise(mmap.MADV_HUGEPAGE, start, size // _HUGE_PAGE * _HUGE_PAGE)
            else:
                pages.madvise(mmap.MADV_NOHUGEPAGE)
    return raw[start : start + size]


def address(array: npt.NDArray[Any]) -> Any:
    """The array's address as cffi takes it for a pointer field; keep the array alive."""
    return ffi.cast("void *", array.ctypes.data)
