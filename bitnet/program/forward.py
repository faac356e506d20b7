"""The forward pass, written phase by phase from the kernels.

For each token, x being its row of the residual stream:

    x = embedding[token]
    per layer:  a = norm(x);  q, k, v = linear(a);  rotate q, k;  keep k, v
                x += linear(sub_norm(attention(q)))
                f = norm(x);  x += linear(sub_norm(activation(gate(f)) * up(f)))
    logits = head(norm(x))

"linear" is a ternary linear: its input is quantised to int8 per token. Embedding models have more
norms: one before each linear, on queries and keys, before x +=; see `ModelSpec`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from bitnet.codegen import Buffer, Dim, Function, Module, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels import q6_k, q8_0, ternary
from bitnet.kernels.gate import gated
from bitnet.kernels.head import STORED, embed
from bitnet.kernels.layouts import InPlace, TiledLayout
from bitnet.kernels.lookup import LookUp, make_tables
from bitnet.kernels.norm import quantize, rms_norm
from bitnet.kernels.numerics import LANES
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, UNIT_ROWS, unit_block
from bitnet.kernels.ternary_rows import rows_block
from bitnet.models.matrices import Matrix, matrices
from bitnet.models.tensors import is_float
from bitnet.program.abi import BATCH, LAYER, MODEL
from bitnet.program.attention import Attention
from bitnet.program.head import Head, n_head_phases
from bitnet.program.plan import Plan
from bitnet.program.team import Team
from bitnet.quant.tiled import TILE

# Takes (token, first row, four f32x16 of results) and puts them where they belong.
Store = Callable[[Value, Value, list[Value]], None]


def n_phases(plan: Plan) -> int:
    """How many phases a step has: the embedding, those of each layer and of the head."""
    per_layer = 12 if plan.spec.post_norms else 10
    return 1 + per_layer * plan.spec.n_layers + n_head_phases(plan)


def add_forward(module: Module, plan: Plan) -> None:
    """Add forward(model, batch, thread) to the module."""

    def body(k: Function) -> None:
        _Forward(k, plan).write()

    module.function("forward", [t.ptr, t.ptr, t.i64], body, exported=True)


class _Forward:
    def __init__(self, k: Function, plan: Plan) -> None:
        self.k = k
        self.plan = plan
        self.spec = plan.spec
        self.model = MODEL.at(k, k.args[0])
        self.batch = BATCH.at(k, k.args[1])
        self.team = Team(k, self.batch, k.args[2], n_phases(plan))
        self.n_tokens = self.batch["n_tokens"]
        self.attention = Attention(k, plan, self.model, self.batch, self.team)

    # -- memory -----------------------------------------------------------------------------

    def rows(self, field: str, width: int, element: t.Type = t.f32) -> Buffer:
        """A scratch buffer of the batch: `width` elements per token, for all tokens."""
        return self.batch.buffer(field, element, self.batch["max_tokens"] * width)

    def row(self, field: str, width: int, token: Value) -> Buffer:
        return self.rows(field, width).part(token * width, width)

    def quantised(
        self, field: str, element: t.Type, width: int, matrix: Matrix, number: Dim
    ) -> Buffer:
        """All tokens' rows, `width` elements each, of one of the inputs of a matrix."""
        if matrix.n_inputs == 1:
            return self.rows(field, width, element)
        size = self.batch["max_tokens"] * width
        return self.batch.buffer(field, element, size * matrix.n_inputs).part(size * number, size)

    # -- phases -----------------------------------------------------------------------------

    def write(self) -> None:
        k = self.k
        self.embedding()
        with k.loop(0, self.spec.n_layers) as number:
            self.layer(number, LAYER.at(k, self.model["layers"], number))
        Head(k, self.plan, self.model, self.batch, self.team).write()

    def embedding(self) -> None:
        k, spec, kind = self.k, self.spec, self.plan.embedding
        n, padding = spec.hidden_size, self.plan.hidden - spec.hidden_size
        with self.team.phase("embed", self.n_tokens) as i:
            token = self.batch.buffer("tokens", t.i32, self.n_tokens)[i].zext(t.i64)
            x = self.row("x", self.plan.hidden, i)
            if is_float(kind):
                table = self.model.buffer("embedding", STORED[kind], spec.vocab_size * n)
                embed(k, table, token, n, x, kind)
            else:
                blocks = q8_0 if kind == "q8_0" else q6_k
                size = blocks.row_bytes(n)
                table = self.model.buffer("embedding", t.i8, spec.vocab_size * size)
                blocks.embed(k, table.part(token * size, size), x.part(0, n))
                if padding:
                    x.store(n, k.const(t.vec(t.f32, padding), 0.0))
            if spec.scaled_embedding:
                with k.loop(0, x.known_count, LANES) as j:
                    x.store(j, x.load(j, LANES) * math.sqrt(n))

    def layer(self, number: Value, weights: StructRef) -> None:
        spec = self.spec
        add = self.store_row if spec.post_norms else self.add_to_x
        store_both = self.store_gate_up if spec.input_norms else self.store_gated
        self.quantize_inputs(weights, "qkv", "attn_norm", self.residual)
        self.linear(weights, "qkv", self.store_qkv)
        self.attention.rotate_and_keep(number, weights)
        self.attention.attend(number)
        self.quantize_inputs(weights, "attn_output", "attn_sub_norm", self.attended)
        self.linear(weights, "attn_output", add)
        self.post_norm(weights, "post_attention_norm")
        self.quantize_inputs(weights, "gate_up", "ffn_norm", self.residual)
        self.linear(weights, "gate_up", store_both)
        self.quantize_inputs(weights, "down", "ffn_sub_norm", self.gated)
        self.linear(weights, "down", add)
        self.post_norm(weights, "post_ffw_norm")

    def quantize_inputs(
        self, weights: StructRef, name: str, norm: str, source: Callable[[Value], Buffer]
    ) -> None:
        """The inputs of ternary linear `name`: norm source(token) and quantise it.

        Where each part of the linear has a norm of its own, that follows on the common one, if the
        model has that.
        """
        matrix = matrices(self.spec)[name]
        with self.team.phase(norm, self.n_tokens) as token:
            x = source(token)
            if self.spec.sub_norms or not norm.endswith("sub_norm"):
                x = self.normed(weights, norm, x, matrix.columns, "normed")
            if not self.spec.input_norms:
                self.quantize(x, matrix, token, 0)
                return
            for number, place in enumerate(matrix.places):
                own = self.normed(weights, f"{place.linear}_norm_in", x, matrix.columns, "own")
                self.quantize(own, matrix, token, number)

    def normed(self, weights: StructRef, norm: str, x: Buffer, n: int, name: str) -> Buffer:
        """x, `n` elements and padding, normed into a local buffer."""
        out = Buffer.local(self.k, t.f32, x.known_count, name)
        weight = weights.buffer(norm, t.f32, x.known_count)
        rms_norm(self.k, x, weight, out, n, self.spec.rms_norm_eps)
        return out

    def quantize(self, x: Buffer, matrix: Matrix, token: Value, number: int) -> None:
        """A token's row of one of the inputs of a matrix."""
        k, layout = self.k, self.plan.weights_layout
        width = layout.q_width(matrix.columns)
        q = self.quantised("q", t.i8, width, matrix, number).part(token * width, width)
        scale = self.quantised("q_scale", t.f32, 1, matrix, number).part(token, 1)
        total = self.quantised("q_total", t.i32, 1, matrix, number).part(token, 1)
        if isinstance(layout, LookUp):
            quantize(k, x, layout, q.part(0, x.known_count), scale, total)
            make_tables(k, layout, matrix.columns, q)
        else:
            quantize(k, x, layout, q, scale, total)

    def linear(self, weights: StructRef, name: str, store: Store) -> None:
        """Ternary linear `name` of all tokens; `store(token, first row, y)` takes the results."""
        k, layout = self.k, self.plan.weights_layout
        matrix = matrices(self.spec)[name]
        rows, columns = matrix.rows, matrix.columns
        scales = weights.buffer(f"{name}_scale", t.f32, rows)
        with self.team.phase(name, rows // BLOCK_ROWS) as block:
            first = block * BLOCK_ROWS
            number = self.input_of(matrix, block)
            totals = self.quantised("q_total", t.i32, 1, matrix, number)
            q_scales = self.quantised("q_scale", t.f32, 1, matrix, number)

            def use(token: Value, sums: list[Value]) -> None:
                total, q_scale = totals[token], q_scales[token]
                if isinstance(layout, LookUp):  # these sums are of w * q already
                    total = k.const(t.i32, 0)
                y = []
                for tile, dot in enumerate(sums):
                    w_scale = scales.load(first + tile * TILE, TILE)
                    y.append(ternary.scale_sums(dot, total, w_scale, q_scale))
                store(token, first, y)

            q = self.quantised("q", t.i8, layout.q_width(columns), matrix, number)
            if isinstance(layout, InPlace):
                strips = weights.buffer(name, t.i64, rows // TILE)
                part = strips.part(first // TILE, BLOCK_ROWS // TILE)
                rows_block(k, layout, part, q, columns, self.n_tokens, use)
            elif isinstance(layout, LookUp):
                units = weights.buffer(name, t.i64, rows // UNIT_ROWS * UNIT_FIELDS)
                part = units.part(block * (2 * UNIT_FIELDS), 2 * UNIT_FIELDS)
                second = matrix.step * TILE
                unit_block(k, layout, part, q, columns, second, self.n_tokens, use)
            elif isinstance(layout, TiledLayout):
                size = layout.packed_bytes(BLOCK_ROWS, columns)
                packed = weights.buffer(name, t.i8, rows // BLOCK_ROWS * size)
                part = packed.part(block * size, size)
                blocking = self.plan.blocking
                ternary.tiled_block(k, layout, part, q, columns, self.n_tokens, use, blocking)

    def input_of(self, matrix: Matrix, block: Value) -> Dim:
        """Which of the inputs a block of rows is multiplied with."""
        number: Dim = 0
        for place in matrix.places[1:] if matrix.n_inputs > 1 else ():
            number = (block >= place.first // BLOCK_ROWS).zext(t.i64) + number
        return number

    def post_norm(self, weights: StructRef, norm: str) -> None:
        """Norm what a linear has given, and add it to x."""
        if not self.spec.post_norms:
            return
        with self.team.phase(norm, self.n_tokens) as token:
            y, x = self.row("row", self.plan.hidden, token), self.residual(token)
            y = self.normed(weights, norm, y, self.spec.hidden_size, "normed")
            with self.k.loop(0, x.known_count, LANES) as i:
                x.store(i, x.load(i, LANES) + y.load(i, LANES))

    # -- inputs and outputs of linears -------------------------------------------------------

    def residual(self, token: Value) -> Buffer:
        return self.row("x", self.plan.hidden, token)

    def attended(self, token: Value) -> Buffer:
        return self.row("row", self.plan.attention, token)

    def gated(self, token: Value) -> Buffer:
        """The product of gate and up, which is made here if they came one after the other."""
        k, width = self.k, self.plan.ffn
        if not self.spec.input_norms:
            return self.row("row", width, token)
        both = self.row("row", 2 * width, token)
        out = Buffer.local(k, t.f32, width, "gated")
        with k.loop(0, width, LANES) as i:
            gate, up = both.load(i, LANES), both.load(i + width, LANES)
            out.store(i, gated(k, gate, up, self.spec.activation))
        return out

    def store_qkv(self, token: Value, first: Value, y: list[Value]) -> None:
        self.store_in(self.row("qkv", self.plan.qkv, token), first, y)

    def store_gate_up(self, token: Value, first: Value, y: list[Value]) -> None:
        self.store_in(self.row("row", 2 * self.plan.ffn, token), first, y)

    def store_row(self, token: Value, first: Value, y: list[Value]) -> None:
        self.store_in(self.row("row", self.plan.hidden, token), first, y)

    def store_in(self, row: Buffer, first: Value, y: list[Value]) -> None:
        for i, v in enumerate(y):
            row.store(first + i * TILE, v)

    def add_to_x(self, token: Value, first: Value, y: list[Value]) -> None:
        x = self.residual(token)
        for i, v in enumerate(y):
            at = first + i * TILE
            x.store(at, x.load(at, TILE) + v)

    def store_gated(self, token: Value, first: Value, y: list[Value]) -> None:
        out = self.row("row", self.plan.ffn, token)
        for i in range(0, len(y), 2):
            v = gated(self.k, y[i], y[i + 1], self.spec.activation)
            out.store(first // 2 + i // 2 * TILE, v)
