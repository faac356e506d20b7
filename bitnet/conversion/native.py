"""Rewriting a model as a native file, which is used where it is mapped.

The layout of such a file is in `bitnet.models.native`. The matrices are packed one after the other
by the program that will run the file, which is thereby compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import find_target
from bitnet.conversion.origin import EMBEDDING, HEAD, Origin, has_row_scales
from bitnet.conversion.output import Output
from bitnet.formats.gguf_header import ALIGNMENT_KEY
from bitnet.formats.gguf_writer import TensorData, WritableValue
from bitnet.kernels import int8
from bitnet.models.matrices import Matrix, matrices
from bitnet.models.native import (
    INT8_HEAD,
    LAYOUT_KEY,
    VERSION,
    VERSION_KEY,
    matrix_name,
    scale_name,
)
from bitnet.models.tensors import TernaryTensor
from bitnet.program import Plan, Program
from bitnet.program.head import n_tiles
from bitnet.program.head_weights import HeadWeights
from bitnet.program.plan import choose_head
from bitnet.program.ternary_weights import Packer, cuts_of, parts_of, row_scales
from bitnet.quant.tiled import GROUP_ROWS, TILE, TILE_BYTES, TiledName

Array = npt.NDArray[Any]


def write_native(origin: Origin, output: Output, layout: TiledName) -> None:
    """Write the model as a native file whose weights are multiplied in `layout`."""
    metadata = origin.metadata()
    native = _Native(origin, output, layout)
    check = partial(origin.check, weight_types=frozenset([layout]))
    output.write(metadata | native.metadata(), native.tensors(), check, origin.workers)


class _Native:
    """The metadata and tensors of the new file; tensors are made as they are written."""

    def __init__(self, origin: Origin, output: Output, layout: TiledName) -> None:
        self._origin = origin
        self._output = output
        self._layout = layout
        self._table = EMBEDDING if origin.spec.tied_head else HEAD
        table = origin.kind(self._table)
        kind = choose_head(None, table, origin.spec)
        cuts = cuts_of(origin.spec, origin.ternary)
        plan = Plan(origin.spec, origin.kind(EMBEDDING), table, "f16", layout, kind, cuts=cuts)
        self._program = Program(plan, find_target())

    def metadata(self) -> dict[str, WritableValue]:
        """What makes the file a native one."""
        return {ALIGNMENT_KEY: TILE_BYTES, LAYOUT_KEY: self._layout, VERSION_KEY: VERSION}

    def tensors(self) -> list[TensorData]:
        dense = [
            self._origin.dense(self._output, name) for name in self._origin.spec.dense_shapes()
        ]
        tensors = [*dense, *self._scales(), *self._matrices()]
        if self._program.plan.head_kind == "certified":
            tensors += self._int8_head()
        return tensors

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: str, make: Callable[[], Iterable[Array]]
    ) -> TensorData:
        return self._output.tensor(name, shape, kind, make, self._origin.release)

    def _each_matrix(self) -> Iterator[tuple[int, str, Matrix]]:
        for n in range(self._origin.spec.n_layers):
            for name, matrix in matrices(self._origin.spec).items():
                yield n, name, matrix

    def _linears(self, n: int, matrix: Matrix) -> list[TernaryTensor]:
        return [self._origin.ternary(f"blk.{n}.{p.linear}.weight") for p in matrix.places]

    def _scales(self) -> Iterator[TensorData]:
        def make(n: int, matrix: Matrix) -> Iterable[Array]:
            yield np.array([t.scale for t in self._linears(n, matrix)], np.float32)

        def make_rows(n: int, matrix: Matrix) -> Iterable[Array]:
            yield row_scales(matrix, self._linears(n, matrix))

        for n, name, matrix in self._each_matrix():
            by_row = any(map(has_row_scales, self._linears(n, matrix)))
            shape = (matrix.rows if by_row else len(matrix.places),)
            scales = partial(make_rows if by_row else make, n, matrix)
            yield self._tensor(scale_name(n, name), shape, "F32", scales)

    def _matrices(self) -> Iterator[TensorData]:
        layout = self._program.plan.tiled

        def make(n: int, matrix: Matrix) -> Iterable[Array]:
            size = layout.packed_bytes(matrix.rows, matrix.columns)
            packer = Packer(self._program, layout, size, self._origin.workers)
            yield packer.matrix(matrix.rows, parts_of(matrix, self._linears(n, matrix)))

        for n, name, matrix in self._each_matrix():
            shape = (matrix.rows // GROUP_ROWS, layout.group_bytes(matrix.columns))
            packed = partial(make, n, matrix)
            yield self._tensor(matrix_name(n, name, self._layout), shape, "I8", packed)

    @cached_property
    def _int8_rows(self) -> dict[str, Array]:
        origin = self._origin
        table = origin.table(self._table).data
        stored = origin.checkpoint.packed if origin.same_head() else _nothing
        return HeadWeights(self._program, table, stored, origin.release, origin.workers).packed

    def _int8_head(self) -> Iterator[TensorData]:
        plan = self._program.plan
        tiles, size = n_tiles(plan), int8.tile_bytes(plan.spec.hidden_size)

        def make(field: str) -> Iterable[Array]:
            yield self._int8_rows[field]

        for field, name in INT8_HEAD.items():
            shape, kind = ((tiles, size), "I8") if field == "packed" else ((tiles * TILE,), "F32")
            yield self._tensor(name, shape, kind, partial(make, field))


def _nothing(_: str) -> None:
    """What a file without an int8 head holds of it."""
