"""The compiled function that packs the table of a quantised output head."""

from __future__ import annotations

from bitnet.codegen import Buffer, Dim, Function, Module, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels import int8, q6_k, q6_k_quantize, q8_0
from bitnet.kernels.head import STORED, widen
from bitnet.kernels.numerics import LANES
from bitnet.models.tensors import is_float
from bitnet.program.abi import HEAD
from bitnet.program.head import LAYOUTS, n_tiles
from bitnet.program.plan import Plan
from bitnet.quant.tiled import TILE


def add_pack_head(module: Module, plan: Plan) -> None:
    """Add pack_head(head, first, stop), which fills the tiles first..stop-1 of `head.packed`."""
    vocab, tiles = plan.spec.vocab_size, n_tiles(plan)
    size = LAYOUTS[plan.head_kind].tile_bytes(plan.spec.hidden_size)

    def body(k: Function) -> None:
        head = HEAD.at(k, k.args[0])
        packed = head.buffer("packed", t.i8, tiles * size)
        with k.loop(k.args[1], k.args[2]) as number:
            tile = packed.part(number * size, size)
            first = number * TILE
            with k.loop(0, k.min(vocab - first, TILE)) as row:
                _pack_row(k, plan, head, first, row, tile)

    module.function("pack_head", [t.ptr, t.i64, t.i64], body, exported=True)


def _pack_row(
    k: Function, plan: Plan, head: StructRef, first: Value, row: Value, tile: Buffer
) -> None:
    """Pack row first + row of the table at its place `row` in a tile."""
    n, vocab = plan.spec.hidden_size, plan.spec.vocab_size
    if not is_float(plan.head):
        blocks = q8_0 if plan.head == "q8_0" else q6_k
        size = blocks.row_bytes(n)
        stored = head.buffer("table", t.i8, vocab * size).part((first + row) * size, size)
        blocks.pack_row(k, stored, row, tile, n)
        return
    kind = plan.stored_head
    stored = head.buffer("table", STORED[kind], vocab * n).part((first + row) * n, n)
    if plan.head_kind in ("int8", "certified"):
        bounds = int8.row_bounds(head, n_tiles(plan) * TILE).rows(first, TILE)
        int8.pack_row(k, stored, kind, row, tile, bounds)
        return

    def load(i: Dim) -> Value:
        return widen(k, stored.load(i, LANES), kind)

    quantize = q8_0.quantize_row if plan.head_kind == "q8_0" else q6_k_quantize.quantize_row
    quantize(k, load, row, tile, n)
