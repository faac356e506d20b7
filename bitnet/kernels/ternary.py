"""Ternary matrix times int8 activations: exact integers, so any order gives the same sums.

sum((w+1) * q) - sum(q) = sum(w * q), where w+1 is the stored code; `layouts` says how the codes lie
in memory. A work item is a block of 64 rows times all tokens, a few tokens at a time.

A tile masked with 3 << 2j leaves codes shifted left by 2j as unsigned bytes: where there are
registers for an accumulator per shift, no weight is ever shifted, only the sums are, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Buffer, Dim, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.layouts import Field, TiledLayout, i8x64
from bitnet.kernels.numerics import F32
from bitnet.quant.tiled import GROUP_ROWS, GROUP_TILES, TILE, TILE_BYTES, Codes

BLOCK_ROWS = 64
BLOCK_GROUPS = BLOCK_ROWS // GROUP_ROWS

# One token's accumulators hold sums of 2 * 64 * 127: beyond this they could overflow 32 bits.
MAX_COLUMNS = 2**19


@dataclass(frozen=True)
class Blocking:
    """How a multiplication walks through memory; it changes no result.

    prefetch_bytes: how far ahead of their use weights are fetched.
    tokens_at_once: how many tokens meet the weights that are in registers, at most; with more
        than a target has accumulators for it would have to keep sums in memory.
    """

    prefetch_bytes: int = 8192
    tokens_at_once: int = 8

    def tokens(self, target: Target) -> int:
        """How many tokens a tiled matrix is multiplied with at once."""
        return min(self.tokens_at_once, target.accumulators)


DEFAULT_BLOCKING = Blocking()

# (first token, how many, sums): fills sums, i32[tokens * 64], with the sums of code * q.
Multiply = Callable[[Value, int, Buffer], None]
# (token, sums): takes the sums of 64 rows as four i32x16.
Use = Callable[[Value, list[Value]], None]


def for_all_tokens(k: Function, n_tokens: Dim, most: int, multiply: Multiply, use: Use) -> None:
    """Multiply 64 rows with every token, up to `most` of them at once, and hand out the sums."""
    sums = Buffer.local(k, t.i32, most * BLOCK_ROWS, "ternary.sums")
    done = k.var(t.i64)
    total = k.index(n_tokens)

    def block(count: int) -> None:
        first = done.get()
        multiply(first, count, sums)
        with k.loop(0, count) as i:
            row = sums.part(i * BLOCK_ROWS, BLOCK_ROWS)
            use(first + i, [row.load(start, TILE) for start in range(0, BLOCK_ROWS, TILE)])
        done.set(first + count)

    with k.while_(lambda: done.get() + most <= total):
        block(most)
    for count in (8, 4, 3, 2, 1):
        if count < most:
            with k.if_(done.get() + count <= total):
                block(count)


def tiled_block(
    k: Function,
    layout: TiledLayout,
    weights: Buffer,
    q: Buffer,
    columns: int,
    n_tokens: Dim,
    use: Use,
    blocking: Blocking = DEFAULT_BLOCKING,
) -> None:
    """Multiply 64 rows of a tiled matrix with every token of a batch.

    weights: i8[2 * group_bytes(columns)]; q: i8[n_tokens * q_width(columns)].
    """
    width = layout.q_width(columns)

    def multiply(first: Value, count: int, sums: Buffer) -> None:
        part = q.part(first * width, count * width)
        tiled_dot(k, layout, weights, part, sums, columns, count, blocking.prefetch_bytes)

    for_all_tokens(k, n_tokens, blocking.tokens(k.target), multiply, use)


def as_function(
    k: Function, name: str, buffers: Sequence[Buffer], body: Callable[..., None]
) -> None:
    """body(k, *buffers) as a function of its own, so that its code is shared by all who call it.

    That also keeps its loads at one place: prefetchers know streams by the address of the load, and
    lose track of one that goes on at another (15 GB/s instead of 33 on a Zen 5).
    """
    if k.module.checked:  # in line, so that it keeps the bounds of the caller's buffers
        body(k, *buffers)
        return

    def write(f: Function) -> None:
        body(f, *(b.at_address(f, base) for b, base in zip(buffers, f.args, strict=True)))

    function = k.module.function(name, [t.ptr] * len(buffers), write)
    function.attributes.add("noinline")
    k.call(function, *(b.base for b in buffers))


def tiled_dot(
    k: Function,
    layout: TiledLayout,
    weights: Buffer,
    q: Buffer,
    sums: Buffer,
    columns: int,
    tokens: int,
    prefetch_bytes: int = DEFAULT_BLOCKING.prefetch_bytes,
) -> None:
    """sums[token][64 rows] = sum of code * q, for 64 rows and a few tokens.

    weights: i8[2 * group_bytes(columns)]; q: i8[tokens * q_width(columns)]; sums: i32[tokens * 64].
    """
    size = layout.group_bytes(columns)
    with k.loop(0, BLOCK_GROUPS) as group:
        as_function(
            k,
            f"ternary_{layout.name}_{columns}x{tokens}",
            [
                weights.part(group * size, size),
                q,
                sums.part(group * GROUP_ROWS, tokens * BLOCK_ROWS - GROUP_ROWS),
            ],
            lambda f, w, x, s: _dot_group(f, layout, w, x, s, columns, tokens, prefetch_bytes),
        )


def _dot_group(
    k: Function,
    layout: TiledLayout,
    weights: Buffer,
    q: Buffer,
    sums: Buffer,
    columns: int,
    tokens: int,
    prefetch_bytes: int,
) -> None:
    """32 rows of `tiled_dot`; the sums of the next token are 64 further."""
    at_once = max(1, min(GROUP_TILES, k.target.accumulators // tokens))
    n_shifts = shifts_for(k.target, tokens * at_once)
    for first in range(0, GROUP_TILES, at_once):
        tiles = range(first, first + at_once)
        results = _dot_tiles(
            k, layout, weights, q, columns, tokens, tiles, n_shifts, prefetch_bytes
        )
        for (tile, token), result in results.items():
            sums.store(token * BLOCK_ROWS + tile * TILE, result)


def shifts_for(target: Target, sums: int) -> int:
    """How many accumulators, one for each shift of the codes, there can be for each of `sums`."""
    # Codes shifted by six bits leave no room for a sign in their byte, nor for a second product in
    # 16 bits.
    n_shifts = 4 if target.partial_limit is None and target.largest_code >= 2 << 6 else 2
    while n_shifts > 1 and sums * n_shifts > target.accumulators:
        n_shifts //= 2
    return n_shifts


def _dot_tiles(
    k: Function,
    layout: TiledLayout,
    weights: Buffer,
    q: Buffer,
    columns: int,
    tokens: int,
    tiles: range,
    n_shifts: int,
    prefetch_bytes: int,
) -> dict[tuple[int, int], Value]:
    """Sums of code * q of (tile, token), for some tiles of one group."""
    acc = Accumulators(k, [(tile, token) for tile in tiles for token in range(tokens)], n_shifts)
    stride, per_tile = layout.q_width(columns) // 4, layout.step // 4
    words = q.as_type(t.i32)

    def step(number: Value) -> None:
        at = number * (GROUP_TILES * TILE_BYTES)
        fields = []
        for tile in tiles:
            weights.prefetch(at + (tile * TILE_BYTES + prefetch_bytes))
            packed = weights.load(at + tile * TILE_BYTES, TILE_BYTES)
            fields.append(layout.fields(k, packed, n_shifts))
        for j in range(per_tile):
            for token in range(tokens):
                four = words[number * per_tile + (token * stride + j)].splat(TILE).bitcast(i8x64)
                for tile, tile_fields in zip(tiles, fields, strict=True):
                    acc.add((tile, token), tile_fields[j], four)

    acc.run(layout.columns(columns) // layout.step, per_tile, step)
    return acc.results()


class Accumulators:
    """Sums of products, one for each key, kept as a partial for each shift of the codes."""

    def __init__(self, k: Function, keys: Sequence[tuple[int, int]], n_shifts: int) -> None:
        self._k = k
        self._shifts = range(0, 2 * n_shifts, 2)
        self._partials = {
            (key, shift): k.var(k.target.partial) for key in keys for shift in self._shifts
        }
        self._totals = {name: k.var(t.vec(t.i32, TILE)) for name in self._partials}

    def add(self, key: tuple[int, int], field: Field, activations: Value) -> None:
        """Add the products of a field's codes and the activations they meet, i8x64."""
        partial = self._partials[key, field.shift]
        k = self._k
        partial.set(k.target.dot4_partial(k, partial.get(), field.codes, activations))

    def run(self, n_steps: int, fields: int, step: Callable[[Value], None]) -> None:
        """Run `step(number)`, which adds `fields` fields to each key, for all numbers."""
        k, limit = self._k, self._k.target.partial_limit
        if limit is None:
            with k.loop(0, n_steps) as number:
                step(number)
            return
        # Codes of at most 2, shifted by at most this, in each of the fields that share a partial.
        largest = 2 << self._shifts[-1]
        shared = -(-fields // len(self._shifts))
        at_once = limit // (largest * shared)
        with k.loop(0, n_steps, at_once) as first:
            with k.loop(first, k.min(first + at_once, n_steps)) as number:
                step(number)
            self._widen()

    def results(self) -> dict[tuple[int, int], Value]:
        """The sums, i32x16."""
        k = self._k
        if k.target.partial_limit is None:
            self._widen()
        out: dict[tuple[int, int], Value] = {}
        for (key, shift), total in self._totals.items():
            value = total.get().ashr(shift) if shift else total.get()
            out[key] = out[key] + value if key in out else value
        return out

    def _widen(self) -> None:
        k = self._k
        for name, partial in self._partials.items():
            total = self._totals[name]
            total.set(total.get() + k.target.widen_partial(k, partial.get()))
            partial.set(k.const(k.target.partial, 0))


def scale_sums(sums: Value, q_total: Value, w_scale: Value, q_scale: Value) -> Value:
    """The linear's output y = (sum of code*q - sum of q) * (w_scale / q_scale), f32x16.

    sums: i32x16; q_total: i32; w_scale: f32x16, the scales of the rows; q_scale: f32, the
    token's quantisation scale.
    """
    return (sums - q_total).to_float() * (w_scale / q_scale)


def linear_reference(codes: Codes, w_scale: F32, q: npt.NDArray[np.int8], q_scale: F32) -> F32:
    """y (tokens, rows) of a ternary linear.

    codes: (rows, columns); w_scale: (rows,); q: (tokens, columns); q_scale: (tokens,).
    """
    sums = q.astype(np.int64) @ (codes.astype(np.int64).T - 1)
    return sums.astype(np.float32) * (w_scale / q_scale[:, None]).astype(np.float32)
