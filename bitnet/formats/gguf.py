"""Reading GGUF files: the header is checked when the file is opened, the data is mapped.

Layout: magic, version, counts; metadata; tensor entries; padding; the tensors' data. Writing is in
`gguf_writer`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidModelError, ModelClosedError
from bitnet.formats.gguf_header import TensorInfo, parse_header
from bitnet.formats.gguf_metadata import Metadata, MetadataValue
from bitnet.formats.mapped import MappedFile

__all__ = ["GGUFFile", "Metadata", "MetadataValue", "TensorInfo"]


class GGUFFile:
    """A GGUF file, open for reading.

    Raises ModelNotFoundError when there is no file, InvalidModelError when it breaks a rule of the
    format and UnsupportedModelError for versions, byte orders and tensor types not known here.

    `close` (or leaving the `with` block) ends the use of this object. The mapping itself lives as
    long as the arrays that `data` handed out: they stay valid, and the memory is released with the
    last of them. A file must not be shortened while it is mapped.
    """

    path: Path
    metadata: Metadata
    tensors: Mapping[str, TensorInfo]
    size_bytes: int

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        file = MappedFile(self.path)
        metadata, tensors = parse_header(os.fspath(self.path), file.data.data)
        self.metadata = Metadata(os.fspath(self.path), metadata)
        self.tensors = MappingProxyType(tensors)
        self.size_bytes = file.data.size
        self._file: MappedFile | None = file

    def data(self, name: str) -> NDArray[np.uint8]:
        """The raw bytes of a tensor, a read-only view of the mapped file.

        Raises InvalidModelError if there is no such tensor, ModelClosedError after `close`.
        """
        if self._file is None:
            raise ModelClosedError(f"{self.path} is closed")
        info = self.tensors.get(name)
        if info is None:
            raise InvalidModelError(self.path, "is missing", tensor=name)
        return self._file.data[info.offset : info.offset + info.nbytes]

    def release(self) -> None:
        """Give back the memory that the file takes; its tensors come again when they are used."""
        if self._file is not None:
            self._file.release()

    def close(self) -> None:
        """End the use of this object; may be called twice."""
        self._file = None

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
