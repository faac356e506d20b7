"""Paged causal attention with grouped queries and online softmax.

Keys and values live in pages of `page_size` positions. Within a page of one layer:
keys   [kv head][page_size / 16][head_dim][16 positions], so that 16 scores are computed at once;
values [kv head][page_size][head_dim padded to 16].
Softmax is accumulated over blocks of 32 positions counted from the start of the sequence
(Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), so a result depends
neither on the page size nor on how the sequence was split into batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.head import STORED, widen
from bitnet.kernels.numerics import (
    F32,
    LANES,
    exp,
    exp_reference,
    f32xL,
    fma_reference,
    tree_reference,
)

BLOCK = 32
_NO_SCORE = -1e30  # below every real score, and finite: differences stay numbers

KVKind = Literal["f16", "f32"]


@dataclass(frozen=True)
class KVLayout:
    """Shape of the key/value pages; sizes in elements."""

    n_kv_heads: int
    head_dim: int
    page_size: int
    kind: KVKind

    @property
    def value_stride(self) -> int:
        return -(-self.head_dim // LANES) * LANES

    @property
    def values_start(self) -> int:
        """Where the values start in a page, after the keys."""
        return self.n_kv_heads * self.page_size * self.head_dim

    @property
    def page_elements(self) -> int:
        """Elements of one page of one layer."""
        return self.values_start + self.n_kv_heads * self.page_size * self.value_stride

    @property
    def element(self) -> t.Type:
        return STORED[self.kind]

    def key_lane(self, head: Dim, slot: Dim) -> Value | int:
        """Index of dimension 0 of a position's key; dimension d is 16*d further."""
        tile = head * (self.page_size // LANES) + slot // LANES
        return tile * (self.head_dim * LANES) + slot % LANES

    def value_row(self, head: Dim, slot: Dim) -> Value | int:
        """Index of a position's value vector."""
        return (head * self.page_size + slot) * self.value_stride + self.values_start


def store_kv(
    k: Function, kv: KVLayout, page: Buffer, slot: Value, keys: Buffer, values: Buffer
) -> None:
    """Write one token's keys and values, f32[n_kv_heads * head_dim], at `slot` of its page."""
    d = kv.head_dim
    for head in range(kv.n_kv_heads):
        lane = kv.key_lane(head, slot)
        with k.loop(0, d) as dim:
            page[lane + dim * LANES] = _narrow(k, keys[dim + head * d], kv.kind)
        row = kv.value_row(head, slot)
        for i in range(0, d, LANES):
            v = values.load(head * d + i, LANES, valid=min(LANES, d - i))
            page.store(row + i, _narrow(k, v, kv.kind))


def _narrow(k: Function, v: Value, kind: KVKind) -> Value:
    return v if kind == "f32" else k.target.f32_to_f16(k, v)


def attend(
    k: Function,
    kv: KVLayout,
    page_of: Callable[[Value], Buffer],
    n_positions: Value,
    head: Value,
    q: Buffer,
    out: Buffer,
) -> None:
    """out = softmax(q . keys / sqrt(head_dim)) . values over positions 0..n_positions-1.

    page_of(p): the page that holds position p; head: the kv head; q, out: f32[head_dim].
    """
    largest = k.var(t.f32, _NO_SCORE)
    total = k.var(t.f32)
    acc = [k.var(f32xL) for _ in range(0, kv.head_dim, LANES)]
    weights = Buffer.local(k, t.f32, BLOCK, "attention.weights")
    with k.loop(0, n_positions, BLOCK) as start:
        page = page_of(start)
        slot = start % kv.page_size
        scores = _scores(k, kv, page, slot, head, q)
        seen = [
            (k.iota(t.vec(t.i64, LANES)) + start + i * LANES) < n_positions
            for i in range(len(scores))
        ]
        scores = [m.select(s, _NO_SCORE) for s, m in zip(scores, seen, strict=True)]
        block_largest = scores[0]
        for s in scores[1:]:
            block_largest = k.max(block_largest, s)
        new_largest = k.max(k.reduce(block_largest, "max"), largest.get())
        shrink = exp(k, largest.get() - new_largest)
        weighted = k.const(f32xL, 0.0)
        for i, (s, m) in enumerate(zip(scores, seen, strict=True)):
            w = m.select(exp(k, s - new_largest), 0.0)
            weights.store(i * LANES, w)
            weighted = weighted + w
        total.set(k.fma(total.get(), shrink, k.reduce(weighted, "add")))
        largest.set(new_largest)
        for part in acc:
            part.set(part.get() * shrink)
        first = kv.value_row(head, slot)
        with k.loop(0, k.min(n_positions - start, BLOCK)) as j:
            w = weights[j]
            for i, part in enumerate(acc):
                v = widen(k, page.load(first + j * kv.value_stride + i * LANES, LANES), kv.kind)
                part.set(k.fma(w, v, part.get()))
    for i, part in enumerate(acc):
        valid = min(LANES, kv.head_dim - i * LANES)
        out.store(i * LANES, part.get() / total.get(), valid=valid)


def _scores(
    k: Function, kv: KVLayout, page: Buffer, slot: Value, head: Value, q: Buffer
) -> list[Value]:
    """Scaled scores of the BLOCK positions from `slot` on, 16 to a vector."""
    scores = [k.var(f32xL) for _ in range(BLOCK // LANES)]
    first = kv.key_lane(head, slot)
    with k.loop(0, kv.head_dim) as d:
        x = q[d]
        for i, s in enumerate(scores):
            tile = i * kv.head_dim * LANES
            key = widen(k, page.load(first + d * LANES + tile, LANES), kv.kind)
            s.set(k.fma(x, key, s.get()))
    return [s.get() * (1.0 / math.sqrt(kv.head_dim)) for s in scores]


def attend_reference(q: F32, keys: F32, values: F32) -> F32:
    """One head: q (d,), keys and values (n, d) as stored; gives (d,)."""
    n, d = keys.shape
    largest, total = np.array(_NO_SCORE, np.float32), np.zeros((), np.float32)
    acc = np.zeros(d, np.float32)
    for start in range(0, n, BLOCK):
        k, v = keys[start : start + BLOCK], values[start : start + BLOCK]
        scores = np.full(BLOCK, _NO_SCORE, np.float32)
        dots = np.zeros(len(k), np.float32)
        for i in range(d):
            dots = fma_reference(q[i], k[:, i], dots)
        scores[: len(k)] = dots * np.float32(1 / math.sqrt(d))
        new_largest = np.maximum(scores.max(), largest)
        shrink = exp_reference(largest - new_largest)
        weights = exp_reference(scores - new_largest)
        weights[len(k) :] = 0
        lanes = np.zeros(LANES, np.float32)
        for i in range(0, BLOCK, LANES):
            lanes = lanes + weights[i : i + LANES]
        total = fma_reference(total, shrink, tree_reference(lanes))
        largest = new_largest
        acc = acc * shrink
        for j in range(len(k)):
            acc = fma_reference(weights[j], v[j], acc)
    return acc / total
