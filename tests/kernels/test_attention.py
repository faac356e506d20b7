"""Paged attention: a few queries over the spans of a sequence, and the spans merged."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.attention import SPAN, attend_span, scale_query
from bitnet.kernels.attention_reference import attend_reference
from bitnet.kernels.head import STORED
from bitnet.kernels.kv_cache import BLOCK, Cached, KVLayout
from bitnet.kernels.span_merge import finish, merge_span, partial_size
from tests.kernels.harness import (
    Array,
    Native,
    assert_same_bits,
    f32,
    few,
    kernel,
    seeds,
    some,
)
from tests.kernels.kv_pages import DTYPES, LAYER, N_LAYERS, paged

MAX_POSITIONS = 2 * SPAN + 128
# With the number of queries: as many as a target takes at once, and fewer.
SHAPES = [
    (KVLayout(n_kv_heads=1, head_dim=2, page_size=32, kind="f32"), 1),
    (KVLayout(n_kv_heads=2, head_dim=20, page_size=64, kind="f16"), 6),
    (KVLayout(n_kv_heads=3, head_dim=64, page_size=32, kind="f16"), 4),
    (KVLayout(n_kv_heads=2, head_dim=34, page_size=96, kind="f32"), 3),
    (KVLayout(n_kv_heads=1, head_dim=100, page_size=128, kind="f16"), 5),
    (KVLayout(n_kv_heads=1, head_dim=128, page_size=64, kind="f16"), 8),
]
shapes = st.sampled_from(SHAPES)
# Positions before the last block, at and around the edges of blocks, pages and spans.
blocks = st.sampled_from([0, 1, 2, 3, 7, 8, 9, 15, 16, 17])


@cache
def attend_kernel(target: Target, checked: bool, kv: KVLayout, n: int) -> Native:
    """All of attention for `n` queries, span after span."""
    d, size, n_pages = kv.head_dim, partial_size(kv), MAX_POSITIONS // kv.page_size + 1

    def body(
        k: Function, pages: Buffer, table: Buffer, head: Value, q: Buffer, seen: Buffer, out: Buffer
    ) -> None:
        cached = addresses(k, pages, table)
        for i in range(0, n, k.target.attention_queries):
            count = min(k.target.attention_queries, n - i)
            part = q.part(i * d, count * d), seen.part(i, count), out.part(i * d, count * d)
            attend(k, cached, head, *part)

    def addresses(k: Function, pages: Buffer, table: Buffer) -> Cached:
        """The page table as compiled code wants it: addresses."""
        bytes_per_page = N_LAYERS * kv.page_elements * t.size(kv.element)
        start = Value(k.builder, k.builder.ptrtoint(pages.base.ir, t.i64))
        located = Buffer.local(k, t.i64, n_pages, "page_table")
        with k.loop(0, n_pages) as i:
            located[i] = start + table[i] * bytes_per_page
        return Cached(kv, located, N_LAYERS, k.index(LAYER))

    def attend(
        k: Function, cached: Cached, head: Value, q: Buffer, seen: Buffer, out: Buffer
    ) -> None:
        count = seen.known_count
        scaled = Buffer.local(k, t.f32, count * d, "scaled")
        state = Buffer.local(k, t.f32, count * 2, "state")
        partial = Buffer.local(k, t.f32, count * size, "partial")
        for i in range(count):
            scale_query(q.part(i * d, d), scaled.part(i * d, d))
        after = cached.page(k.index(0))[0].part(kv.keys_start(head, 0), 0)
        with k.loop(0, seen[count - 1], SPAN) as start:
            attend_span(k, cached, head, start, scaled, seen, partial, after)
            with k.loop(0, count) as i:
                merge_span(
                    k,
                    partial.part(i * size, size),
                    start.equals(0),
                    state.part(i * 2, 2),
                    out.part(i * d, d),
                )
        with k.loop(0, count) as i:
            finish(k, state.part(i * 2, 2), out.part(i * d, d))

    parameters = {
        "pages": (STORED[kv.kind], n_pages * N_LAYERS * kv.page_elements),
        "table": (t.i64, n_pages),
        "head": t.i64,
        "q": (t.f32, n * d),
        "seen": (t.i64, n),
        "out": (t.f32, n * d),
    }
    return kernel(target, checked, parameters, body)


def attend(
    target: Target,
    checked: bool,
    kv: KVLayout,
    keys: Array,
    values: Array,
    head: int,
    q: Array,
    seen: Array,
    seed: int = 0,
) -> Array:
    """Run the kernel on keys and values (positions, kv heads, head_dim) in shuffled pages."""
    table = np.random.default_rng(seed).permutation(MAX_POSITIONS // kv.page_size + 1)
    out = np.full_like(q, np.nan)
    run = attend_kernel(target, checked, kv, len(q))
    run(paged(kv, table, keys, values), table, head, q, seen, out)
    return out


@given(seeds, shapes, blocks, st.sampled_from([0.1, 1.0, 30.0]))
@few
def test_attention_gives_the_bits_of_its_reference(
    target: Target, checked: bool, seed: int, shape: tuple[KVLayout, int], block: int, size: float
) -> None:
    kv, n_queries = shape
    rng = np.random.default_rng(seed)
    seen = block * BLOCK + np.sort(rng.integers(1, BLOCK + 1, n_queries))
    shape_of_all = (2, seen[-1], kv.n_kv_heads, kv.head_dim)
    keys, values = (rng.standard_normal(shape_of_all) * size).astype(DTYPES[kv.kind])
    q, head = f32(rng.standard_normal((n_queries, kv.head_dim))), int(rng.integers(kv.n_kv_heads))
    out = attend(target, checked, kv, keys, values, head, q, seen, seed)
    assert_same_bits(out, attend_reference(q, f32(keys[:, head]), f32(values[:, head]), seen))


@pytest.mark.parametrize(
    "n", [6, 15, 16, 17, 31, 32, SPAN - 1, SPAN, SPAN + 6, 2 * SPAN, 2 * SPAN + 17]
)
def test_a_query_sees_every_position_up_to_its_own_and_no_later_one(
    target: Target, checked: bool, n: int
) -> None:
    """Equal scores: the result is the mean of the values; what one query sees the others do not.

    The last query sees an infinity that all before it must not meet, not even with weight 0.
    """
    kv, n_queries = SHAPES[1]
    rng = np.random.default_rng(n)
    values = rng.integers(-8, 9, (n, kv.n_kv_heads, kv.head_dim)).astype(np.float16)
    values[n - 1] = np.inf
    first = (n - 1) // BLOCK * BLOCK + 1  # of the last block
    seen = np.maximum(np.arange(n - n_queries + 1, n + 1), first)
    seen[:-1] = np.minimum(seen[:-1], max(n - 1, first))
    q = np.zeros((n_queries, kv.head_dim), np.float32)
    out = attend(target, checked, kv, np.ones_like(values), values, 1, q, seen)
    for row, count in zip(out, seen, strict=True):
        np.testing.assert_allclose(row, values[:count, 1].astype(float).mean(0), atol=1e-5)


@given(seeds, st.sampled_from([2, 20, 64]), st.integers(1, 600), st.sampled_from([0.1, 1.0, 2.0]))
@some
def test_the_reference_is_softmax_attention(seed: int, d: int, n: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    q, keys = f32(rng.standard_normal((4, d)) * size), f32(rng.standard_normal((n, d)) * size)
    values, seen = f32(rng.uniform(-1, 1, (n, d))), rng.integers(1, n + 1, 4)
    result = attend_reference(q, keys, values, seen)
    for i, count in enumerate(seen):
        scores = keys[:count].astype(float) @ q[i].astype(float) / math.sqrt(d)
        weights = np.exp(scores - scores.max())
        exact = weights @ values[:count].astype(float) / weights.sum()
        np.testing.assert_allclose(result[i], exact, atol=1e-5)


@given(seeds, st.integers(1, 600))
@some
def test_in_the_reference_queries_do_not_depend_on_each_other(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    q, keys, values = (f32(rng.standard_normal((m, 20))) for m in (5, n, n))
    seen = rng.integers(1, n + 1, 5)
    together = attend_reference(q, keys, values, seen)
    for i, count in enumerate(seen):
        alone = attend_reference(q[i : i + 1], keys[:count], values[:count], seen[i : i + 1])
        assert_same_bits(together[i : i + 1], alone)
