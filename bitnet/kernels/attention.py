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
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.kv_cache import BLOCK, VALUE_TILE, Cached, KVLayout, load_kv
from bitnet.kernels.numerics import (
    F32,
    LANES,
    exp,
    exp_reference,
    f32xL,
    fma_reference,
    pad_reference,
    tree_reference,
)

SPAN = 256
# Positions between what is being used and what is prefetched: 16 KB for 128 dimensions of f16.
_KEYS_AHEAD, _VALUES_AHEAD = 64, 128
_LINE = 64  # bytes of a cache line
_NO_SCORE = -1e30  # below every real score, and finite: differences stay numbers


def partial_size(kv: KVLayout) -> int:
    """f32 elements of the result of one query over one span.

    The weighted sum of the values [value_stride], the largest score, the sum of the weights.
    """
    return kv.value_stride + LANES


def scale_query(q: Buffer, scaled: Buffer) -> None:
    """scaled = q / sqrt(head_dim), f32[head_dim]: what `attend_span` takes."""
    d = q.known_count
    for i in range(0, d, LANES):
        n = min(LANES, d - i)
        scaled.store(i, q.load(i, n) * (1.0 / math.sqrt(d)))


def attend_span(
    k: Function, cached: Cached, head: Value, start: Value, q: Buffer, seen: Buffer, out: Buffer
) -> None:
    """Attention of a few queries over one span of a sequence's keys and values.

    head: the kv head; start: the span's first position; q: f32[n * head_dim], scaled queries;
    seen: i64[n], how many positions of the sequence each sees, at least one of the span and
    never fewer than the query before it; out: f32[n * partial_size].
    """
    if k.module.checked:  # in line, so that it keeps the bounds of the caller's buffers
        _attend_span(k, cached, head, start, q, seen, out)
        return

    def body(f: Function) -> None:
        table, layer, head, start, *buffers = f.args
        arguments = [
            Buffer(f, base, like.element, like.count, like.name)
            for base, like in zip(buffers, (q, seen, out), strict=True)
        ]
        here = Cached(cached.kv, Buffer(f, table, t.i64, 0, "pages"), cached.n_layers, layer)
        _attend_span(f, here, head, start, *arguments)

    name = f"attend_{seen.known_count}"
    function = k.module.function(name, [t.ptr] + [t.i64] * 3 + [t.ptr] * 3, body)
    k.call(function, cached.table.base, cached.layer, head, start, q.base, seen.base, out.base)


def _attend_span(
    k: Function, cached: Cached, head: Value, start: Value, q: Buffer, seen: Buffer, out: Buffer
) -> None:
    n_queries, size = seen.known_count, partial_size(cached.kv)
    rows = Buffer.local(k, t.f32, n_queries * SPAN, "attention.scores")
    ends = [k.min(seen[i] - start, SPAN) for i in range(n_queries)]
    _scores(k, cached, head, start, ends[-1], q, rows)
    with k.loop(0, n_queries) as i:
        result = out.part(i * size, size)
        end = k.min(seen[i] - start, SPAN)
        _softmax(k, rows.part(i * SPAN, SPAN), end, result.part(size - LANES, LANES))
    _weighted_values(k, cached, head, start, ends[0], rows, out)
    # What the first query sees, all see; the others go on, each up to its own end.
    with k.loop(1, n_queries) as i:
        end = k.min(seen[i] - start, SPAN)
        with k.loop(ends[0], end) as at:
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
        next_page, next_slot, inside = _soon(k, cached, start, at + _KEYS_AHEAD, end)
        soon = inside.select(kv.key(head, next_slot), kv.value(head, next_slot, 0))
        for lane in range(0, BLOCK, at_once):
            lanes = range(lane, lane + at_once, LANES)
            sums = {(i, n): k.var(f32xL) for i in range(n_queries) for n in lanes}
            with k.loop(0, d) as dim:
                for n in _line_starts(kv, lanes):
                    next_page.prefetch(soon + dim * BLOCK + n, again=True)
                keys = {n: load_kv(k, kv, page, first + dim * BLOCK + n) for n in lanes}
                for i in range(n_queries):
                    x = q[dim + i * d]
                    for n in lanes:
                        sums[i, n].set(k.fma(x, keys[n], sums[i, n].get()))
            for (i, n), total in sums.items():
                rows.store(at + (i * SPAN + n), total.get())


def _soon(
    k: Function, cached: Cached, start: Value, position: Value, end: Value
) -> tuple[Buffer, Value, Value]:
    """Where to prefetch: the page and slot of `position`, and whether it is before `end`.

    If it is not, they are those of a position near the start of the span, where the next pass
    begins. A position there counts twice: a key of 128 dimensions takes the bytes of two rows of
    a tile of values.
    """
    inside = position < end
    again = k.min((position - end) * 2, end - 1)
    page, slot = cached.page(start + inside.select(position, again))
    return page, slot, inside


def _line_starts(kv: KVLayout, elements: range) -> list[int]:
    """Those of a run of elements of a page where a cache line starts."""
    return [i for i in elements if i * t.size(kv.element) % _LINE == 0]


def _at_once(k: Function, n_queries: int, most: int) -> int:
    """For how many elements of each query's result a pass has registers: a power of two."""
    count = LANES
    while count < most and 2 * count * n_queries <= k.target.accumulators * LANES:
        count *= 2
    return count


def _softmax(k: Function, row: Buffer, end: Value, result: Buffer) -> None:
    """Turn the scores row[:end] into weights e**(score - largest); result: largest, total."""
    last = (end - 1) // LANES * LANES
    real = (k.iota(t.vec(t.i64, LANES)) + last) < end
    row.store(last, real.select(row.load(last, LANES), _NO_SCORE))
    lanes = k.var(f32xL, _NO_SCORE)
    with k.loop(0, end, LANES) as i:
        lanes.set(k.max(row.load(i, LANES), lanes.get()))
    largest = k.reduce(lanes.get(), "max")
    total = k.var(f32xL)
    with k.loop(0, end, LANES) as i:
        w = exp(k, row.load(i, LANES) - largest)
        row.store(i, w)
        total.set(total.get() + w)
    result[0] = largest
    result[1] = k.reduce(total.get(), "add")


def _weighted_values(
    k: Function, cached: Cached, head: Value, start: Value, end: Value, rows: Buffer, out: Buffer
) -> None:
    """out[query] = sum of rows[query][i] * value over the span's positions i < end."""
    kv = cached.kv
    n_queries, size = rows.known_count // SPAN, partial_size(kv)
    at_once = _at_once(k, n_queries, VALUE_TILE)
    for dim in range(0, kv.value_stride, at_once):
        dims = range(dim, min(dim + at_once, kv.value_stride), LANES)
        next_dim = min(dim + at_once, kv.value_stride - LANES)
        sums = {(i, n): k.var(f32xL) for i in range(n_queries) for n in dims}
        with k.loop(0, end, BLOCK) as at:
            page, slot = cached.page(start + at)
            next_page, next_slot, inside = _soon(k, cached, start, at + _VALUES_AHEAD, end)
            soon = inside.select(
                kv.value(head, next_slot, dim), kv.value(head, next_slot, next_dim)
            )
            with k.loop(0, k.min(end - at, BLOCK)) as j:
                for n in _line_starts(kv, dims):
                    next_page.prefetch(soon + j * kv.value_width(dim) + (n - dim), again=True)
                values = {n: load_kv(k, kv, page, kv.value(head, slot + j, n)) for n in dims}
                for i in range(n_queries):
                    w = rows[at + j + i * SPAN]
                    for n in dims:
                        sums[i, n].set(k.fma(w, values[n], sums[i, n].get()))
        for (i, n), total in sums.items():
            out.store(i * size + n, total.get())


def merge_span(k: Function, partial: Buffer, first: Value, state: Buffer, acc: Buffer) -> None:
    """Add a span's result to what the spans before it gave; `first` says that there are none.

    partial: f32[partial_size]; state: f32[2], the largest score and the sum of the weights so
    far; acc: f32[head_dim], the weighted sum of the values so far.
    """
    end = partial.known_count - LANES
    before = first.select(_NO_SCORE, state[0])
    largest = k.max(partial[end], before)
    keep, add = exp(k, before - largest), exp(k, partial[end] - largest)
    state[0] = largest
    state[1] = k.fma(first.select(0.0, state[1]), keep, partial[end + 1] * add)

    def merge(i: Dim, n: int) -> None:
        sums = acc.load(i, n)
        sums = first.select(k.const(sums.type, 0.0), sums)
        acc.store(i, k.fma(sums, keep, partial.load(i, n) * add))

    _each_vector(k, acc.known_count, merge)


def finish(k: Function, state: Buffer, acc: Buffer) -> None:
    """Turn the weighted sum of the values into their weighted mean; see `merge_span`."""
    total = state[1]
    _each_vector(k, acc.known_count, lambda i, n: acc.store(i, acc.load(i, n) / total))


def _each_vector(k: Function, count: int, write: Callable[[Dim, int], None]) -> None:
    """write(i, n) for each vector of n <= 16 of `count` elements."""
    whole = count // LANES * LANES
    with k.loop(0, whole, LANES) as i:
        write(i, LANES)
    if whole < count:
        write(whole, count - whole)


def attend_reference(q: F32, keys: F32, values: F32, seen: npt.NDArray[np.int64]) -> F32:
    """One head: q (m, d), keys and values (n, d) as stored, seen (m,) up to n; gives (m, d)."""
    q = q * np.float32(1 / math.sqrt(q.shape[1]))
    largest = np.full(len(q), _NO_SCORE, np.float32)
    total, acc = np.zeros_like(largest), np.zeros_like(q)
    for start in range(0, len(keys), SPAN):
        span, rows = slice(start, start + SPAN), seen > start
        before = largest[rows], total[rows], acc[rows]
        result = _span_reference(q[rows], keys[span], values[span], seen[rows] - start)
        largest[rows], total[rows], acc[rows] = _merge_reference(before, result)
    return acc / total[:, None]


def _span_reference(
    q: F32, keys: F32, values: F32, seen: npt.NDArray[np.int64]
) -> tuple[F32, F32, F32]:
    """Largest score (m,), sum of the weights (m,), weighted sum of the values (m, d)."""
    scores = np.zeros((len(q), len(keys)), np.float32)
    for d in range(q.shape[1]):
        scores = fma_reference(q[:, d, None], keys[:, d], scores)
    scores[np.arange(len(keys)) >= seen[:, None]] = _NO_SCORE
    largest = scores.max(axis=1)
    weights = exp_reference(scores - largest[:, None])
    lanes = np.zeros((len(q), LANES), np.float32)
    for i in range(0, len(keys), LANES):
        lanes = lanes + pad_reference(weights[:, i : i + LANES], LANES)
    acc = np.zeros_like(q)
    for i, value in enumerate(values):
        see = seen > i
        acc[see] = fma_reference(weights[see, i, None], value, acc[see])
    return largest, tree_reference(lanes), acc


def _merge_reference(
    before: tuple[F32, F32, F32], span: tuple[F32, F32, F32]
) -> tuple[F32, F32, F32]:
    largest = np.maximum(before[0], span[0])
    keep, add = exp_reference(before[0] - largest), exp_reference(span[0] - largest)
    total = fma_reference(before[1], keep, span[1] * add)
    acc = fma_reference(before[2], keep[:, None], span[2] * add[:, None])
    return largest, total, acc
