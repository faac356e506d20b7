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

from bitnet.codegen import Buffer, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.kv_cache import BLOCK, VALUE_TILE, Cached, load_kv
from bitnet.kernels.numerics import LANES, exp, f32xL
from bitnet.kernels.span_merge import NO_SCORE, partial_size

SPAN = 256
# How many positions' keys, or values, lie between what is read and what is prefetched: 32 KB for
# 128 dimensions of f16. Less comes too late; more no longer fits into the first cache.
_AHEAD = 128
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
    rows = Buffer.local(k, t.f32, n_queries * SPAN, "attention.scores")
    ends = Buffer.local(k, t.i64, n_queries, "attention.ends")
    with k.loop(0, n_queries) as i:
        ends[i] = k.min(seen[i] - start, SPAN)
    _scores(k, cached, head, start, ends[n_queries - 1], q, rows)
    with k.loop(0, n_queries) as i:
        out[i * size + size - LANES] = _largest(k, rows.part(i * SPAN, SPAN), ends[i])
    _weighted_values(k, cached, head, start, ends, rows, out, after)
    # What the first query sees, all see; the others go on, each up to its own end.
    with k.loop(1, n_queries) as i, k.loop(ends[0], ends[i]) as at:
        page, slot = cached.page(start + at)
        w = rows[i * SPAN + at]
        for dim in range(0, cached.kv.value_stride, LANES):
            v = load_kv(k, cached.kv, page, cached.kv.value(head, slot, dim))
            total = out.load(i * size + dim, LANES)
            out.store(i * size + dim, k.fma(w, v, total))


def _scores(
    k: Function, cached: Cached, head: Value, start: Value, end: Value, q: Buffer, rows: Buffer
) -> None:
    """rows[query][i] = q . key for the span's positions i < end, and a few more."""
    kv = cached.kv
    d, n_queries = kv.head_dim, q.known_count // kv.head_dim
    at_once = _at_once(k, n_queries, BLOCK)
    with k.loop(0, end, BLOCK) as at:
        page, slot = cached.page(start + at)
        first = kv.key(head, slot)
        next_page, soon = _soon_keys(k, cached, head, start, at, end)
        for done, lane in enumerate(range(0, BLOCK, at_once)):
            lanes = range(lane, lane + at_once, LANES)
            sums = {(i, n): k.var(f32xL) for i in range(n_queries) for n in lanes}
            with k.loop(0, d) as dim:
                _prefetch_lines(next_page, soon + (dim + done * d) * at_once, at_once)
                keys = {n: load_kv(k, kv, page, first + dim * BLOCK + n) for n in lanes}
                for i in range(n_queries):
                    x = q[dim + i * d]
                    for n in lanes:
                        sums[i, n].set(k.fma(x, keys[n], sums[i, n].get()))
            for (i, n), total in sums.items():
                rows.store(at + (i * SPAN + n), total.get())


def _soon_keys(
    k: Function, cached: Cached, head: Value, start: Value, at: Value, end: Value
) -> tuple[Buffer, Value]:
    """What to prefetch with the key `at` of a span with `end` keys: others, then its values."""
    kv = cached.kv
    soon = at + k.min(end, _AHEAD)
    is_key = soon < end
    page, slot = cached.page(start + is_key.select(soon, soon - end))
    return page, is_key.select(kv.keys_start(head, slot), kv.values_start(head, slot))


def _soon_values(
    k: Function, cached: Cached, head: Value, start: Value, at: Value, end: Value, after: Buffer
) -> tuple[Buffer, Value]:
    """The same for the value `at`, counted as they come in memory: others, then what follows."""
    kv = cached.kv
    soon = at + k.min(end, _AHEAD)
    is_value = soon < end
    page, slot = cached.page(start + k.min(soon, end - 1))
    base = is_value.select(page.base, after.base)
    index = is_value.select(kv.values_start(head, slot), (soon - end) * kv.head_dim)
    return Buffer(k, base, kv.element, 0, "soon"), index


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


def _weighted_values(
    k: Function,
    cached: Cached,
    head: Value,
    start: Value,
    ends: Buffer,
    rows: Buffer,
    out: Buffer,
    after: Buffer,
) -> None:
    """out[query] = sum of weight * value over the positions that all queries see; and their sum.

    The first pass turns the scores of a block into weights just before it needs them: between
    loads from memory that costs next to nothing.
    """
    kv, end = cached.kv, ends[0]
    n_queries, size = ends.known_count, partial_size(kv)
    at_once = _at_once(k, n_queries, VALUE_TILE)
    totals = Buffer.local(k, t.f32, n_queries * LANES, "attention.totals")
    with k.loop(0, n_queries * LANES, LANES) as i:
        totals.store(i, k.const(f32xL, 0))
    for dim in range(0, kv.value_stride, at_once):
        dims = range(dim, min(dim + at_once, kv.value_stride), LANES)
        width = len(dims) * LANES
        sums = {(query, n): k.var(f32xL) for query in range(n_queries) for n in dims}
        with k.loop(0, end, BLOCK) as at:
            page, slot = cached.page(start + at)
            done = (end * dim + at * width) // kv.value_stride
            next_page, soon = _soon_values(k, cached, head, start, done, end, after)
            if dim == 0:
                _weights(k, at, ends, rows, out, totals)
            with k.loop(0, k.min(end - at, BLOCK)) as j:
                _prefetch_lines(next_page, soon + j * width, width)
                values = {n: load_kv(k, kv, page, kv.value(head, slot + j, n)) for n in dims}
                for query in range(n_queries):
                    w = rows[at + j + query * SPAN]
                    for n in dims:
                        sums[query, n].set(k.fma(w, values[n], sums[query, n].get()))
        for (query, n), total in sums.items():
            out.store(query * size + n, total.get())
    with k.loop(0, n_queries) as i:
        out[i * size + size - LANES + 1] = k.reduce(totals.load(i * LANES, LANES), "add")


def _weights(
    k: Function, at: Value, ends: Buffer, rows: Buffer, out: Buffer, totals: Buffer
) -> None:
    """Turn a block's scores into weights e**(score - largest), and add them to totals[query]."""
    size = out.known_count // ends.known_count
    with k.loop(0, ends.known_count) as i:
        largest = out[i * size + size - LANES]
        total = k.var(f32xL, totals.load(i * LANES, LANES))
        with k.loop(at, k.min(at + BLOCK, ends[i]), LANES) as j:
            w = exp(k, rows.load(i * SPAN + j, LANES) - largest)
            rows.store(i * SPAN + j, w)
            total.set(total.get() + w)
        totals.store(i * LANES, total.get())
