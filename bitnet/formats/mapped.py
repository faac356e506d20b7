"""Mapping a model's file into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidModelError, ModelNotFoundError


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file as a read-only array; unmapped when the last view of it is gone.

    Raises ModelNotFoundError when there is no such file, InvalidModelError when it is a folder,
    empty, or cannot be read.
    """
    try:
        if path.is_dir():
            raise InvalidModelError(path, "is a folder, not a file")
        if path.stat().st_size == 0:
            raise InvalidModelError(path, "is empty")
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise InvalidModelError(path, f"cannot be read: {error}") from error
