"""The ternary matrices of a layer as they are multiplied: linear layers put into one.

`qkv` has q, k and v one below the other. In `gate_up` tiles of 16 rows of gate and up take turns,
so that both factors of a product come out together. Rows are padded to a multiple of 64. Where
each linear layer has an input of its own (`ModelSpec.input_norms`), each begins at such a multiple.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet.models.spec import ModelSpec
from bitnet.quant.tiled import PAD, TILE


@dataclass(frozen=True)
class Place:
    """Where the rows of a linear layer are in a matrix."""

    linear: str
    """Such as ``attn_q``."""
    first: int
    """Row of the matrix."""
    step: int = 1
    """Its tiles of 16 rows are `step` tiles apart."""

    def rows(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Where the linear's rows start to stop are."""
        row = np.arange(start, stop)
        return self.first + row // TILE * (TILE * self.step) + row % TILE


@dataclass(frozen=True)
class Matrix:
    """n_inputs: 1, or as many as there are places, each with an input of its own."""

    rows: int
    columns: int
    places: tuple[Place, ...]
    n_inputs: int = 1

    @property
    def step(self) -> int:
        """How far tiles of a place are apart."""
        return self.places[0].step


def matrices(spec: ModelSpec) -> dict[str, Matrix]:
    """The matrices of each layer, in the order in which they are multiplied."""
    q, kv, hidden, ffn = spec.q_size, spec.kv_size, spec.hidden_size, spec.ffn_size
    attn_output = Matrix(_padded(hidden), q, (Place("attn_output", 0),))
    down = Matrix(_padded(hidden), ffn, (Place("ffn_down", 0),))
    if spec.input_norms:
        return {
            "qkv": _stacked(hidden, attn_q=q, attn_k=kv, attn_v=kv),
            "attn_output": attn_output,
            "gate_up": _stacked(hidden, ffn_gate=ffn, ffn_up=ffn),
            "down": down,
        }
    qkv = (Place("attn_q", 0), Place("attn_k", q), Place("attn_v", q + kv))
    gate_up = (Place("ffn_gate", 0, step=2), Place("ffn_up", TILE, step=2))
    return {
        "qkv": Matrix(_padded(q + 2 * kv), hidden, qkv),
        "attn_output": attn_output,
        "gate_up": Matrix(2 * _padded(ffn), hidden, gate_up),
        "down": down,
    }


def _stacked(columns: int, **rows: int) -> Matrix:
    """Linear layers one below the other, each with an input of its own."""
    places, first = [], 0
    for linear, count in rows.items():
        places.append(Place(linear, first))
        first += _padded(count)
    return Matrix(first, columns, tuple(places), len(places))


def _padded(rows: int) -> int:
    return -(-rows // PAD) * PAD
