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

from bitnet.codegen import Buffer, Dim, Function, Module, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.gate import gated
from bitnet.kernels.head import STORED, Kind, embed, head_rows
from bitnet.kernels.layouts import InPlace, TiledLayout
from bitnet.kernels.norm import quantize, rms_norm
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.kernels.ternary_rows import rows_block
from bitnet.program.abi import BATCH, LAYER, MODEL
from bitnet.program.attention import Attention
from bitnet.program.plan import Plan
from bitnet.program.team import Team
from bitnet.quant.tiled import TILE

HEAD_ROWS = 64  # rows of the output head per work item

# Takes (token, first row, four f32x16 of results) and puts them where they belong.
Store = Callable[[Value, Value, list[Value]], None]


def n_phases(plan: Plan) -> int:
    """How many phases a step has: the embedding, ten a layer, the last norm and the head."""
    return 1 + 10 * plan.spec.n_layers + 2


def add_forward(module: Module, plan: Plan) -> None:
    """Add forward(model, batch) to the module."""

    def body(k: Function) -> None:
        _Forward(k, plan).write()

    module.function("forward", [t.ptr, t.ptr], body, exported=True)


class _Forward:
    def __init__(self, k: Function, plan: Plan) -> None:
        self.k = k
        self.plan = plan
        self.spec = plan.spec
        self.model = MODEL.at(k, k.args[0])
        self.batch = BATCH.at(k, k.args[1])
        self.team = Team(k, self.batch, n_phases(plan))
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
        k, spec, plan = self.k, self.spec, self.plan
        with self.team.phase("embed", self.n_tokens) as token:
            tokens = self.batch.buffer("tokens", t.i32, self.n_tokens)
            table = self.table("embedding", plan.embedding)
            x = self.row("x", plan.hidden, token)
            embed(k, table, tokens[token].zext(t.i64), spec.hidden_size, x, plan.embedding)
        with k.loop(0, spec.n_layers) as number:
            self.layer(number, LAYER.at(k, self.model["layers"], number))
        self.head()

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
            quantize(k, x, layout, q, scale, total)

    def linear(self, weights: StructRef, name: str, store: Store) -> None:
        """Ternary linear `name` of all tokens; `store(token, first row, y)` takes the results."""
        k, layout = self.k, self.plan.weights_layout
        rows, columns = self.plan.matrices()[name]
        scales = weights.buffer(f"{name}_scale", t.f32, rows)
        with self.team.phase(name, rows // BLOCK_ROWS) as block:
            first = block * BLOCK_ROWS

            def use(token: Value, sums: list[Value]) -> None:
                total = self.per_token("q_total", t.i32, token)[0]
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
            elif isinstance(layout, TiledLayout):
                size = layout.packed_bytes(BLOCK_ROWS, columns)
                packed = weights.buffer(name, t.i8, rows // BLOCK_ROWS * size)
                part = packed.part(block * size, size)
                ternary.tiled_block(k, layout, part, q, columns, self.n_tokens, use)

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

    def head(self) -> None:
        k, spec, plan = self.k, self.spec, self.plan
        n_logits = self.batch["n_logits"]
        hidden = self.batch.buffer("row", t.f32, n_logits * plan.hidden)
        with self.team.phase("output_norm", n_logits) as i:
            token = self.batch.buffer("logit_tokens", t.i32, n_logits)[i].zext(t.i64)
            weight = self.model.buffer("output_norm", t.f32, plan.hidden)
            y = hidden.part(i * plan.hidden, plan.hidden)
            rms_norm(
                k, self.row("x", plan.hidden, token), weight, y, spec.hidden_size, spec.rms_norm_eps
            )
        n_items: Dim = (n_logits > 0).select(-(-spec.vocab_size // HEAD_ROWS), k.index(0))
        with self.team.phase("head", n_items) as item:
            first = item * HEAD_ROWS
            stop = k.min(first + HEAD_ROWS, spec.vocab_size)
            logits = self.batch.buffer("logits", t.f32, n_logits * spec.vocab_size)
            table = self.table("head", plan.head)
            head_rows(
                k,
                table,
                first,
                stop,
                hidden,
                spec.hidden_size,
                n_logits,
                logits,
                spec.vocab_size,
                plan.head,
            )

    def table(self, field: str, kind: Kind) -> Buffer:
        """The embedding table or the head."""
        size = self.spec.vocab_size * self.spec.hidden_size
        return self.model.buffer(field, STORED[kind], size)
