"""The GGUF files that a conversion writes: in pieces, with their progress, and read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.errors import BitNetError, InvalidArgumentError, InvalidModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_parts import find_parts
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.formats.gguf_writer import TensorData, WritableValue, write_gguf
from bitnet.program.workers import Workers

_PIECE = 16 << 20  # bytes of a tensor that are written, or read again, at a time

Array = npt.NDArray[Any]


class Written:
    """The hashes of the tensors that are written, and the share of them that is.

    progress: called with that share, 0 to 1. Set `total`, in bytes, before writing.
    """

    def __init__(self, progress: Callable[[float], None]) -> None:
        self.total = 1
        self._progress = progress
        self._bytes = 0
        self._digests: dict[str, bytes] = {}

    @property
    def names(self) -> Iterable[str]:
        """Of the tensors."""
        return self._digests.keys()

    def stream(
        self, name: str, make: Callable[[], Iterable[Array]], release: Callable[[], None]
    ) -> Iterator[Array]:
        """The bytes that `make` gives, in pieces; what was mapped for them is given back."""
        digest = hashlib.sha256()
        for part in make():
            for piece in _pieces(part.reshape(-1).view(np.uint8)):
                digest.update(piece.data)
                yield piece
                self._bytes += piece.size
                self._progress(self._bytes / self.total)
                release()
        self._digests[name] = digest.digest()

    def compare(self, path: Path, name: str, data: Array, release: Callable[[], None]) -> None:
        """Raise InvalidModelError if `data`, flat bytes in the file at `path`, are not those."""
        digest = hashlib.sha256()
        for piece in _pieces(data):
            digest.update(piece.data)
            release()
        if digest.digest() != self._digests[name]:
            raise InvalidModelError(path, "is not what was written", tensor=name)


class Output:
    """A file to be written at `path`, and the hashes of what is written.

    sources: the files that it is made of, which it must not replace.
    overwrite: whether `path` may exist.
    progress: called with the share that is written, 0 to 1.
    max_file_bytes: to write parts, see `write_gguf`; `overwrite` is then for old parts too.

    Raises InvalidArgumentError if it must not be written.
    """

    def __init__(
        self,
        path: Path,
        sources: Iterable[Path],
        *,
        overwrite: bool,
        progress: Callable[[float], None],
        max_file_bytes: int | None = None,
    ) -> None:
        old = files_to_replace(path, max_file_bytes)
        if path.is_dir() or (old and not overwrite):
            raise InvalidArgumentError(f"{old[0]} exists")
        for file in old:
            if any(os.path.samefile(file, source) for source in sources):
                raise InvalidArgumentError(f"{file} is a file of the model to convert")
        self.path = path
        self._max_file_bytes = max_file_bytes
        self._written = Written(progress)

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str,
        make: Callable[[], Iterable[Array]],
        release: Callable[[], None],
    ) -> TensorData:
        """A tensor of GGUF type `kind`, made as it is written.

        make: gives its bytes, as arrays in order. release: gives back what was mapped to make them.
        """
        return TensorData(name, shape, kind, self._written.stream(name, make, release))

    def write(
        self,
        metadata: Mapping[str, WritableValue],
        tensors: Sequence[TensorData],
        check: Callable[[Path], None],
        workers: Workers,
    ) -> None:
        """Write the file, or its parts; they appear when all is written and was read again.

        tensors: those that `tensor` gave. check: raises if the file at a path is not what was
        meant. Raises InvalidArgumentError where nothing can be written.
        """
        self._written.total = sum(tensor_bytes(tensor.type, tensor.shape) for tensor in tensors)

        def verify(path: Path) -> None:
            check(path)
            with GGUFFile(path) as file:
                workers.run_all(partial(self._compare, file, name) for name in self._written.names)

        try:
            write_gguf(self.path, metadata, tensors, verify, max_file_bytes=self._max_file_bytes)
        except BitNetError:
            raise
        except OSError as error:
            raise InvalidArgumentError(f"cannot write {self.path}: {error.strerror}") from error

    def _compare(self, file: GGUFFile, name: str) -> None:
        self._written.compare(file.file_of(name), name, file.data(name), file.release)


def files_to_replace(path: Path, max_file_bytes: int | None) -> list[Path]:
    """What is there already of a file, or with `max_file_bytes` of parts, written as `path`."""
    parts = [] if max_file_bytes is None else find_parts(path)
    return [path, *parts] if path.exists() else parts


def _pieces(data: Array) -> Iterator[Array]:
    for start in range(0, data.size, _PIECE):
        yield data[start : start + _PIECE]
