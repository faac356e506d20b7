"""The attention of a layer: norm and rotate queries and keys, keep keys and values, attend.

The work is cut into items, each for a block of neighbouring tokens of one sequence and one kv
head. Where a sequence's share of a step is small (decoding), each span of positions is an item
of its own, so that all threads find work; whoever finishes the last span of a block merges them.
Else one item walks through all spans. That changes who computes what, and no result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Function, StructRef, Value
from bitnet.codegen import types as t
from bitnet.kernels.attention import SPAN, attend_span, scale_query
from bitnet.kernels.kv_cache import BLOCK, Cached, store_kv
from bitnet.kernels.norm import rms_norm
from bitnet.kernels.rope import rope
from bitnet.kernels.span_merge import finish, merge_span, partial_size
from bitnet.models.matrices import matrices
from bitnet.program.abi import ATTENTION_ITEM
from bitnet.program.plan import Plan
from bitnet.program.team import Team


@dataclass(frozen=True)
class Items:
    """The items of a step: rows of bn_attention_item; the first `n_blocks` are one of each block.

    n_slots: how many results they need room for.
    """

    rows: npt.NDArray[np.int64]
    n_blocks: int
    n_slots: int


def attention_items(chunks: Iterable[tuple[int, int]]) -> Items:
    """chunks: (first position, number of tokens) of each sequence's part of the batch, in order.

    Blocks start at multiples of BLOCK positions, so that their tokens see the same spans and no
    two of them write to the same cache line of the keys.
    """
    items: list[tuple[int, int, int, int, int]] = []
    token = slot = n_blocks = 0
    for position, count in chunks:
        start, stop = position, position + count
        while start < stop:
            n = min(stop, (start // BLOCK + 1) * BLOCK) - start
            n_spans = start // SPAN + 1
            at_once = 1 if count <= BLOCK else n_spans
            for span in range(0, n_spans, at_once):
                items.append((token, n, span, span + at_once, slot))
                slot += n
            start, token, n_blocks = start + n, token + n, n_blocks + 1
    # Of each block the first item, then the others; the longest first, so that none ends late.
    items.sort(key=lambda item: (item[2] > 0, -item[1] * (item[3] - item[2])))
    return Items(np.array(items, np.int64), n_blocks, slot)


@dataclass(frozen=True)
class _Block:
    """An item's tokens and the kv head that it is about.

    Its queries are numbered token by token, `group` for each.
    """

    number: Value
    item: StructRef
    first_token: Value
    n_tokens: Value
    first_position: Value
    head: Value
    cached: Cached

    def keys(self, span: Value) -> Buffer:
        """Where the keys of a span start."""
        page, slot = self.cached.page(span * SPAN)
        return page.part(self.cached.kv.keys_start(self.head, slot), 0)


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
        # Where queries, keys and values begin in a row.
        self.starts = [place.first for place in matrices(plan.spec)["qkv"].places]

    # -- memory -----------------------------------------------------------------------------

    def row(self, field: str, width: int, token: Value) -> Buffer:
        whole = self.batch.buffer(field, t.f32, self.batch["max_tokens"] * width)
        return whole.part(token * width, width)

    def head(self, token: Value, start: int, head: Value) -> Buffer:
        """A head's query, key or value, depending on `start`."""
        d = self.plan.spec.head_dim
        return self.row("qkv", self.plan.qkv, token).part(head * d + start, d)

    def query(self, block: _Block, query: Value) -> Buffer:
        token, head = query // self.group, query % self.group
        head = block.head * self.group + head
        return self.head(block.first_token + token, self.starts[0], head)

    def output(self, block: _Block, query: Value) -> Buffer:
        d, token, head = self.plan.spec.head_dim, query // self.group, query % self.group
        row = self.row("row", self.plan.attention, block.first_token + token)
        return row.part((block.head * self.group + head) * d, d)

    def per_token(self, field: str, token: Value) -> Value:
        return self.batch.buffer(field, t.i32, self.batch["n_tokens"])[token].zext(t.i64)

    def cached(self, layer: Value, token: Value) -> Cached:
        """The pages of the token's sequence."""
        per_sequence = self.batch["pages_per_sequence"]
        table = self.batch.buffer("page_table", t.i64, self.batch["n_sequences"] * per_sequence)
        pages = table.part(self.per_token("sequences", token) * per_sequence, per_sequence)
        return Cached(self.plan.kv_layout, pages, self.plan.spec.n_layers, layer)

    # -- phases -----------------------------------------------------------------------------

    @contextmanager
    def blocks(self, name: str, layer: Value, n_items: Value) -> Iterator[_Block]:
        """The phase that runs its body for each of the first items and each kv head."""
        with self.team.phase(name, n_items * self.plan.spec.n_kv_heads) as number:
            yield self.block(layer, number)

    def block(self, layer: Value, number: Value) -> _Block:
        """Item and head `number`: the heads of an item follow each other, as in the pages."""
        n_kv_heads = self.plan.spec.n_kv_heads
        item = ATTENTION_ITEM.at(self.k, self.batch["attention_items"], number // n_kv_heads)
        token = item["first_token"]
        return _Block(
            number,
            item,
            token,
            item["n_tokens"],
            self.per_token("positions", token),
            number % n_kv_heads,
            self.cached(layer, token),
        )

    def rotate_and_keep(self, layer: Value, weights: StructRef) -> None:
        """Norm and rotate queries and keys, in place; write keys and values to their page."""
        k, spec = self.k, self.plan.spec
        half = spec.head_dim // 2
        n_angles = self.model["n_positions"] * half
        with (
            self.blocks("rope", layer, self.batch["n_blocks"]) as block,
            k.loop(0, block.n_tokens) as i,
        ):
            position = block.first_position + i
            cos, sin = (
                self.model.buffer(f, t.f32, n_angles).part(position * half, half)
                for f in ("rope_cos", "rope_sin")
            )
            with k.loop(0, self.group) as query:
                q = self.query(block, i * self.group + query)
                self.norm_head(q, weights, "attn_q_norm")
                rope(k, q, cos, sin, q, spec.rope_pairing)
            key, value = (
                self.head(block.first_token + i, start, block.head) for start in self.starts[1:]
            )
            self.norm_head(key, weights, "attn_k_norm")
            rope(k, key, cos, sin, key, spec.rope_pairing)
            store_kv(k, block.cached, block.head, position, key, value)

    def norm_head(self, head: Buffer, weights: StructRef, norm: str) -> None:
        spec = self.plan.spec
        if spec.qk_norms:
            weight = weights.buffer(norm, t.f32, spec.head_dim)
            rms_norm(self.k, head, weight, head, spec.head_dim, spec.rms_norm_eps)

    def attend(self, layer: Value) -> None:
        k = self.k
        state = Buffer.local(k, t.f32, BLOCK * self.group * 2, "attention.state")
        with self.blocks("attention", layer, self.batch["n_attention_items"]) as block:
            item = block.item
            n_spans = block.first_position // SPAN + 1
            is_all = (item["end_span"] - item["first_span"]).equals(n_spans)
            last = item["end_span"] - 1
            next_block = self.next_block(layer, block)
            next_keys = next_block.keys(next_block.item["first_span"])
            with k.loop(item["first_span"], item["end_span"]) as span:
                more = block.keys(k.min(span + 1, last))
                base = (span < last).select(more.base, next_keys.base)
                self.attend_block(block, span, more.at_address(k, base))
                with k.if_(is_all):
                    self.merge(block, item["slot"], span, state)
            with k.if_(is_all):
                self.finish(block, state)
            with k.if_(is_all.equals(0)):
                first_slot = item["slot"] - item["first_span"] * block.n_tokens
                with k.if_(self.is_last_to_arrive(block, first_slot, n_spans)):
                    with k.loop(0, n_spans) as span:
                        self.merge(block, first_slot + span * block.n_tokens, span, state)
                    self.finish(block, state)

    def next_block(self, layer: Value, block: _Block) -> _Block:
        """What the same thread will probably take next; the last one is followed by itself."""
        end = self.batch["n_attention_items"] * self.plan.spec.n_kv_heads
        return self.block(layer, self.k.min(block.number + 1, end - 1))

    def attend_block(self, block: _Block, span: Value, after: Buffer) -> None:
        """All queries of the block over one span; after: the keys that will be wanted then."""
        k, d = self.k, self.plan.spec.head_dim
        at_once = k.target.attention_queries
        n_queries = block.n_tokens * self.group
        q = Buffer.local(k, t.f32, at_once * d, "attention.q")
        seen = Buffer.local(k, t.i64, at_once, "attention.seen")
        with k.loop(0, n_queries, at_once) as first:
            n = k.min(n_queries - first, at_once)
            with k.loop(0, n) as i:
                seen[i] = block.first_position + (first + i) // self.group + 1
                scale_query(self.query(block, first + i), q.part(i * d, d))
            for count in self.counts():
                with k.if_(n.equals(count)):
                    attend_span(
                        k,
                        block.cached,
                        block.head,
                        span * SPAN,
                        q.part(0, count * d),
                        seen.part(0, count),
                        self.partials(block, block.item["slot"], first, count),
                        after,
                    )

    def counts(self) -> list[int]:
        """How many queries a pass over keys and values may have."""
        at_once = self.k.target.attention_queries
        sizes = [n * self.group for n in range(1, BLOCK + 1)]
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

    def merge(self, block: _Block, slot: Value, span: Value, state: Buffer) -> None:
        """Merge the results of one span of all queries into the output."""
        with self.k.loop(0, block.n_tokens * self.group) as query:
            partial, out = self.partials(block, slot, query, 1), self.output(block, query)
            merge_span(self.k, partial, span.equals(0), state.part(query * 2, 2), out)

    def finish(self, block: _Block, state: Buffer) -> None:
        """Complete the output of all queries; with the first head, zero the rows beyond it."""
        k, width, used = self.k, self.plan.attention, self.plan.spec.q_size
        with k.loop(0, block.n_tokens * self.group) as query:
            finish(k, state.part(query * 2, 2), self.output(block, query))
        with k.if_(block.head.equals(0)), k.loop(0, block.n_tokens) as i:
            row = self.row("row", width, block.first_token + i)
            for at in range(used, width):
                row[at] = k.const(t.f32, 0.0)
