"""How much memory a model takes, known before any of it is allocated."""

from __future__ import annotations

from bitnet.kernels import q6_k, q8_0
from bitnet.kernels.layouts import InPlace
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.numerics import padded
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, UNIT_ROWS
from bitnet.models.spec import ModelSpec
from bitnet.models.tensors import FLOAT_DTYPES, TableKind, is_float
from bitnet.program.head import LAYOUTS, n_tiles
from bitnet.program.memory import total_bytes
from bitnet.program.plan import Plan
from bitnet.program.step import scratch_sizes
from bitnet.quant.tiled import TILE

_FLOAT = 4
_ADDRESS = 8


def model_bytes(plan: Plan, n_positions: int, max_tokens: int) -> int:
    """Bytes of `Weights`, also where they are mapped from files, and of the `Stepper`'s buffers.

    n_positions: how many positions the rotary tables cover. max_tokens: of a step. The pages of
    the KV cache come on top.
    """
    return weight_bytes(plan, n_positions) + total_bytes(scratch_sizes(plan, max_tokens))


def weight_bytes(plan: Plan, n_positions: int) -> int:
    spec = plan.spec
    norms = sum(padded(shape[0]) for shape in spec.dense_shapes().values() if len(shape) == 1)
    rows = spec.n_layers * sum(rows for rows, _ in plan.matrices().values())
    places = 0  # addresses of weights that are used in the file
    if isinstance(plan.weights_layout, InPlace):
        places = rows // TILE
    elif isinstance(plan.weights_layout, LookUp):
        places = rows // UNIT_ROWS * UNIT_FIELDS
    tables = table_bytes(plan.embedding, spec)
    if not spec.tied_head:
        tables += table_bytes(plan.head, spec)
    numbers = norms + rows + n_positions * spec.head_dim  # row scales; cosines and sines
    copies = tables + packed_head_bytes(plan) + places * _ADDRESS
    return plan.ternary_bytes + copies + numbers * _FLOAT


def table_bytes(kind: TableKind, spec: ModelSpec) -> int:
    """The embedding, or an output head as it is stored."""
    if is_float(kind):
        return spec.vocab_size * spec.hidden_size * FLOAT_DTYPES[kind].itemsize
    blocks = q8_0 if kind == "q8_0" else q6_k
    return spec.vocab_size * int(blocks.row_bytes(spec.hidden_size))


def packed_head_bytes(plan: Plan) -> int:
    """What an output head that is not used as it is stored takes besides."""
    if plan.head_kind == "stored":
        return 0
    tiles = n_tiles(plan)
    packed = tiles * int(LAYOUTS[plan.head_kind].tile_bytes(plan.spec.hidden_size))
    bounds = 3 * tiles * TILE * _FLOAT if plan.head_kind in ("int8", "certified") else 0
    return packed + bounds
