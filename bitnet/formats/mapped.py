"""Mapping a model's file into memory."""

from __future__ import annotations

import errno
import mmap
from pathlib import Path

import numpy as np

from bitnet.errors import InvalidModelError, ModelMemoryError, ModelNotFoundError


class MappedFile:
    """A file in memory: `data` are its bytes, read-only, unmapped when the last view is gone.

    Raises ModelNotFoundError when there is no such file, InvalidModelError when it is a folder,
    empty, or cannot be read, ModelMemoryError when there is no address space for it.
    """

    def __init__(self, path: Path) -> None:
        try:
            if path.is_dir():
                raise InvalidModelError(path, "is a folder, not a file")
            if path.stat().st_size == 0:
                raise InvalidModelError(path, "is empty")
            with path.open("rb") as file:
                self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelNotFoundError(f"there is no file {path}") from error
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:
                raise ModelMemoryError(f"cannot map {path}: {error.strerror}") from error
            raise InvalidModelError(path, f"cannot be read: {error}") from error
        self.data = np.frombuffer(self._pages, np.uint8)

    def release(self) -> None:
        """Give back the memory that the file takes in this process; what is used comes again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)
