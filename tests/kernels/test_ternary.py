"""Ternary matrix times int8 activations: integers, so every result is exact."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels import ternary, ternary_rows
from bitnet.kernels.layouts import LAYOUTS, InPlace, Layout, LayoutName, TiledLayout
from bitnet.kernels.norm import quantize_reference
from bitnet.kernels.ternary import BLOCK_ROWS, DEFAULT_BLOCKING, Blocking
from bitnet.quant import i2s, tiled
from bitnet.quant.tiled import TILE, Codes
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, kernel, seeds

TILED = [name for name, layout in LAYOUTS.items() if isinstance(layout, TiledLayout)]
COLUMNS = {"b3": [1, 20, 100, 448], "2bit": [1, 16, 100, 448], "i2_s": [128, 256, 640, 896]}
WIDE = 6912


class Weights:
    """64 rows in a layout; `argument` is what kernels take for them."""

    def __init__(self, layout: Layout, codes: Codes) -> None:
        if isinstance(layout, TiledLayout):
            self.argument = tiled.pack(layout.name, codes)
            return
        self._data = i2s.pack(codes, 1.0)
        step = TILE * codes.shape[1] // 4
        self.argument = self._data.ctypes.data + step * np.arange(4, dtype=np.int64)


def weights_buffer(layout: Layout, columns: int) -> tuple[t.Type, int]:
    if isinstance(layout, TiledLayout):
        return t.i8, layout.packed_bytes(BLOCK_ROWS, columns)
    return t.i64, 4


def placed(layout: Layout, q: Array) -> Array:
    """Activations (tokens, columns) in the order that a layout meets them."""
    out = np.zeros((len(q), layout.q_width(q.shape[1])), np.int8)
    out[:, [layout.place(column) for column in range(q.shape[1])]] = q
    return out


def test_in_place_activations_come_as_the_fields_of_64_bytes_do() -> None:
    """Byte j of a block of 128 columns in 32 bytes: columns j, 32+j, 64+j, 96+j downwards."""
    layout = InPlace()
    codes = np.arange(512) % 3
    order = np.zeros(512, np.int64)
    for column in range(512):
        order[layout.place(column)] = column
    packed = i2s.pack(codes.astype(np.uint8)[None], 1.0)[:128].reshape(2, 64)
    for step, data in enumerate(packed):
        fields = [data >> shift & 3 for shift in (6, 4, 2, 0)]
        expected = codes[order[step * 256 : step * 256 + 256]]
        assert np.array_equal(np.concatenate(fields), expected)


@cache
def dot_kernel(
    target: Target, checked: bool, name: LayoutName, columns: int, tokens: int
) -> Native:
    layout = LAYOUTS[name]

    def body(k: Function, weights: Buffer, q: Buffer, sums: Buffer) -> None:
        if isinstance(layout, TiledLayout):
            ternary.tiled_dot(k, layout, weights, q, sums, columns, tokens)
        elif isinstance(layout, InPlace):
            ternary_rows.rows_dot(k, layout, weights, q, sums, columns, tokens)

    parameters = {
        "weights": weights_buffer(layout, columns),
        "q": (t.i8, tokens * layout.q_width(columns)),
        "sums": (t.i32, tokens * BLOCK_ROWS),
    }
    return kernel(target, checked, parameters, body)


def dot(target: Target, checked: bool, name: LayoutName, codes: Array, q: Array) -> Array:
    layout = LAYOUTS[name]
    sums = np.empty((len(q), BLOCK_ROWS), np.int32)
    weights = Weights(layout, codes)
    run = dot_kernel(target, checked, name, codes.shape[1], len(q))
    run(weights.argument, placed(layout, q), sums)
    return sums


@given(seeds, st.sampled_from(list(LAYOUTS)), st.integers(0, 3), st.integers(1, 8))
@few
def test_a_dot_is_the_integer_product(
    target: Target, checked: bool, seed: int, name: LayoutName, width: int, tokens: int
) -> None:
    rng, columns = np.random.default_rng(seed), COLUMNS[name][width]
    most = DEFAULT_BLOCKING.tokens(target) if name in TILED else ternary_rows.max_tokens(target)
    tokens = min(tokens, most)
    codes = rng.integers(0, 3, (BLOCK_ROWS, columns), np.uint8)
    q = rng.integers(-127, 128, (tokens, columns), np.int8)
    expected = q.astype(np.int32) @ codes.astype(np.int32).T
    assert_same_bits(dot(target, checked, name, codes, q), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_intermediate_sum_overflows(target: Target, name: LayoutName) -> None:
    """16-bit sums of large activations are where other engines went wrong."""
    random = np.random.default_rng(1).integers(0, 3, (BLOCK_ROWS, WIDE), np.uint8)
    for tokens in {1, 2, min(4, target.accumulators)}:
        for activation in (127, -127):
            q = np.full((tokens, WIDE), activation, np.int8)
            for codes in (np.full_like(random, 2), np.zeros_like(random), random):
                expected = q.astype(np.int32) @ codes.astype(np.int32).T
                assert_same_bits(dot(target, False, name, codes, q), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_half_a_million_columns_still_fit_32_bits(target: Target, name: LayoutName) -> None:
    columns, layout = 2**19, LAYOUTS[name]
    codes = np.full((1, columns), 2, np.uint8)  # all weights +1
    if isinstance(layout, TiledLayout):
        tile = tiled.encode(layout.name, np.full((layout.step // 4, 64), 2, np.uint8))
        weights = np.tile(tile, layout.packed_bytes(BLOCK_ROWS, columns) // 64)
    else:
        data = i2s.pack(np.repeat(codes, TILE, 0), 1.0)
        weights = np.full(4, data.ctypes.data, np.int64)
    sums = np.empty((1, BLOCK_ROWS), np.int32)
    q = np.full((1, layout.q_width(columns)), 127, np.int8)
    q[:, columns:] = 0
    dot_kernel(target, False, name, columns, 1)(weights, q, sums)
    assert (sums == columns * 127 * 2).all()


@cache
def linear_kernel(
    target: Target,
    checked: bool,
    name: LayoutName,
    columns: int,
    most: int,
    blocking: Blocking = DEFAULT_BLOCKING,
) -> Native:
    """All of a ternary linear for 64 rows, as the forward pass does it."""
    layout = LAYOUTS[name]

    def body(
        k: Function, weights: Buffer, w_scale: Buffer, q: Buffer, q_scale: Buffer, q_total: Buffer,
        y: Buffer, n_tokens: Value,
    ) -> None:  # fmt: skip
        def use(token: Value, sums: list[Value]) -> None:
            for i, s in enumerate(sums):
                scaled = ternary.scale_sums(
                    s, q_total[token], w_scale.load(i * TILE, TILE), q_scale[token]
                )
                y.store(token * BLOCK_ROWS + i * TILE, scaled)

        if isinstance(layout, TiledLayout):
            ternary.tiled_block(k, layout, weights, q, columns, n_tokens, use, blocking)
        elif isinstance(layout, InPlace):
            ternary_rows.rows_block(k, layout, weights, q, columns, n_tokens, use)

    parameters = {
        "weights": weights_buffer(layout, columns),
        "w_scale": (t.f32, BLOCK_ROWS),
        "q": (t.i8, most * layout.q_width(columns)),
        "q_scale": (t.f32, most),
        "q_total": (t.i32, most),
        "y": (t.f32, most * BLOCK_ROWS),
        "n_tokens": t.i64,
    }
    return kernel(target, checked, parameters, body)


@given(seeds, st.sampled_from(list(LAYOUTS)), st.integers(0, 2), st.integers(0, 19))
@few
def test_linear_gives_the_bits_of_its_reference(
    target: Target, checked: bool, seed: int, name: LayoutName, width: int, n_tokens: int
) -> None:
    rng, most, columns = np.random.default_rng(seed), 19, COLUMNS[name][width]
    codes = rng.integers(0, 3, (BLOCK_ROWS, columns), np.uint8)
    w_scale = f32(rng.uniform(0.001, 10, BLOCK_ROWS))
    x = f32(rng.standard_normal((most, columns)) * 2.0 ** rng.integers(-9, 9, (most, 1)))
    q, q_scale = quantize_reference(x)
    y = np.full((most, BLOCK_ROWS), -1, np.float32)
    weights = Weights(LAYOUTS[name], codes)
    linear_kernel(target, checked, name, columns, most)(
        weights.argument,
        w_scale,
        placed(LAYOUTS[name], q),
        q_scale,
        q.sum(1, np.int32),
        y,
        n_tokens,
    )
    expected = ternary.linear_reference(codes, w_scale, q, q_scale)
    assert_same_bits(y[:n_tokens], expected[:n_tokens])
    assert (y[n_tokens:] == -1).all()


@pytest.mark.parametrize("blocking", [Blocking(0, 1), Blocking(64, 3), Blocking(1 << 20, 16)])
@pytest.mark.parametrize("name", TILED)
def test_the_blocking_changes_no_bit(
    target: Target, checked: bool, name: LayoutName, blocking: Blocking
) -> None:
    rng, most, columns = np.random.default_rng(3), 19, 100
    codes = rng.integers(0, 3, (BLOCK_ROWS, columns), np.uint8)
    w_scale, q_scale = f32(rng.uniform(0.1, 1, BLOCK_ROWS)), f32(rng.uniform(0.1, 1, most))
    q = rng.integers(-127, 128, (most, columns), np.int8)
    y = np.empty((most, BLOCK_ROWS), np.float32)
    linear_kernel(target, checked, name, columns, most, blocking)(
        Weights(LAYOUTS[name], codes).argument,
        w_scale,
        placed(LAYOUTS[name], q),
        q_scale,
        q.sum(1, np.int32),
        y,
        most,
    )
    assert_same_bits(y, ternary.linear_reference(codes, w_scale, q, q_scale))


def test_linear_reference_is_the_formula() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, (5, 33), np.uint8)
    x, scale = f32(rng.standard_normal((3, 33))), np.float32(0.037)
    q, s = quantize_reference(x)
    y = ternary.linear_reference(codes, np.full(5, scale), q, s)
    for token in range(3):
        for row in range(5):
            total = sum((int(c) - 1) * int(v) for c, v in zip(codes[row], q[token], strict=True))
            assert y[token, row] == np.float32(total) * (scale / s[token])
