"""Paged causal attention with grouped queries.

Positions are taken in spans of `SPAN`, counted from the start of the sequence. Each span gives a
softmax of its own; the spans' results are merged in order (Milakov and Gimelshein, "Online
normalizer calculation for softmax", 2018). So a result depends neither on the pages nor on how
the sequence was split into batches, and spans can be computed anywhere and at any time.

Several queries share one pass over the keys and values, and none is touched by a position that
it does not see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.kv_cache import BLOCK, VALUE_TILE, Cached, KVLayout, load_kv
from bitnet.kernels.numerics import LANES, exp, f32xL
from bitnet.kernels.span_merge import NO_SCORE, partial_size

SPAN = 256
# Bytes between what is read and what is prefetched. Less comes too late; with more, it is no
# longer in the first cache when it is read.
_AHEAD = 24 << 10
_LINE = 64  # bytes of a cache line


def scale_query(q: Buffer, scaled: Buffer) -> None:
    """scaled = q / sqrt(head_dim), f32[head_dim]: what `attend_span` takes."""
    d = q.known_count
    for i in range(0, d, LANES):
        n = min(LANES, d - i)
        scaled.store(i, q.load(i, n) * (1.0 / math.sqrt(d)))


def attend_span(
    k: Function,
    cached: Cached,
    head: Value,
    start: Value,
    q: Buffer,
    seen: Buffer,
    out: Buffer,
    after: Buffer,
) -> None:
    """Attention of a few queries over one span of a sequence's keys and values.

    head: the kv head; start: the span's first position; q: f32[n * head_dim], scaled queries;
    seen: i64[n], how many positions of the sequence each sees, at least one of the span, never
    fewer than the query before it, and all up to the same block of BLOCK positions; out:
    f32[n * partial_size]; after: a part of a page, the keys that are probably read next.
    """
    if k.module.checked:  # in line, so that it keeps the bounds of the caller's buffers
        _attend_span(k, cached, head, start, q, seen, out, after)
        return

    def body(f: Function) -> None:
        table, layer, head, start, *bases = f.args
        buffers = [
            like.at_address(f, base)
            for base, like in zip(bases, (q, seen, out, after), strict=True)
        ]
        here = Cached(cached.kv, Buffer(f, table, t.i64, 0, "pages"), cached.n_layers, layer)
        _attend_span(f, here, head, start, *buffers)

    name = f"attend_{seen.known_count}"
    function = k.module.function(name, [t.ptr] + [t.i64] * 3 + [t.ptr] * 4, body)
    bases = (buffer.base for buffer in (q, seen, out, after))
    k.call(function, cached.table.base, cached.layer, head, start, *bases)


@dataclass(frozen=True)
class _Span:
    """One span of a kv head, and what a few queries make of it.

    ends: i64[n], how many positions of the span each query sees; rows: f32[n * SPAN], their
    scores, then the weights; totals: f32[n * LANES], the sums of the weights; out, after: see
    `attend_span`.
    """

    cached: Cached
    head: Value
    start: Value
    ends: Buffer
    rows: Buffer
    totals: Buffer
    out: Buffer
    after: Buffer


def _attend_span(
    k: Function,
    cached: Cached,
    head: Value,
    start: Value,
    q: Buffer,
    seen: Buffer,
    out: Buffer,
    after: Buffer,
) -> None:
    n_queries, size = seen.known_count, partial_size(cached.kv)
    ends = Buffer.local(k, t.i64, n_queries, "attention.ends")
    rows = Buffer.local(k, t.f32, n_queries * SPAN, "attention.scores")
    totals = Buffer.local(k, t.f32, n_queries * LANES, "attention.totals")
    s = _Span(cached, head, start, ends, rows, totals, out, after)
    with k.loop(0, n_queries) as i:
        ends[i] = k.min(seen[i] - start, SPAN)
    _scores(k, s, q)
    for zeros in (out, totals):
        with k.loop(0, zeros.known_count, LANES) as i:
            zeros.store(i, k.const(f32xL, 0))
    with k.loop(0, n_queries) as i:
        out[i * size + size - LANES] = _largest(k, rows.part(i * SPAN, SPAN), ends[i])
    page_size = min(cached.kv.page_size, SPAN)
    with k.loop(0, ends[0], page_size) as first:
        _add_values(k, s, first, k.min(first + page_size, ends[0]))
    _add_last_values(k, s)
    with k.loop(0, n_queries) as i:
        out[i * size + size - LANES + 1] = k.reduce(totals.load(i * LANES, LANES), "add")


def _scores(k: Function, s: _Span, q: Buffer) -> None:
    """rows[query][i] = q . key for the positions that the last query sees, and a few more."""
    kv, d, n_queries = s.cached.kv, s.cached.kv.head_dim, s.ends.known_count
    at_once = _at_once(k, n_queries, BLOCK)
    with k.loop(0, s.ends[n_queries - 1], BLOCK) as at:
        page, slot = s.cached.page(s.start + at)
        first = kv.key(s.head, slot)
        next_page, soon = _soon_keys(k, s, at)
        for number, lane in enumerate(range(0, BLOCK, at_once)):
            lanes = range(lane, lane + at_once, LANES)
            sums = {(i, n): k.var(f32xL) for i in range(n_queries) for n in lanes}
            with k.loop(0, d) as dim:
                _prefetch_lines(next_page, soon + (dim + number * d) * at_once, at_once)
                keys = {n: load_kv(k, kv, page, first + dim * BLOCK + n) for n in lanes}
                for i in range(n_queries):
                    x = q[dim + i * d]
                    for n in lanes:
                        sums[i, n].set(k.fma(x, keys[n], sums[i, n].get()))
            for (i, n), total in sums.items():
                s.rows.store(at + (i * SPAN + n), total.get())


def _soon_keys(k: Function, s: _Span, at: Value) -> tuple[Buffer, Value]:
    """Page and index of what to prefetch with the key `at`: keys further on, then the values."""
    kv, end = s.cached.kv, s.ends[s.ends.known_count - 1]
    soon = at + k.min(end, _ahead(kv))
    is_key = soon < end
    page, slot = s.cached.page(s.start + is_key.select(soon, soon - end))
    return page, is_key.select(kv.keys_start(s.head, slot), kv.values_start(s.head, slot))


def _soon_values(k: Function, s: _Span, at: Value) -> tuple[Buffer, Value]:
    """The same with the value `at`: values further on, then the keys that are read after them."""
    kv, end = s.cached.kv, s.ends[0]
    soon = at + k.min(end, _ahead(kv))
    is_value = soon < end
    page, slot = s.cached.page(s.start + k.min(soon, end - 1))
    base = is_value.select(page.base, s.after.base)
    index = is_value.select(kv.values_start(s.head, slot), (soon - end) * kv.head_dim)
    return Buffer(k, base, kv.element, 0, "soon"), index


def _ahead(kv: KVLayout) -> int:
    """_AHEAD in positions, whole blocks."""
    block = BLOCK * kv.head_dim * t.size(kv.element)
    return max(1, _AHEAD // block) * BLOCK


def _prefetch_lines(page: Buffer, index: Value, count: int) -> None:
    """Ask for the cache lines of `count` elements; if that is part of a line, for all of it."""
    for i in range(0, count, _LINE // t.size(page.element)):
        page.prefetch(index + i, again=True)


def _at_once(k: Function, n_queries: int, most: int) -> int:
    """For how many elements of each query's result a pass has registers: a power of two."""
    count = LANES
    while count < most and 2 * count * n_queries <= k.target.accumulators * LANES:
        count *= 2
    return count


def _largest(k: Function, row: Buffer, end: Value) -> Value:
    """The largest of the scores row[:end]; those after them, to a whole vector, are made small."""
    last = (end - 1) // LANES * LANES
    real = (k.iota(t.vec(t.i64, LANES)) + last) < end
    row.store(last, real.select(row.load(last, LANES), NO_SCORE))
    lanes = k.var(f32xL, NO_SCORE)
    with k.loop(0, end, LANES) as i:
        lanes.set(k.max(row.load(i, LANES), lanes.get()))
    return k.reduce(lanes.get(), "max")


def _add_values(k: Function, s: _Span, first: Value, end: Value) -> None:
    """out[query] += weight * value for positions of one page that all queries see.

    Tile by tile, as the values lie in memory. The first tile's pass turns the scores of a block
    into weights just before they are needed: between loads from memory that costs next to nothing.
    """
    kv, n_queries, size = s.cached.kv, s.ends.known_count, partial_size(s.cached.kv)
    at_once = _at_once(k, n_queries, VALUE_TILE)
    for dim in range(0, kv.value_stride, at_once):
        dims = range(dim, min(dim + at_once, kv.value_stride), LANES)
        width = len(dims) * LANES
        places = [(i, n) for i in range(n_queries) for n in dims]
        sums = {(i, n): k.var(f32xL, s.out.load(i * size + n, LANES)) for i, n in places}
        with k.loop(first, end, BLOCK) as at:
            page, slot = s.cached.page(s.start + at)
            read = ((end - first) * dim + (at - first) * width) // kv.value_stride
            next_page, soon = _soon_values(k, s, first + read)
            if dim == 0:
                _weights(k, s, at)
            with k.loop(0, k.min(end - at, BLOCK)) as j:
                _prefetch_lines(next_page, soon + j * width, width)
                values = {n: load_kv(k, kv, page, kv.value(s.head, slot + j, n)) for n in dims}
                for i in range(n_queries):
                    w = s.rows[at + j + i * SPAN]
                    for n in dims:
                        sums[i, n].set(k.fma(w, values[n], sums[i, n].get()))
        for (i, n), total in sums.items():
            s.out.store(i * size + n, total.get())


def _weights(k: Function, s: _Span, at: Value) -> None:
    """Turn the scores of a block into weights e**(score - largest), and add them up."""
    n_queries, size = s.ends.known_count, partial_size(s.cached.kv)
    with k.loop(0, n_queries) as i:
        largest = s.out[i * size + size - LANES]
        total = k.var(f32xL, s.totals.load(i * LANES, LANES))
        with k.loop(at, k.min(at + BLOCK, s.ends[i]), LANES) as j:
            w = exp(k, s.rows.load(i * SPAN + j, LANES) - largest)
            s.rows.store(i * SPAN + j, w)
            total.set(total.get() + w)
        s.totals.store(i * LANES, total.get())


def _add_last_values(k: Function, s: _Span) -> None:
    """What the first query sees, all see; the others go on, each up to its own end."""
    kv, size = s.cached.kv, partial_size(s.cached.kv)
    with k.loop(1, s.ends.known_count) as i, k.loop(s.ends[0], s.ends[i]) as at:
        page, slot = s.cached.page(s.start + at)
        w = s.rows[i * SPAN + at]
        for dim in range(0, kv.value_stride, LANES):
            v = load_kv(k, kv, page, kv.value(s.head, slot, dim))
            total = s.out.load(i * size + dim, LANES)
            s.out.store(i * size + dim, k.fma(w, v, total))
