"""Choosing the next token from logits.

Order of the filters: penalties, then temperature, top-k, top-p, min-p. Equal logits are ordered
by token id, so a choice is a function of the logits, the parameters and one random number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from bitnet.codegen import Buffer, Function, Module, Value
from bitnet.codegen import types as t
from bitnet.kernels.numerics import F32, LANES, exp, exp_reference, f32xL

_BINS = 2048  # of the histogram that finds a bound below which nothing is among the top k
_BIN_SHIFT = 21
_DIGITS = 256


def scratch_bytes(vocab: int) -> int:
    """Scratch that `sample` needs: two arrays each of keys and ids."""
    return 4 * 4 * (vocab + LANES)


def penalize(module: Module) -> ir.Function:
    """penalize(logits, vocab, ids, counts, n, repetition, frequency, presence).

    For each of the n distinct tokens seen before (ids i32, counts i32): a positive logit is
    divided by `repetition`, a negative one multiplied (Keskar et al., "CTRL", 2019); then
    count * frequency + presence is subtracted (as in OpenAI's API). In place.
    """

    def body(k: Function) -> None:
        vocab, n = k.args[1], k.args[4]
        logits = Buffer(k, k.args[0], t.f32, vocab, "penalize.logits")
        ids = Buffer(k, k.args[2], t.i32, n, "penalize.ids")
        counts = Buffer(k, k.args[3], t.i32, n, "penalize.counts")
        repetition, frequency, presence = k.args[5:8]
        with k.loop(0, n) as i:
            token = ids[i].zext(t.i64)
            logit = logits[token]
            logit = (logit > 0.0).select(logit / repetition, logit * repetition)
            logits[token] = logit - (counts[i].to_float() * frequency + presence)

    args = [t.ptr, t.i64, t.ptr, t.ptr, t.i64, t.f32, t.f32, t.f32]
    return module.function("penalize", args, body, exported=True)


def argmax(module: Module) -> ir.Function:
    """argmax(logits, vocab) -> i64: the largest logit's token, the lowest id among equals."""

    def body(k: Function) -> None:
        vocab = k.args[1]
        logits = Buffer(k, k.args[0], t.f32, vocab, "argmax.logits")
        best = k.var(f32xL, float("-inf"))
        where = k.var(t.vec(t.i64, LANES))
        whole = vocab // LANES * LANES
        with k.loop(0, whole, LANES) as i:
            v = logits.load(i, LANES)
            better = v > best.get()
            best.set(better.select(v, best.get()))
            where.set(better.select(k.iota(t.vec(t.i64, LANES)) + i, where.get()))
        value, token = k.var(t.f32, float("-inf")), k.var(t.i64)

        def consider(v: Value, i: Value) -> None:
            tie = v.equals(value.get()) & i.below(token.get())
            better = (v > value.get()) | tie
            value.set(better.select(v, value.get()))
            token.set(better.select(i, token.get()))

        for lane in range(LANES):
            consider(best.get().lane(lane), where.get().lane(lane))
        with k.loop(whole, vocab) as i:
            consider(logits[i], i)
        k.ret(token.get())

    return module.function("argmax", [t.ptr, t.i64], body, returns=t.i64, exported=True)


def sample(module: Module) -> ir.Function:
    """sample(logits, vocab, temperature, top_k, top_p, min_p, uniform, scratch) -> i64 token.

    temperature f32 > 0; top_k i64, 0 = off; top_p f32 in (0, 1], the smallest set of most likely
    tokens with at least that mass; min_p f32 in [0, 1), relative to the most likely token;
    uniform f64 in [0, 1); scratch: `scratch_bytes(vocab)` bytes.
    """

    def body(k: Function) -> None:
        vocab, temperature, top_k, top_p, min_p, uniform = k.args[1:7]
        logits = Buffer(k, k.args[0], t.f32, vocab, "sample.logits")
        room = vocab + LANES
        parts = [
            Buffer(k, k.args[7], t.i32, room * 4, "sample.scratch").part(room * i, room)
            for i in range(4)
        ]
        limit = ((top_k > 0) & (top_k < vocab)).select(top_k, vocab)
        n = _gather_candidates(k, logits, limit, parts[0], parts[1])
        _sort(k, parts[0], parts[1], parts[2], parts[3], n)
        keep = k.min(n, limit)
        weights = parts[2].as_type(t.f32)
        _weights(k, logits, parts[1], keep, temperature, weights)
        k.ret(_draw(k, weights, parts[1], keep, top_p, min_p, uniform))

    args = [t.ptr, t.i64, t.f32, t.i64, t.f32, t.f32, t.f64, t.ptr]
    return module.function("sample", args, body, returns=t.i64, exported=True)


def _sort_key(logit: Value) -> Value:
    """An unsigned number that grows as the logit falls."""
    bits = (logit + 0.0).bitcast(t.i32)  # adding 0 makes -0 and 0 equal
    return bits ^ ((bits < 0).select(bits.constant(0), bits.constant(0x7FFFFFFF)))


def _gather_candidates(
    k: Function, logits: Buffer, limit: Value, keys: Buffer, ids: Buffer
) -> Value:
    """Keys and ids, in order of id, of all tokens that can be among the `limit` best."""
    counts = Buffer.local(k, t.i32, _BINS, "sample.bins")
    with k.loop(0, _BINS) as i:
        counts[i] = k.const(t.i32, 0)
    with k.loop(0, logits.count) as i:
        at = _sort_key(logits[i]).lshr(_BIN_SHIFT).zext(t.i64)
        counts[at] = counts[at] + 1
    last, below = k.var(t.i64, -1), k.var(t.i64)
    with k.while_(lambda: below.get() < limit):
        last.set(last.get() + 1)
        below.set(below.get() + counts[last.get()].zext(t.i64))
    n = k.var(t.i64)
    with k.loop(0, logits.count) as i:
        key = _sort_key(logits[i])
        with k.if_(key.lshr(_BIN_SHIFT).zext(t.i64) <= last.get()):
            keys[n.get()] = key
            ids[n.get()] = i.trunc(t.i32)
            n.set(n.get() + 1)
    return n.get()


def _sort(k: Function, keys: Buffer, ids: Buffer, keys2: Buffer, ids2: Buffer, n: Value) -> None:
    """Stable radix sort by key, a byte at a time; four passes end where they began."""
    starts = Buffer.local(k, t.i32, _DIGITS, "sample.digits")
    for shift in (0, 8, 16, 24):
        _sort_pass(k, keys, ids, keys2, ids2, n, shift, starts)
        keys, ids, keys2, ids2 = keys2, ids2, keys, ids


def _sort_pass(
    k: Function,
    keys: Buffer,
    ids: Buffer,
    to_keys: Buffer,
    to_ids: Buffer,
    n: Value,
    shift: int,
    starts: Buffer,
) -> None:
    with k.loop(0, _DIGITS) as i:
        starts[i] = k.const(t.i32, 0)
    with k.loop(0, n) as i:
        digit = _digit(keys[i], shift)
        starts[digit] = starts[digit] + 1
    total = k.var(t.i32)
    with k.loop(0, _DIGITS) as i:
        count = starts[i]
        starts[i] = total.get()
        total.set(total.get() + count)
    with k.loop(0, n) as i:
        digit = _digit(keys[i], shift)
        at = starts[digit].zext(t.i64)
        to_keys[at] = keys[i]
        to_ids[at] = ids[i]
        starts[digit] = starts[digit] + 1


def _digit(key: Value, shift: int) -> Value:
    return (key.lshr(shift) & (_DIGITS - 1)).zext(t.i64)


def _weights(
    k: Function, logits: Buffer, ids: Buffer, n: Value, temperature: Value, weights: Buffer
) -> None:
    """weights[i] = exp((logit[i] - largest) / temperature) in sorted order; weights[0] is 1."""
    largest = logits[ids[0].zext(t.i64)]
    with k.loop(0, n) as i:
        logit = logits[ids[i].zext(t.i64)]
        weights[i] = exp(k, (logit - largest) / temperature)


def _draw(
    k: Function, weights: Buffer, ids: Buffer, n: Value, top_p: Value, min_p: Value, uniform: Value
) -> Value:
    total = k.var(t.f64)
    with k.loop(0, n) as i:
        total.set(total.get() + weights[i].widen(t.f64))
    enough = total.get() * top_p.widen(t.f64)
    kept, mass = k.var(t.i64), k.var(t.f64)

    def another() -> Value:
        in_mass = (mass.get() < enough) | kept.get().equals(0)
        at = k.min(kept.get(), n - 1)
        return (kept.get() < n) & in_mass & (weights[at] >= min_p)

    with k.while_(another):
        mass.set(mass.get() + weights[kept.get()].widen(t.f64))
        kept.set(kept.get() + 1)
    bound = mass.get() * uniform
    chosen, passed = k.var(t.i64), k.var(t.f64, weights[0].widen(t.f64))
    with k.while_(lambda: (passed.get() <= bound) & (chosen.get() < kept.get() - 1)):
        chosen.set(chosen.get() + 1)
        passed.set(passed.get() + weights[chosen.get()].widen(t.f64))
    return ids[chosen.get()].zext(t.i64)


# -- references ----------------------------------------------------------------------------------


def penalize_reference(
    logits: F32,
    ids: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    repetition: float,
    frequency: float,
    presence: float,
) -> F32:
    out, f = logits.copy(), np.float32
    seen = out[ids]
    seen = np.where(seen > 0, seen / f(repetition), seen * f(repetition))
    out[ids] = seen - (counts.astype(f) * f(frequency) + f(presence))
    return out


def sample_reference(
    logits: F32, temperature: float, top_k: int, top_p: float, min_p: float, uniform: float
) -> int:
    order = np.lexsort((np.arange(len(logits)), -logits))
    order = order[: top_k or None]
    weights = exp_reference((logits[order] - logits[order[0]]) / np.float32(temperature))
    cumulative = np.cumsum(weights.astype(np.float64))
    kept = 1 + int(np.sum(cumulative[:-1] < cumulative[-1] * np.float64(np.float32(top_p))))
    kept = max(1, min(kept, int(np.sum(weights >= np.float32(min_p)))))
    bound = cumulative[kept - 1] * uniform
    chosen = int(np.searchsorted(cumulative[:kept], bound, side="right"))
    return int(order[min(chosen, kept - 1)])
