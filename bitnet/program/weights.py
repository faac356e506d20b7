"""A model's tensors in the form the program reads: packed ternary, padded norms, mapped tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidArgumentError
from bitnet.kernels.layouts import TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.numerics import padded
from bitnet.kernels.rope import rope_tables
from bitnet.models.matrices import Matrix, matrices
from bitnet.models.native import matrix_name
from bitnet.models.tensors import DenseTensor, TernaryTensor
from bitnet.program.head_weights import HeadWeights
from bitnet.program.memory import address, allocate, ffi
from bitnet.program.program import Program
from bitnet.program.ternary_weights import (
    Packer,
    parts_of,
    row_scales,
    strip_addresses,
    unit_records,
)
from bitnet.program.workers import Workers

Progress = Callable[[float], None]


class Tensors(Protocol):
    """Where the tensors come from; a `bitnet.models.Checkpoint` is one."""

    def ternary(self, name: str) -> TernaryTensor: ...

    def dense(self, name: str) -> DenseTensor: ...

    def packed(self, name: str) -> npt.NDArray[Any] | None:
        """What a native file holds as the program reads it, see `bitnet.models.native`."""

    def release(self) -> None: ...


class Weights:
    """Owns the memory that `struct`, a bn_model, points at.

    n_positions: how many positions the rotary tables cover.
    workers: who packs.
    progress: called with the share done, 0 to 1.
    """

    def __init__(
        self,
        program: Program,
        tensors: Tensors,
        n_positions: int,
        workers: Workers,
        progress: Progress | None = None,
    ) -> None:
        self._program = program
        self._tensors = tensors
        self._workers = workers
        self._keep: list[npt.NDArray[Any]] = []
        plan, spec = program.plan, program.plan.spec
        self.ternary_bytes = plan.ternary_bytes
        layout = plan.weights_layout
        if workers.numa and not isinstance(layout, TiledLayout):
            raise InvalidArgumentError(
                f"numa cannot move weights in layout {layout.name!r}, which are used in the file"
            )
        self._packer = (
            Packer(program, layout, self.ternary_bytes, workers)
            if isinstance(layout, TiledLayout)
            and tensors.packed(matrix_name(0, "qkv", layout.name)) is None
            else None
        )
        self._layers = ffi.new("bn_layer[]", spec.n_layers)
        for n in range(spec.n_layers):
            if progress:
                progress(n / spec.n_layers)
            self._load_layer(n)
            if self._packer is not None:
                tensors.release()
        cos, sin = rope_tables(n_positions, spec.head_dim, spec.rope_theta)
        embedding = self._table("token_embd.weight")
        table = embedding if spec.tied_head else self._table("output.weight")
        self._head = HeadWeights(program, table, tensors.packed, tensors.release, workers)
        self.struct = ffi.new(
            "bn_model *",
            {
                "layers": self._layers,
                "embedding": address(embedding),
                "output_norm": self._norm("output_norm.weight"),
                "head": self._head.struct,
                "rope_cos": self._hold(cos),
                "rope_sin": self._hold(sin),
                "n_positions": n_positions,
            },
        )
        if progress:
            progress(1.0)

    def _load_layer(self, n: int) -> None:
        layer, plan, prefix = self._layers[n], self._program.plan, f"blk.{n}."
        for name in plan.spec.dense_shapes():
            if name.startswith(prefix):
                field = name.removeprefix(prefix).removesuffix(".weight")
                setattr(layer, field, self._norm(name))
        for name, matrix in matrices(plan.spec).items():
            tensors = [self._tensors.ternary(f"{prefix}{p.linear}.weight") for p in matrix.places]
            setattr(layer, f"{name}_scale", self._hold(row_scales(matrix, tensors)))
            packed = self._tensors.packed(matrix_name(n, name, plan.layout))
            setattr(
                layer,
                name,
                self._matrix(matrix, tensors)
                if packed is None
                else self._hold(self._workers.near(packed)),
            )

    def _matrix(self, matrix: Matrix, tensors: list[TernaryTensor]) -> Any:
        parts = parts_of(matrix, tensors)
        if self._packer is not None:
            return address(self._packer.matrix(matrix.rows, parts))
        layout = self._program.plan.weights_layout
        where, data = (
            unit_records(matrix.rows, parts, layout)
            if isinstance(layout, LookUp)
            else strip_addresses(matrix.rows, parts)
        )
        self._keep += data
        return self._hold(where)

    def _norm(self, name: str) -> Any:
        weight = self._tensors.dense(name).float32()
        out = allocate(padded(weight.size), np.float32, zero=True)
        out[: weight.size] = weight
        return self._hold(out)

    def _table(self, name: str) -> npt.NDArray[Any]:
        data = self._tensors.dense(name).data
        aligned = data.ctypes.data % data.itemsize == 0 and data.flags.c_contiguous
        table = data if aligned else np.ascontiguousarray(data).copy()
        self._keep.append(table)
        return table

    def _hold(self, array: npt.NDArray[Any]) -> Any:
        self._keep.append(array)
        return address(array)
