"""Pages of a KV cache in numpy, as the layout says."""

from __future__ import annotations

import numpy as np

from bitnet.kernels.kv_cache import BLOCK, VALUE_TILE, KVKind, KVLayout
from tests.kernels.harness import Array

DTYPES: dict[KVKind, type] = {"f16": np.float16, "f32": np.float32}
N_LAYERS, LAYER = 2, 1  # of the pages, and which of them the tests use


def new_pages(kv: KVLayout, n_pages: int) -> Array:
    """Pages as they come from the allocator: full of old numbers, here NaN."""
    return np.full((n_pages, N_LAYERS, kv.page_elements), np.nan, DTYPES[kv.kind])


def keys_of(kv: KVLayout, page: Array) -> Array:
    """A view of one layer's keys: (kv head, block, dimension, position of the block)."""
    heads = page.reshape(kv.n_kv_heads, -1)[:, : kv.page_size * kv.head_dim]
    return heads.reshape(kv.n_kv_heads, -1, kv.head_dim, BLOCK)


def values_of(kv: KVLayout, page: Array) -> list[Array]:
    """Views of one layer's tiles of values: (kv head, slot, dimension of the tile) each."""
    heads = page.reshape(kv.n_kv_heads, -1)[:, kv.page_size * kv.head_dim :]
    starts = range(0, kv.value_stride, VALUE_TILE)
    parts = np.split(heads, [kv.page_size * start for start in starts][1:], axis=1)
    return [part.reshape(kv.n_kv_heads, kv.page_size, -1) for part in parts]


def paged(kv: KVLayout, table: Array, keys: Array, values: Array) -> Array:
    """Pages that hold keys and values (positions, kv heads, head_dim); page i is table[i]."""
    pages = new_pages(kv, len(table))
    padding = kv.value_stride - kv.head_dim
    padded = np.pad(values, [(0, 0), (0, 0), (0, padding)])
    for position in range(len(keys)):
        page = pages[table[position // kv.page_size], LAYER]
        slot = position % kv.page_size
        keys_of(kv, page)[:, slot // BLOCK, :, slot % BLOCK] = keys[position]
        for i, tile in enumerate(values_of(kv, page)):
            start = i * VALUE_TILE
            tile[:, slot] = padded[position, :, start : start + tile.shape[2]]
    return pages
