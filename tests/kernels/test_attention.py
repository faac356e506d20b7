"""Paged attention: where keys and values are kept, and what is made of them."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.attention import KVKind, KVLayout, attend, attend_reference, store_kv
from bitnet.kernels.head import STORED
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

MAX_PAGES = 4
LAYOUTS = [
    KVLayout(n_kv_heads=1, head_dim=2, page_size=32, kind="f32"),
    KVLayout(n_kv_heads=2, head_dim=20, page_size=32, kind="f16"),
    KVLayout(n_kv_heads=3, head_dim=64, page_size=64, kind="f16"),
    KVLayout(n_kv_heads=2, head_dim=34, page_size=96, kind="f32"),
]
DTYPES: dict[KVKind, type] = {"f16": np.float16, "f32": np.float32}
layouts = st.sampled_from(LAYOUTS)


def new_pages(kv: KVLayout) -> Array:
    """Pages as they come from the allocator: full of old numbers, here NaN."""
    return np.full((MAX_PAGES, kv.page_elements), np.nan, DTYPES[kv.kind])


@cache
def store_kernel(target: Target, checked: bool, kv: KVLayout) -> Native:
    def body(k: Function, page: Buffer, slot: Value, keys: Buffer, values: Buffer) -> None:
        store_kv(k, kv, page, slot, keys, values)

    row = (t.f32, kv.n_kv_heads * kv.head_dim)
    page = (STORED[kv.kind], kv.page_elements)
    return kernel(target, checked, {"page": page, "slot": t.i64, "keys": row, "values": row}, body)


@given(seeds, layouts, st.integers(0, 95))
@few
def test_a_token_is_stored_in_its_slot_and_nowhere_else(
    target: Target, checked: bool, seed: int, kv: KVLayout, slot: int
) -> None:
    slot %= kv.page_size
    keys, values = f32(np.random.default_rng(seed).standard_normal((2, kv.n_kv_heads, kv.head_dim)))
    page = new_pages(kv)[0]
    key_part = page[: kv.values_start].reshape(kv.n_kv_heads, kv.page_size // 16, kv.head_dim, 16)
    value_part = page[kv.values_start :].reshape(kv.n_kv_heads, kv.page_size, kv.value_stride)
    store_kernel(target, checked, kv)(page, slot, keys, values)
    assert_same_bits(key_part[:, slot // 16, :, slot % 16].copy(), keys.astype(page.dtype))
    assert_same_bits(value_part[:, slot, : kv.head_dim].copy(), values.astype(page.dtype))
    assert not value_part[:, slot, kv.head_dim :].any()
    written = keys.size + kv.n_kv_heads * kv.value_stride
    assert np.isnan(page).sum() == page.size - written


@cache
def attend_kernel(target: Target, checked: bool, kv: KVLayout) -> Native:
    def body(
        k: Function,
        pages: Buffer,
        table: Buffer,
        n_positions: Value,
        head: Value,
        q: Buffer,
        out: Buffer,
    ) -> None:
        def page_of(position: Value) -> Buffer:
            return pages.part(table[position // kv.page_size] * kv.page_elements, kv.page_elements)

        attend(k, kv, page_of, n_positions, head, q, out)

    parameters = {
        "pages": (STORED[kv.kind], MAX_PAGES * kv.page_elements),
        "table": (t.i64, MAX_PAGES),
        "n_positions": t.i64,
        "head": t.i64,
        "q": (t.f32, kv.head_dim),
        "out": (t.f32, kv.head_dim),
    }
    return kernel(target, checked, parameters, body)


def paged(kv: KVLayout, table: Array, keys: Array, values: Array) -> Array:
    """Pages that hold keys and values (n, kv heads, head_dim) as the layout says."""
    pages = new_pages(kv)
    for position in range(len(keys)):
        page, slot = pages[table[position // kv.page_size]], position % kv.page_size
        k = page[: kv.values_start].reshape(kv.n_kv_heads, -1, kv.head_dim, 16)
        v = page[kv.values_start :].reshape(kv.n_kv_heads, kv.page_size, kv.value_stride)
        k[:, slot // 16, :, slot % 16] = keys[position]
        v[:, slot] = 0
        v[:, slot, : kv.head_dim] = values[position]
    return pages


@given(
    seeds,
    layouts,
    st.one_of(st.integers(65, MAX_PAGES * 32), st.sampled_from([1, 16, 33, 64])),
    st.sampled_from([0.1, 1.0, 30.0]),
)
@few
def test_attend_gives_the_bits_of_its_reference(
    target: Target, checked: bool, seed: int, kv: KVLayout, n: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    table, head = rng.permutation(MAX_PAGES), int(rng.integers(kv.n_kv_heads))
    shape = (2, n, kv.n_kv_heads, kv.head_dim)
    keys, values = (rng.standard_normal(shape) * size).astype(DTYPES[kv.kind])
    q, out = f32(rng.standard_normal(kv.head_dim)), np.empty(kv.head_dim, np.float32)
    pages = paged(kv, table, keys, values)
    attend_kernel(target, checked, kv)(pages, table, n, head, q, out)
    assert_same_bits(out, attend_reference(q, f32(keys[:, head]), f32(values[:, head])))


@pytest.mark.parametrize("n", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65])
def test_attend_sees_every_position_up_to_its_own_and_no_later_one(
    target: Target, checked: bool, n: int
) -> None:
    """Equal scores: the result is the mean of the values, and what lies behind is NaN."""
    kv = LAYOUTS[1]
    rng = np.random.default_rng(n)
    values = rng.integers(-8, 9, (n, kv.n_kv_heads, kv.head_dim)).astype(np.float16)
    pages = paged(kv, np.arange(MAX_PAGES), np.ones_like(values), values)
    out = np.empty(kv.head_dim, np.float32)
    q = np.zeros(kv.head_dim, np.float32)
    attend_kernel(target, checked, kv)(pages, np.arange(MAX_PAGES), n, 1, q, out)
    np.testing.assert_allclose(out, values[:, 1].astype(float).mean(0), atol=1e-6)


@given(seeds, st.sampled_from([2, 20, 64]), st.integers(1, 100), st.sampled_from([0.1, 1.0, 2.0]))
@some
def test_attend_reference_is_softmax_attention(seed: int, d: int, n: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    q, keys = f32(rng.standard_normal(d) * size), f32(rng.standard_normal((n, d)) * size)
    values = f32(rng.uniform(-1, 1, (n, d)))
    scores = keys.astype(float) @ q.astype(float) / math.sqrt(d)
    weights = np.exp(scores - scores.max())
    exact = weights @ values.astype(float) / weights.sum()
    np.testing.assert_allclose(attend_reference(q, keys, values), exact, atol=1e-5)
