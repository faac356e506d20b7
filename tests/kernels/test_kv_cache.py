"""Where keys and values are kept."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.head import STORED
from bitnet.kernels.kv_cache import BLOCK, Cached, KVLayout, store_kv
from tests.kernels.harness import Native, assert_same_bits, f32, few, kernel, seeds
from tests.kernels.kv_pages import DTYPES, LAYER, N_LAYERS, keys_of, new_pages, paged, values_of

LAYOUTS = [
    KVLayout(n_kv_heads=1, head_dim=2, page_size=32, kind="f32"),
    KVLayout(n_kv_heads=2, head_dim=20, page_size=32, kind="f16"),
    KVLayout(n_kv_heads=3, head_dim=64, page_size=64, kind="f16"),
    KVLayout(n_kv_heads=2, head_dim=66, page_size=96, kind="f32"),
    KVLayout(n_kv_heads=1, head_dim=200, page_size=128, kind="f16"),
]
layouts = st.sampled_from(LAYOUTS)


@cache
def store_kernel(target: Target, checked: bool, kv: KVLayout) -> Native:
    def body(
        k: Function, page: Buffer, head: Value, position: Value, key: Buffer, value: Buffer
    ) -> None:
        table = Buffer.local(k, t.i64, 2, "page_table")
        table[1] = Value(k.builder, k.builder.ptrtoint(page.base.ir, t.i64))
        store_kv(k, Cached(kv, table, N_LAYERS, k.index(LAYER)), head, position, key, value)

    row = (t.f32, kv.head_dim)
    page = (STORED[kv.kind], N_LAYERS * kv.page_elements)
    parameters = {"page": page, "head": t.i64, "position": t.i64, "key": row, "value": row}
    return kernel(target, checked, parameters, body)


@given(seeds, layouts, st.integers(0, 127), st.integers(0, 2))
@few
def test_a_token_is_stored_in_its_slot_and_nowhere_else(
    target: Target, checked: bool, seed: int, kv: KVLayout, slot: int, head: int
) -> None:
    slot, head = slot % kv.page_size, head % kv.n_kv_heads
    key, value = f32(np.random.default_rng(seed).standard_normal((2, kv.head_dim)))
    pages = new_pages(kv, 1)
    store_kernel(target, checked, kv)(pages, head, kv.page_size + slot, key, value)
    page = pages[0, LAYER]
    stored = keys_of(kv, page)[head, slot // BLOCK, :, slot % BLOCK]
    assert_same_bits(stored.copy(), key.astype(page.dtype))
    stored = np.concatenate([tile[head, slot] for tile in values_of(kv, page)])
    assert_same_bits(stored[: kv.head_dim].copy(), value.astype(page.dtype))
    assert not stored[kv.head_dim :].any()
    assert np.isnan(pages).sum() == pages.size - kv.head_dim - kv.value_stride


@given(layouts)
def test_keys_and_values_fill_a_page_without_overlap(kv: KVLayout) -> None:
    shape = (kv.page_size, kv.n_kv_heads, kv.head_dim)
    pages = paged(kv, np.zeros(1, int), *np.ones((2, *shape), DTYPES[kv.kind]))
    padding = kv.n_kv_heads * kv.page_size * (kv.value_stride - kv.head_dim)
    assert (pages[0, LAYER] == 1).sum() == 2 * np.prod(shape)
    assert (pages[0, LAYER] == 0).sum() == padding


@given(layouts, st.data())
def test_indices_are_those_of_the_layout(kv: KVLayout, data: st.DataObject) -> None:
    head = data.draw(st.integers(0, kv.n_kv_heads - 1))
    slot = data.draw(st.integers(0, kv.page_size - 1))
    dim = data.draw(st.integers(0, kv.head_dim - 1))
    page = np.arange(kv.page_elements)
    assert (
        kv.key(head, slot) + dim * BLOCK == keys_of(kv, page)[head, slot // BLOCK, dim, slot % 32]
    )
    rows = np.concatenate([tile[head, slot] for tile in values_of(kv, page)])
    assert kv.value(head, slot, dim // 16 * 16) + dim % 16 == rows[dim]


@given(layouts, st.data())
def test_what_is_read_in_order_lies_in_order(kv: KVLayout, data: st.DataObject) -> None:
    """A head's keys block by block, then its values, then the next head."""
    head = data.draw(st.integers(0, kv.n_kv_heads - 1))
    slot = data.draw(st.integers(0, kv.page_size // BLOCK - 1)) * BLOCK
    assert kv.keys_start(head, slot) == kv.key(head, slot)
    assert kv.values_start(head, 0) == kv.value(head, 0, 0)
    assert kv.keys_start(head, kv.page_size) == kv.values_start(head, 0)
    assert kv.values_start(head, kv.page_size) == kv.keys_start(head + 1, 0)
    assert kv.keys_start(kv.n_kv_heads, 0) == kv.page_elements
