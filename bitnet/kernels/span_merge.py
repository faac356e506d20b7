"""What attention over one span of positions gives, and how the spans' results become one."""

from __future__ import annotations

from collections.abc import Callable

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.kernels.kv_cache import KVLayout
from bitnet.kernels.numerics import LANES, exp

NO_SCORE = -1e30  # below every real score, and finite: differences stay numbers


def partial_size(kv: KVLayout) -> int:
    """f32 elements of the result of one query over one span.

    The weighted sum of the values [value_stride], the largest score, the sum of the weights.
    """
    return kv.value_stride + LANES


def merge_span(k: Function, partial: Buffer, first: Value, state: Buffer, acc: Buffer) -> None:
    """Add a span's result to what the spans before it gave; `first` says that there are none.

    partial: f32[partial_size]; state: f32[2], the largest score and the sum of the weights so
    far; acc: f32[head_dim], the weighted sum of the values so far.
    """
    end = partial.known_count - LANES
    before = first.select(NO_SCORE, state[0])
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
