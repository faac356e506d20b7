"""Reading GGUF files: the header is checked when the file is opened, the data is mapped.

Layout: magic, version, counts; metadata; tensor entries; padding; the tensors' data. A model may be
in several such files, see `gguf_parts`. Writing is in `gguf_writer`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bitnet.closing import Closing
from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelClosedError,
    UnsupportedModelError,
)
from bitnet.formats.gguf_byte_order import to_little
from bitnet.formats.gguf_header import TensorInfo
from bitnet.formats.gguf_metadata import Metadata, MetadataValue
from bitnet.formats.gguf_parts import Part, join_metadata, join_tensors, open_parts
from bitnet.formats.gguf_values import ByteOrder

__all__ = ["GGUFFile", "Metadata", "MetadataValue", "TensorInfo"]


class GGUFFile(Closing):
    """A GGUF file, open for reading; with any part of a split model, all of its parts.

    Raises ModelNotFoundError when there is no file, InvalidModelError when it breaks a rule of the
    format and UnsupportedModelError for versions and tensor types not known here.

    `close` (or leaving the `with` block) ends the use of this object. The mapping itself lives as
    long as the arrays that `data` handed out: they stay valid, and the memory is released with the
    last of them. A file must not be shortened while it is mapped.
    """

    path: Path
    files: tuple[Path, ...]
    """All files, in order."""
    version: int
    order: ByteOrder
    """Byte order of the first file; `data` hands out little-endian bytes anyway."""
    metadata: Metadata
    tensors: Mapping[str, TensorInfo]
    size_bytes: int
    """Of all files."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        parts = open_parts(self.path)
        first = parts[0]
        self.files = tuple(part.path for part in parts)
        self.version, self.order = first.header.version, first.header.order
        self.metadata = Metadata(os.fspath(first.path), join_metadata(parts))
        self._places = join_tensors(parts)
        self.tensors = MappingProxyType({name: info for name, (info, _) in self._places.items()})
        self.size_bytes = sum(part.file.data.size for part in parts)
        self._parts: list[Part] | None = parts

    def data(self, name: str) -> NDArray[np.uint8]:
        """The raw bytes of a tensor, a read-only view of the mapped file.

        Those of a big-endian file are a copy with the bytes of each number turned around. Raises
        InvalidModelError if there is no such tensor, UnsupportedModelError if that is not known of
        its type, ModelClosedError after `close`.
        """
        info, part = self._place(name)
        data = part.file.data[info.offset : info.offset + info.nbytes]
        if part.header.order == "little":
            return data
        try:
            return to_little(info.type, data)
        except InvalidArgumentError as error:
            raise UnsupportedModelError(part.path, str(error), tensor=name) from error

    def file_of(self, name: str) -> Path:
        """The file that a tensor is in; raises as `data`."""
        return self._place(name)[1].path

    def release(self) -> None:
        """Give back the memory that the file takes; its tensors come again when they are used."""
        for part in self._parts or ():
            part.file.release()

    def _place(self, name: str) -> tuple[TensorInfo, Part]:
        if self._parts is None:
            raise ModelClosedError(f"{self.path} is closed")
        if name not in self._places:
            raise InvalidModelError(self.path, "is missing", tensor=name)
        return self._places[name]

    def close(self) -> None:
        """End the use of this object; may be called twice."""
        self._parts = None
        self._places = {}
