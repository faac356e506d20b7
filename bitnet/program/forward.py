"""The forward pass, written phase by phase from the kernels.

For each token, x being its row of the residual stream:

    x = embedding[token]
    per layer:  a = norm(x);  q, k, v = linear(a);  rotate q, k;  keep k, v
                x += linear(sub_norm(attention(q)))
                f = norm(x);  x += linear(sub_norm(activation(gate(f)) * up(f)))
    logits = head(norm(x))

"linear" is a ternary linear: its input is quantised to int8 per token.
"""

from __future__ import annotations

from collections.abc import Callable

from bitnet.codegen import Buffer, Function, Module, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels import q6_k, q8_0, ternary
from bitnet.kernels.gate import gated
from bitnet.kernels.head import STORED, embed
from bitnet.kernels.layouts import InPlace, TiledLayout
from bitnet.kernels.lookup import LookUp, make_tables
from bitnet.kernels.norm import quantize, rms_norm
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, UNIT_ROWS, unit_block
from bitnet.kernels.ternary_rows import rows_block
from bitnet.models.matrices import matrices
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
    """How many phases a step has: the embedding, ten a layer, those of the head."""
    return 1 + 10 * plan.spec.n_layers + n_head_phases(plan)


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

    def per_token(self, field: str, element: t.Type, token: Value) -> Buffer:
        return self.batch.buffer(field, element, self.batch["max_tokens"]).part(token, 1)

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

    def layer(self, number: Value, weights: StructRef) -> None:
        plan, spec = self.plan, self.spec
        self.norm_and_quantize(weights, "x", "attn_norm", plan.hidden, spec.hidden_size)
        self.linear(weights, "qkv", self.store_qkv)
        self.attention.rotate_and_keep(number)
        self.attention.attend(number)
        self.norm_and_quantize(weights, "row", "attn_sub_norm", plan.attention, spec.q_size)
        self.linear(weights, "attn_output", self.add_to_x)
        self.norm_and_quantize(weights, "x", "ffn_norm", plan.hidden, spec.hidden_size)
        self.linear(weights, "gate_up", self.store_gated)
        self.norm_and_quantize(weights, "row", "ffn_sub_norm", plan.ffn, spec.ffn_size)
        self.linear(weights, "down", self.add_to_x)

    def norm_and_quantize(
        self, weights: StructRef, source: str, norm: str, width: int, n: int
    ) -> None:
        """The input of a ternary linear: norm `source` (unless a sub-norm is absent), quantise."""
        k, layout = self.k, self.plan.weights_layout
        q_width = layout.q_width(n)
        with self.team.phase(norm, self.n_tokens) as token:
            x = self.row(source, width, token)
            if self.spec.sub_norms or not norm.endswith("sub_norm"):
                normed = Buffer.local(k, t.f32, width, "normed")
                weight = weights.buffer(norm, t.f32, width)
                rms_norm(k, x, weight, normed, n, self.spec.rms_norm_eps)
                x = normed
            q = self.rows("q", q_width, t.i8).part(token * q_width, q_width)
            scale = self.per_token("q_scale", t.f32, token)
            total = self.per_token("q_total", t.i32, token)
            if isinstance(layout, LookUp):
                quantize(k, x, layout, q.part(0, width), scale, total)
                make_tables(k, layout, n, q)
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

            def use(token: Value, sums: list[Value]) -> None:
                total = self.per_token("q_total", t.i32, token)[0]
                if isinstance(layout, LookUp):  # these sums are of w * q already
                    total = k.const(t.i32, 0)
                q_scale = self.per_token("q_scale", t.f32, token)[0]
                y = []
                for tile, dot in enumerate(sums):
                    w_scale = scales.load(first + tile * TILE, TILE)
                    y.append(ternary.scale_sums(dot, total, w_scale, q_scale))
                store(token, first, y)

            q = self.rows("q", layout.q_width(columns), t.i8)
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

    def store_qkv(self, token: Value, first: Value, y: list[Value]) -> None:
        out = self.row("qkv", self.plan.qkv, token)
        for i, v in enumerate(y):
            out.store(first + i * TILE, v)

    def add_to_x(self, token: Value, first: Value, y: list[Value]) -> None:
        x = self.row("x", self.plan.hidden, token)
        for i, v in enumerate(y):
            at = first + i * TILE
            x.store(at, x.load(at, TILE) + v)

    def store_gated(self, token: Value, first: Value, y: list[Value]) -> None:
        out = self.row("row", self.plan.ffn, token)
        for i in range(0, len(y), 2):
            v = gated(self.k, y[i], y[i + 1], self.spec.activation)
            out.store(first // 2 + i // 2 * TILE, v)
