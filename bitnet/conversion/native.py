"""Rewriting a model as a native file, which is used where it is mapped.

The layout of such a file is in `bitnet.models.native`. The matrices are packed one after the other
by the program that will run the file, which is thereby compiled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from bitnet.codegen import find_target
from bitnet.errors import (
    BitNetError,
    InvalidArgumentError,
    InvalidModelError,
    UnsupportedOperationError,
)
from bitnet.formats import sniff
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_header import ALIGNMENT_KEY
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.formats.gguf_writer import TensorData, WritableValue, write_gguf
from bitnet.kernels import int8
from bitnet.models import Checkpoint, open_checkpoint
from bitnet.models.matrices import Matrix, matrices
from bitnet.models.native import (
    INT8_HEAD,
    LAYOUT_KEY,
    VERSION,
    VERSION_KEY,
    matrix_name,
    scale_name,
)
from bitnet.models.tensors import DenseTensor, TernaryTensor
from bitnet.models.ternary_tensors import FloatTensor
from bitnet.program import Plan, Program
from bitnet.program.head import n_tiles
from bitnet.program.head_weights import HeadWeights
from bitnet.program.plan import choose_head
from bitnet.program.ternary_weights import Packer, cuts_of, parts_of, row_scales
from bitnet.program.workers import Workers, team_size
from bitnet.quant import q6_k, q8_0
from bitnet.quant.tiled import GROUP_ROWS, TILE, TILE_BYTES, TiledName

HeadTable = Literal["q8_0", "q6_k"]

_QUANTIZE = {"q8_0": q8_0.quantize, "q6_k": q6_k.quantize}
_PIECE = 16 << 20  # bytes of a tensor that are copied at a time
_ROWS_AT_ONCE = 256  # of a table that are quantised at a time

Array = npt.NDArray[Any]


def write_native(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    layout: TiledName = "b3",
    head: HeadTable | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the model `source`, a GGUF file, as a native file.

    layout: in which the ternary weights will be multiplied, "b3" or "2bit"; see `quant.tiled`.
    head: how to store the table of the output head; None as it is. An embedding that was the head
        too stays as it was.
    overwrite: whether `out` may exist.
    progress: called with the share that is written, 0 to 1.

    `out` appears when all of it is written and was read again. Raises what `bitnet.load` does for
    the source, InvalidArgumentError for the rest, UnsupportedOperationError for a folder.
    """
    source, out = Path(source), Path(out)
    if layout not in get_args(TiledName):
        raise InvalidArgumentError(f"layout must be b3 or 2bit, not {layout!r}")
    if sniff(source) != "gguf":
        raise UnsupportedOperationError(
            f"{source} is no GGUF file: conversion from a Hugging Face folder is not there yet"
        )
    if out.is_dir() or (out.exists() and not overwrite):
        raise InvalidArgumentError(f"{out} exists")
    with GGUFFile(source) as file, open_checkpoint(source) as checkpoint:
        workers = Workers(team_size(None, checkpoint.size_bytes))
        try:
            conversion = _Conversion(file, checkpoint, layout, head, workers, progress)
            with _write_errors(out):
                write_gguf(out, conversion.metadata(), conversion.tensors(), conversion.verify)
        finally:
            workers.close()


@contextmanager
def _write_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except BitNetError:
        raise
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {out}: {error.strerror}") from error


class _Conversion:
    """The metadata and tensors of the new file; tensors are made as they are written."""

    def __init__(
        self,
        file: GGUFFile,
        checkpoint: Checkpoint,
        layout: TiledName,
        head: HeadTable | None,
        workers: Workers,
        progress: Callable[[float], None],
    ) -> None:
        spec = checkpoint.spec
        self._file = file
        self._checkpoint = checkpoint
        self._layout = layout
        self._workers = workers
        self._progress = progress
        self._table = "token_embd.weight" if spec.tied_head else "output.weight"
        table = checkpoint.dense(self._table).kind
        self._new_table: HeadTable | None = None
        if head is not None and choose_head(head, table, spec) != table:
            self._new_table, table = head, head
            spec = replace(spec, tied_head=False)
        embedding = checkpoint.dense("token_embd.weight").kind
        kind = choose_head(None, table, spec)
        cuts = cuts_of(spec, checkpoint.ternary)
        plan = Plan(spec, embedding, table, "f16", layout, kind, cuts=cuts)
        self._program = Program(plan, find_target())
        self._digests: dict[str, bytes] = {}
        self._written, self._total = 0, 1

    def metadata(self) -> dict[str, WritableValue]:
        """That of the source, and what makes the file a native one."""
        kept: dict[str, WritableValue] = {**self._file.metadata.stored}
        return kept | {ALIGNMENT_KEY: TILE_BYTES, LAYOUT_KEY: self._layout, VERSION_KEY: VERSION}

    def tensors(self) -> list[TensorData]:
        tensors = [*self._dense(), *self._scales(), *self._matrices()]
        if self._program.plan.head_kind == "certified":
            tensors += self._int8_head()
        self._total = sum(tensor_bytes(tensor.type, tensor.shape) for tensor in tensors)
        return tensors

    def verify(self, path: Path) -> None:
        """Raise InvalidModelError if a written file is no model or holds other bytes than given."""
        open_checkpoint(path).close()
        with GGUFFile(path) as file:

            def compare(name: str, digest: bytes) -> None:
                if hashlib.sha256(file.data(name).data).digest() != digest:
                    raise InvalidModelError(path, "is not what was written", tensor=name)
                file.release()

            self._workers.run_all(partial(compare, *item) for item in self._digests.items())

    # -- tensors ----------------------------------------------------------------------------

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: str, make: Callable[[], Array]
    ) -> TensorData:
        return TensorData(name, shape, kind, self._stream(name, make))

    def _stream(self, name: str, make: Callable[[], Array]) -> Iterator[Array]:
        """The bytes that `make` gives, in pieces; then what was mapped for them is let go."""
        data = make().reshape(-1).view(np.uint8)
        digest = hashlib.sha256()
        for start in range(0, data.size, _PIECE):
            piece = data[start : start + _PIECE]
            digest.update(piece.data)
            yield piece
            self._written += piece.size
            self._progress(self._written / self._total)
        self._digests[name] = digest.digest()
        self._checkpoint.release()
        self._file.release()

    def _dense(self) -> Iterator[TensorData]:
        for name in self._checkpoint.spec.dense_shapes():
            info = self._file.tensors[name]
            if name != "output.weight" or self._new_table is None:
                yield self._tensor(name, info.shape, info.type, partial(self._file.data, name))
        if self._new_table is not None:
            spec, kind = self._checkpoint.spec, self._new_table.upper()
            shape = (spec.vocab_size, spec.hidden_size)
            yield self._tensor("output.weight", shape, kind, self._quantised_table)

    def _quantised_table(self) -> Array:
        tensor = self._checkpoint.dense(self._table)
        kind, (rows, columns) = self._new_table or "q8_0", tensor.data.shape
        out = np.empty((rows, tensor_bytes(kind.upper(), (1, columns))), np.uint8)

        def quantize(start: int) -> None:
            part = slice(start, start + _ROWS_AT_ONCE)
            some = DenseTensor(tensor.name, tensor.data[part], tensor.kind)
            out[part] = _QUANTIZE[kind](some.float32())

        self._workers.run_all(partial(quantize, i) for i in range(0, rows, _ROWS_AT_ONCE))
        return out

    def _each_matrix(self) -> Iterator[tuple[int, str, Matrix]]:
        for n in range(self._checkpoint.spec.n_layers):
            for name, matrix in matrices(self._checkpoint.spec).items():
                yield n, name, matrix

    def _linears(self, n: int, matrix: Matrix) -> list[TernaryTensor]:
        return [self._checkpoint.ternary(f"blk.{n}.{p.linear}.weight") for p in matrix.places]

    def _scales(self) -> Iterator[TensorData]:
        def make(n: int, matrix: Matrix) -> Array:
            return np.array([t.scale for t in self._linears(n, matrix)], np.float32)

        def make_rows(n: int, matrix: Matrix) -> Array:
            return row_scales(matrix, self._linears(n, matrix))

        for n, name, matrix in self._each_matrix():
            by_row = any(map(_has_row_scales, self._linears(n, matrix)))
            shape = (matrix.rows if by_row else len(matrix.places),)
            scales = partial(make_rows if by_row else make, n, matrix)
            yield self._tensor(scale_name(n, name), shape, "F32", scales)

    def _matrices(self) -> Iterator[TensorData]:
        layout = self._program.plan.tiled

        def make(n: int, matrix: Matrix) -> Array:
            size = layout.packed_bytes(matrix.rows, matrix.columns)
            packer = Packer(self._program, layout, size, self._workers)
            return packer.matrix(matrix.rows, parts_of(matrix, self._linears(n, matrix)))

        for n, name, matrix in self._each_matrix():
            shape = (matrix.rows // GROUP_ROWS, layout.group_bytes(matrix.columns))
            packed = partial(make, n, matrix)
            yield self._tensor(matrix_name(n, name, self._layout), shape, "I8", packed)

    @cached_property
    def _int8_rows(self) -> dict[str, Array]:
        table = self._checkpoint.dense(self._table).data
        source = self._checkpoint
        head = HeadWeights(self._program, table, source.packed, source.release, self._workers)
        return head.packed

    def _int8_head(self) -> Iterator[TensorData]:
        plan = self._program.plan
        tiles, size = n_tiles(plan), int8.tile_bytes(plan.spec.hidden_size)

        def make(field: str) -> Array:
            return self._int8_rows[field]

        for field, name in INT8_HEAD.items():
            shape, kind = ((tiles, size), "I8") if field == "packed" else ((tiles * TILE,), "F32")
            yield self._tensor(name, shape, kind, partial(make, field))


def _has_row_scales(tensor: TernaryTensor) -> bool:
    # Floats have one scale, and finding it takes reading all of them.
    return not isinstance(tensor, FloatTensor) and isinstance(tensor.scale, np.ndarray)
