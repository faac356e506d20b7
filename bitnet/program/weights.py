"""A model's tensors in the form the program reads: packed ternary, padded norms, mapped tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bitnet.kernels import ternary
from bitnet.kernels.numerics import padded
from bitnet.kernels.rope import rope_tables
from bitnet.models.tensors import DenseTensor, TernaryTensor
from bitnet.program.head_weights import HeadWeights
from bitnet.program.memory import address, allocate, ffi
from bitnet.program.program import Program

_ROWS_AT_ONCE = 256  # unpacked at a time, so that they stay in the CPU's cache

Progress = Callable[[float], None]
Rows = npt.NDArray[np.int64]


LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


class Tensors(Protocol):
    """Where the tensors come from; a `bitnet.models.Checkpoint` is one."""

    def ternary(self, name: str) -> TernaryTensor: ...

    def dense(self, name: str) -> DenseTensor: ...


class Weights:
    """Owns the memory that `struct`, a bn_model, points at.

    n_positions: how many positions the rotary tables cover.
    progress: called with the share done, 0 to 1.
    threads: how many pack the output head.
    """

    def __init__(
        self,
        program: Program,
        tensors: Tensors,
        n_positions: int,
        progress: Progress | None = None,
        threads: int = 1,
    ) -> None:
        self._program = program
        self._tensors = tensors
        self._keep: list[npt.NDArray[Any]] = []
        self.packed_bytes = 0
        spec = program.plan.spec
        self._layers = ffi.new("bn_layer[]", spec.n_layers)
        for n in range(spec.n_layers):
            if progress:
                progress(n / spec.n_layers)
            self._load_layer(n)
        cos, sin = rope_tables(n_positions, spec.head_dim, spec.rope_theta)
        embedding = self._table("token_embd.weight")
        table = embedding if spec.tied_head else self._table("output.weight")
        self._head = HeadWeights(program, table, threads)
        self.head_bytes = self._head.bytes_read
        """What the output head reads for a token; of a certified one, the int8 rows."""
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
        layer, spec, prefix = self._layers[n], self._program.plan.spec, f"blk.{n}."
        norms = ["attn_norm", "ffn_norm"] + ["attn_sub_norm", "ffn_sub_norm"] * spec.sub_norms
        for name in norms:
            setattr(layer, name, self._norm(f"{prefix}{name}.weight"))
        tensor = {name: self._tensors.ternary(f"{prefix}{name}.weight") for name in LINEARS}
        q, kv, plan = spec.q_size, spec.kv_size, self._program.plan
        layer.qkv, layer.qkv_scale = self._pack(
            plan.qkv,
            (tensor["attn_q"], np.arange(q)),
            (tensor["attn_k"], np.arange(q, q + kv)),
            (tensor["attn_v"], np.arange(q + kv, q + 2 * kv)),
        )
        layer.gate_up, layer.gate_up_scale = self._pack(
            2 * plan.ffn,
            (tensor["ffn_gate"], _alternate_tiles(spec.ffn_size, 0)),
            (tensor["ffn_up"], _alternate_tiles(spec.ffn_size, 1)),
        )
        rows = np.arange(spec.hidden_size)
        output, down = (tensor["attn_output"], rows), (tensor["ffn_down"], rows)
        layer.attn_output, layer.attn_output_scale = self._pack(plan.hidden, output)
        layer.down, layer.down_scale = self._pack(plan.hidden, down)

    def _pack(self, rows: int, *parts: tuple[TernaryTensor, Rows]) -> tuple[Any, Any]:
        """One packed matrix of `rows` rows; each tensor's rows go to the given positions."""
        columns = parts[0][0].shape[1]
        codes = np.ones((rows, padded(columns)), np.uint8)
        scales = allocate(rows, np.float32, zero=True)
        for tensor, positions in parts:
            for start in range(0, len(positions), _ROWS_AT_ONCE):
                part = positions[start : start + _ROWS_AT_ONCE]
                codes[part, :columns] = tensor.codes(start, start + len(part))
            scales[positions] = tensor.scale
        packed = allocate(ternary.packed_bytes(*codes.shape), np.uint8)
        self._program.pack(codes, packed)
        self.packed_bytes += packed.nbytes
        return self._hold(packed), self._hold(scales)

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


def _alternate_tiles(n: int, which: int) -> Rows:
    """Where `n` rows go when tiles of 16 of two matrices take turns; `which` is 0 or 1."""
    row = np.arange(n)
    return row // ternary.TILE * 2 * ternary.TILE + which * ternary.TILE + row % ternary.TILE
