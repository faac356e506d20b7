"""The attention of a layer: rotate queries and keys, keep keys and values, attend.

The work is cut into items, each for a block of neighbouring tokens of one sequence and one kv
head. Where a sequence's share of a step is small (decoding), each span of positions is an item
of its own, so that all threads find work; whoever finishes the last span of a block merges them.
Else one item walks through all spans. That changes who computes what, and no result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels.attention import (
    SPAN,
    attend_span,
    finish,
    merge_span,
    partial_size,
    scale_query,
)
from bitnet.kernels.kv_cache import Cached, store_kv
from bitnet.kernels.rope import rope
from bitnet.program.abi import ATTENTION_ITEM
from bitnet.program.plan import Plan
from bitnet.program.team import Team

# Tokens of a block. Blocks start at multiples of it, so that a block's tokens see the same spans.
TOKENS = 8


def attention_items(
    chunks: Iterable[tuple[int, int]],
) -> tuple[npt.NDArray[np.int64], int]:
    """The items of a step, each a row of bn_attention_item, and how many slots they need.

    chunks: (first position, number of tokens) of each sequence's part of the batch, in order.
    """
    items: list[tuple[int, int, int, int, int]] = []
    token = slot = 0
    for start, count in chunks:
        stop = start + count
        while start < stop:
            n = min(stop, (start // TOKENS + 1) * TOKENS) - start
            n_spans = start // SPAN + 1
            step = 1 if count <= TOKENS else n_spans
            for first in range(0, n_spans, step):
                items.append((token, n, first, first + step, slot))
                slot += n
            start, token = start + n, token + n
    items.sort(key=lambda item: item[1] * (item[3] - item[2]), reverse=True)  # the longest first
    return np.array(items, np.int64), slot


@dataclass(frozen=True)
class _Block:
    """An item's tokens, their queries for one kv head, token by token, and their sequence."""

    first_token: Value
    first_position: Value
    n_queries: Value
    head: Value
    cached: Cached


class Attention:
    """Writes the attention phases of a layer."""

    def __init__(
        self, k: Function, plan: Plan, model: StructRef, batch: StructRef, team: Team
    ) -> None:
        self.k = k
        self.plan = plan
        self.model = model
        self.batch = batch
        self.team = team
        self.group = plan.spec.n_heads // plan.spec.n_kv_heads
        self.record = partial_size(plan.kv_layout)

    # -- memory -----------------------------------------------------------------------------

    def row(self, field: str, width: int, token: Value) -> Buffer:
        whole = self.batch.buffer(field, t.f32, self.batch["max_tokens"] * width)
        return whole.part(token * width, width)

    def per_token(self, field: str, token: Value) -> Value:
        return self.batch.buffer(field, t.i32, self.batch["n_tokens"])[token].zext(t.i64)

    def cached(self, layer: Value, token: Value) -> Cached:
        """The pages of the token's sequence."""
        per_sequence = self.batch["pages_per_sequence"]
        table = self.batch.buffer("page_table", t.i64, self.batch["n_sequences"] * per_sequence)
        pages = table.part(self.per_token("sequences", token) * per_sequence, per_sequence)
        return Cached(self.plan.kv_layout, pages, self.plan.spec.n_layers, layer)

    # -- phases -----------------------------------------------------------------------------

    def rotate_and_keep(self, layer: Value) -> None:
        """Rotate queries (in place) and keys; write keys and values to their page."""
        k, spec, plan = self.k, self.plan.spec, self.plan
        d, half = spec.head_dim, spec.head_dim // 2
        n_angles = self.model["n_positions"] * half
        with self.team.phase(self.batch["n_tokens"]) as token:
            position = self.per_token("positions", token)
            cos, sin = (
                self.model.buffer(f, t.f32, n_angles).part(position * half, half)
                for f in ("rope_cos", "rope_sin")
            )
            qkv = self.row("qkv", plan.qkv, token)
            with k.loop(0, spec.n_heads + spec.n_kv_heads) as head:
                x = qkv.part(head * d, d)
                rope(k, x, cos, sin, x, spec.rope_pairing)
            keys = qkv.part(spec.q_size, spec.kv_size)
            values = qkv.part(spec.q_size + spec.kv_size, spec.kv_size)
            store_kv(k, self.cached(layer, token), position, keys, values)

    def attend(self, layer: Value) -> None:
        k, n_kv_heads = self.k, self.plan.spec.n_kv_heads
        with self.team.phase(self.batch["n_attention_items"] * n_kv_heads) as number:
            item = ATTENTION_ITEM.at(k, self.batch["attention_items"], number // n_kv_heads)
            token = item["first_token"]
            block = _Block(
                token,
                self.per_token("positions", token),
                item["n_tokens"] * self.group,
                number % n_kv_heads,
                self.cached(layer, token),
            )
            self.run(block, item)
            with k.if_(block.head.equals(0) & item["first_span"].equals(0)):
                self.clear_padding(token, item["n_tokens"])

    def run(self, block: _Block, item: StructRef) -> None:
        k = self.k
        n_spans = block.first_position // SPAN + 1
        whole = (item["end_span"] - item["first_span"]).equals(n_spans)
        state = Buffer.local(k, t.f32, TOKENS * self.group * 2, "attention.state")
        with k.loop(item["first_span"], item["end_span"]) as span:
            self.attend_block(block, span, item["slot"])
            with k.if_(whole):
                self.merge(block, item["slot"], span.equals(0), state)
        with k.if_(whole):
            self.finish(block, state)
        with k.if_(whole.equals(0)):
            first_slot = item["slot"] - item["first_span"] * item["n_tokens"]
            with k.if_(self.is_last_to_arrive(block, first_slot, n_spans)):
                with k.loop(0, n_spans) as span:
                    slot = first_slot + span * item["n_tokens"]
                    self.merge(block, slot, span.equals(0), state)
                self.finish(block, state)

    def attend_block(self, block: _Block, span: Value, slot: Value) -> None:
        """All queries of the block over one span."""
        k, d, group = self.k, self.plan.spec.head_dim, self.group
        at_once = k.target.attention_queries
        q = Buffer.local(k, t.f32, at_once * d, "attention.q")
        seen = Buffer.local(k, t.i64, at_once, "attention.seen")
        with k.loop(0, block.n_queries, at_once) as first:
            n = k.min(block.n_queries - first, at_once)
            with k.loop(0, n) as i:
                query = first + i
                seen[i] = block.first_position + query // group + 1
                row = self.row("qkv", self.plan.qkv, block.first_token + query // group)
                head = block.head * group + query % group
                scale_query(k, row.part(head * d, d), q.part(i * d, d))
            for count in self.counts():
                with k.if_(n.equals(count)):
                    attend_span(
                        k,
                        block.cached,
                        block.head,
                        span * SPAN,
                        q.part(0, count * d),
                        seen.part(0, count),
                        self.partials(block, slot, first, count),
                    )

    def counts(self) -> list[int]:
        """How many queries a pass over keys and values may have."""
        at_once = self.k.target.attention_queries
        sizes = [n * self.group for n in range(1, TOKENS + 1)]
        return sorted({min(at_once, n - first) for n in sizes for first in range(0, n, at_once)})

    def partials(self, block: _Block, slot: Value, query: Value, count: int) -> Buffer:
        """Where the results of `count` queries over a span are kept."""
        n_slots, n_kv_heads = self.batch["n_slots"], self.plan.spec.n_kv_heads
        size = self.group * self.record
        whole = self.batch.buffer("partials", t.f32, n_slots * (n_kv_heads * size))
        at = (block.head * n_slots + slot) * size + query * self.record
        return whole.part(at, count * self.record)

    def is_last_to_arrive(self, block: _Block, slot: Value, expected: Value) -> Value:
        """Count an item that is done; then whether it is the last of `expected` ones."""
        n_slots = self.batch["n_slots"]
        arrived = self.batch.buffer("arrived", t.i64, n_slots * self.plan.spec.n_kv_heads)
        counter = block.head * n_slots + slot
        is_last = (arrived.atomic_add(counter, self.k.const(t.i64, 1)) + 1).equals(expected)
        with self.k.if_(is_last):
            arrived[counter] = self.k.const(t.i64, 0)  # for the next layer
        return is_last

    def merge(self, block: _Block, slot: Value, first: Value, state: Buffer) -> None:
        """Merge the results of one span of all queries into the output."""
        with self.k.loop(0, block.n_queries) as query:
            partial = self.partials(block, slot, query, 1)
            merge_span(self.k, partial, first, state.part(query * 2, 2), self.out(block, query))

    def finish(self, block: _Block, state: Buffer) -> None:
        with self.k.loop(0, block.n_queries) as query:
            finish(self.k, state.part(query * 2, 2), self.out(block, query))

    def out(self, block: _Block, query: Value) -> Buffer:
        d, group = self.plan.spec.head_dim, self.group
        row = self.row("row", self.plan.attention, block.first_token + query // group)
        return row.part((block.head * group + query % group) * d, d)

    def clear_padding(self, first: Value, n_tokens: Value) -> None:
        """Zero the rows beyond what the heads fill."""
        used, width = self.plan.spec.q_size, self.plan.attention
        with self.k.loop(0, n_tokens) as i:
            row = self.row("row", width, first + i)
            for at in range(used, width):
                row[at] = self.k.const(t.f32, 0.0)
