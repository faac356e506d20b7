"""Ternary products with weights as I2_S files hold them, row by row: used in place, not repacked.

Columns lie along the lanes, so sums end with adding up lanes. Activations come in the order of
`InPlace.place`, so that each multiplication takes one vector of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitnet.codegen import Buffer, Dim, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.layouts import InPlace, two_bit_fields
from bitnet.kernels.numerics import LANES
from bitnet.kernels.ternary import (
    BLOCK_ROWS,
    DEFAULT_BLOCKING,
    Accumulators,
    Use,
    as_function,
    for_all_tokens,
    shifts_for,
)
from bitnet.quant.tiled import TILE, TILE_BYTES

_STRIPS = BLOCK_ROWS // TILE


def max_tokens(target: Target) -> int:
    """How many tokens rows are multiplied with at once, at most."""
    return min(4, target.accumulators)


def rows_at_once(target: Target, tokens: int) -> int:
    """So many that there are accumulators for two shifts or more; each row needs a pointer too."""
    most = 4 if target.partial_limit is None else 1
    return max(1, min(most, target.accumulators // (2 * tokens)))


def rows_block(
    k: Function,
    layout: InPlace,
    strips: Buffer,
    q: Buffer,
    columns: int,
    n_tokens: Dim,
    use: Use,
) -> None:
    """Multiply 64 rows with every token of a batch; see `ternary.tiled_block`.

    strips: i64[4], the addresses of 16 rows each, `columns` being a multiple of 128.
    """
    width = layout.q_width(columns)

    def multiply(first: Value, count: int, sums: Buffer) -> None:
        part = q.part(first * width, count * width)
        as_function(
            k,
            f"ternary_i2_s_{columns}x{count}",
            [strips, part, sums],
            lambda f, w, x, s: rows_dot(f, layout, w, x, s, columns, count),
        )

    for_all_tokens(k, n_tokens, max_tokens(k.target), multiply, use)


def rows_dot(
    k: Function,
    layout: InPlace,
    strips: Buffer,
    q: Buffer,
    sums: Buffer,
    columns: int,
    tokens: int,
) -> None:
    """sums[token][64 rows] = sum of code * q; see `rows_block`."""
    at_once = rows_at_once(k.target, tokens)
    n_shifts = shifts_for(k.target, tokens * at_once)
    with k.loop(0, _STRIPS) as strip:
        address = strips[strip].to_pointer()
        weights = Buffer(k, address, t.i8, layout.strip_bytes(columns), "i2_s")
        with k.loop(0, TILE, at_once) as row:
            results = _dot_rows(k, layout, weights, row, q, columns, tokens, at_once, n_shifts)
            for token in range(tokens):
                here = [results[r, token] for r in range(at_once)]
                at = strip * TILE + row + token * BLOCK_ROWS
                sums.store(at, lane_sums(here).shuffle(list(range(at_once))))


def _dot_rows(
    k: Function,
    layout: InPlace,
    weights: Buffer,
    first: Value,
    q: Buffer,
    columns: int,
    tokens: int,
    rows: int,
    n_shifts: int,
) -> dict[tuple[int, int], Value]:
    """Sums of (row, token), yet to be added up over the lanes."""
    acc = Accumulators(k, [(r, i) for r in range(rows) for i in range(tokens)], n_shifts)
    width, row_bytes = layout.q_width(columns), columns // 4

    def step(number: Value) -> None:
        fields = []
        for r in range(rows):
            at = (first + r) * row_bytes + number * TILE_BYTES
            weights.prefetch(at + DEFAULT_BLOCKING.prefetch_bytes)
            fields.append(two_bit_fields(weights.load(at, TILE_BYTES), n_shifts))
        for j in range(4):  # from the low bits up, which is from the last columns down
            for token in range(tokens):
                start = number * layout.step + (token * width + (3 - j) * TILE_BYTES)
                activations = q.load(start, TILE_BYTES)
                for r in range(rows):
                    acc.add((r, token), fields[r][j], activations)

    acc.run(width // layout.step, 4, step)
    return acc.results()


def lane_sums(vectors: Sequence[Value]) -> Value:
    """A vector whose i-th lane is the sum of all lanes of the i-th i32x16."""
    level, lanes_left = list(vectors), LANES
    evens, odds = list(range(0, 2 * LANES, 2)), list(range(1, 2 * LANES, 2))
    while lanes_left > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [
            a.shuffle(evens, b) + a.shuffle(odds, b)
            for a, b in zip(level[::2], level[1::2], strict=True)
        ]
        lanes_left //= 2
    return level[0]
