"""Model files: GGUF (`gguf`, `gguf_writer`) and safetensors (`safetensors`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from bitnet.errors import InvalidModelError, ModelNotFoundError
from bitnet.formats.gguf_header import MAGIC
from bitnet.formats.safetensors import INDEX_FILE, SINGLE_FILE


def sniff(path: str | os.PathLike[str]) -> Literal["gguf", "safetensors-folder"]:
    """What kind of model is at `path`, told by content.

    A safetensors file counts as its folder, which holds the configuration and the tokenizer.
    Raises ModelNotFoundError when there is nothing, InvalidModelError when it is neither kind.
    """
    path = Path(path)
    if path.is_dir():
        if (path / SINGLE_FILE).exists() or (path / INDEX_FILE).exists():
            return "safetensors-folder"
        raise InvalidModelError(path, f"holds neither {SINGLE_FILE} nor {INDEX_FILE}")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(f"there is no file or folder {path}") from error
    except OSError as error:
        raise InvalidModelError(path, f"cannot be read: {error}") from error
    if not start:
        raise InvalidModelError(path, "is empty")
    if start.startswith(MAGIC):
        return "gguf"
    if start[8:] == b"{":  # a safetensors header starts after its length of 8 bytes
        return "safetensors-folder"
    raise InvalidModelError(path, "is neither a GGUF nor a safetensors file")
