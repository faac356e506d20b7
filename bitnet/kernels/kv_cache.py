"""Where keys and values are kept: in pages of `page_size` positions of one sequence.

Within a page of one layer, so that attention reads long runs of memory:
[kv head][its keys, its values];
keys   [page_size / 32][head_dim][32 positions];
values [tile of 64 dimensions][page_size][dimensions of the tile]; the last tile is what is left
       of head_dim, padded with zeros to a multiple of 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.head import STORED, widen
from bitnet.kernels.numerics import LANES

BLOCK = 32  # positions that are neighbours for every dimension of the keys
VALUE_TILE = 64

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
        """head_dim, padded to whole vectors."""
        return -(-self.head_dim // LANES) * LANES

    @property
    def head_elements(self) -> int:
        """Elements of the keys and values of one head in a page."""
        return self.page_size * (self.head_dim + self.value_stride)

    @property
    def page_elements(self) -> int:
        """Elements of one page of one layer."""
        return self.n_kv_heads * self.head_elements

    @property
    def element(self) -> t.Type:
        return STORED[self.kind]

    def key(self, head: Dim, slot: Dim) -> Value | int:
        """Index of dimension 0 of a position's key; dimension d is 32*d further."""
        return head * self.head_elements + slot // BLOCK * (self.head_dim * BLOCK) + slot % BLOCK

    def value_width(self, dim: int) -> int:
        """How many dimensions the tile of values with dimension `dim` has."""
        return min(VALUE_TILE, self.value_stride - dim // VALUE_TILE * VALUE_TILE)

    def value(self, head: Dim, slot: Dim, dim: int) -> Value | int:
        """Index of dimension `dim`, a multiple of 16, of a position's value; 15 more follow."""
        tile, column = dim // VALUE_TILE * VALUE_TILE, dim % VALUE_TILE
        start = (self.head_dim + tile) * self.page_size + column
        return head * self.head_elements + slot * self.value_width(dim) + start

    def keys_start(self, head: Dim, slot: Dim) -> Value | int:
        """Index of the part of a head's keys that follows those of `slot` positions."""
        return head * self.head_elements + slot * self.head_dim

    def values_start(self, head: Dim, slot: Dim) -> Value | int:
        """The same of its values, taken as they come in memory, whatever their tile."""
        return head * self.head_elements + self.page_size * self.head_dim + slot * self.value_stride


@dataclass(frozen=True)
class Cached:
    """The pages of one sequence, seen from one layer.

    table: i64, addresses of the pages in order; each holds all `n_layers`, one after the other.
    """

    kv: KVLayout
    table: Buffer
    n_layers: int
    layer: Value

    def page(self, position: Value) -> tuple[Buffer, Value]:
        """The page of this layer that holds a position, and the position's slot in it."""
        kv, k = self.kv, self.table.k
        address = self.table[position // kv.page_size].to_pointer()
        whole = Buffer(k, address, kv.element, self.n_layers * kv.page_elements, "page")
        page = whole.part(self.layer * kv.page_elements, kv.page_elements)
        return page, position % kv.page_size


def store_kv(
    k: Function, cached: Cached, head: Value, position: Value, key: Buffer, value: Buffer
) -> None:
    """Write one token's key and value of one kv head, f32[head_dim], to their place."""
    kv = cached.kv
    page, slot = cached.page(position)
    first = kv.key(head, slot)
    for dim in range(0, kv.head_dim, LANES):
        n = min(LANES, kv.head_dim - dim)
        stored = _narrow(k, key.load(dim, LANES, valid=n), kv.kind)
        for i in range(n):
            page[first + (dim + i) * BLOCK] = stored.lane(i)
        page.store(kv.value(head, slot, dim), _narrow(k, value.load(dim, LANES, valid=n), kv.kind))


def load_kv(k: Function, kv: KVLayout, page: Buffer, index: Dim) -> Value:
    """16 neighbouring elements of a page as f32."""
    return widen(k, page.load(index, LANES), kv.kind)


def _narrow(k: Function, v: Value, kind: KVKind) -> Value:
    return v if kind == "f32" else k.target.f32_to_f16(k, v)
