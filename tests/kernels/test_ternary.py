"""Ternary matrix times int8 activations: integers, so every result is exact."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Module, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.norm import quantize_reference
from bitnet.kernels.numerics import padded
from bitnet.kernels.ternary import GROUP_ROWS, TILE
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, kernel, seeds

COLUMNS = [64, 128, 192, 448]


@cache
def pack_kernel(target: Target, checked: bool, columns: int) -> Native:
    module = Module(target, checked=checked)
    return Native(module, ternary.pack(module, columns))


def pack(target: Target, checked: bool, codes: Array) -> Array:
    rows, columns = codes.shape
    packed = np.empty(ternary.packed_bytes(rows, columns), np.uint8)
    pack_kernel(target, checked, columns)(codes, rows // TILE, packed)
    return packed


@given(seeds, st.sampled_from(COLUMNS), st.integers(1, 3))
@few
def test_pack_gives_the_bytes_of_its_reference(
    target: Target, checked: bool, seed: int, columns: int, groups: int
) -> None:
    codes = np.random.default_rng(seed).integers(0, 3, (groups * 64, columns), np.uint8)
    assert_same_bits(pack(target, checked, codes), ternary.pack_reference(codes))


def test_every_code_lands_where_the_layout_says() -> None:
    """[group][step of 16 columns][tile][byte 4r+c]: row r, columns c, 4+c, 8+c, 12+c upwards."""
    codes = np.random.default_rng(0).integers(0, 3, (128, 192), np.uint8)
    packed = ternary.pack_reference(codes)
    for row in range(128):
        group, tile, r = row // 64, row % 64 // 16, row % 16
        for column in range(192):
            step, position, c = column // 16, column % 16 // 4, column % 4
            byte = packed[((group * 12 + step) * 4 + tile) * 64 + 4 * r + c]
            assert byte >> 2 * position & 3 == codes[row, column]


@cache
def block_kernel(target: Target, checked: bool, columns: int, tokens: int) -> Native:
    def body(k: Function, weights: Buffer, q: Buffer, sums: Buffer) -> None:
        ternary.block_dot(k, weights, q, sums, columns, tokens)

    parameters = {
        "weights": (t.i8, ternary.group_bytes(columns)),
        "q": (t.i8, tokens * columns),
        "sums": (t.i32, tokens * GROUP_ROWS),
    }
    return kernel(target, checked, parameters, body)


def block_dot(target: Target, checked: bool, codes: Array, q: Array) -> Array:
    sums = np.empty((len(q), GROUP_ROWS), np.int32)
    packed = ternary.pack_reference(codes)
    block_kernel(target, checked, codes.shape[1], len(q))(packed, q, sums)
    return sums


@given(seeds, st.sampled_from([64, 192]), st.booleans())
@few
def test_block_dot_is_the_integer_product(
    target: Target, checked: bool, seed: int, columns: int, one: bool
) -> None:
    rng, tokens = np.random.default_rng(seed), 1 if one else target.gemm_tokens
    codes = rng.integers(0, 3, (GROUP_ROWS, columns), np.uint8)
    q = rng.integers(-127, 128, (tokens, columns), np.int8)
    expected = q.astype(np.int32) @ codes.astype(np.int32).T
    assert_same_bits(block_dot(target, checked, codes, q), expected)


@pytest.mark.parametrize("one", [True, False], ids=["one token", "block"])
def test_no_intermediate_sum_overflows(target: Target, checked: bool, one: bool) -> None:
    """16-bit sums of large activations are where other engines went wrong."""
    columns, tokens = 6912, 1 if one else target.gemm_tokens
    random = np.random.default_rng(1).integers(0, 3, (GROUP_ROWS, columns), np.uint8)
    for activation in (127, -127):
        q = np.full((tokens, columns), activation, np.int8)
        for codes in (np.full_like(random, 2), np.zeros_like(random), random):
            expected = q.astype(np.int32) @ codes.astype(np.int32).T
            assert_same_bits(block_dot(target, checked, codes, q), expected)


@pytest.mark.parametrize("one", [True, False], ids=["one token", "block"])
def test_half_a_million_columns_still_fit_32_bits(target: Target, one: bool) -> None:
    columns, tokens = 2**19, 1 if one else target.gemm_tokens
    packed = np.full(ternary.group_bytes(columns), 0b10101010, np.uint8)  # all weights +1
    q = np.full((tokens, columns), 127, np.int8)
    sums = np.empty((tokens, GROUP_ROWS), np.int32)
    block_kernel(target, False, columns, tokens)(packed, q, sums)
    assert (sums == columns * 127 * 2).all()


@cache
def linear_kernel(target: Target, checked: bool, columns: int, max_tokens: int) -> Native:
    """All of a ternary linear for one group of rows, as the forward pass does it."""

    def body(
        k: Function, weights: Buffer, w_scale: Buffer, q: Buffer, q_scale: Buffer, q_total: Buffer,
        y: Buffer, n_tokens: Value,
    ) -> None:  # fmt: skip
        def use(token: Value, sums: list[Value]) -> None:
            for i, s in enumerate(sums):
                scaled = ternary.scale_sums(
                    s, q_total[token], w_scale.load(i * TILE, TILE), q_scale[token]
                )
                y.store(token * GROUP_ROWS + i * TILE, scaled)

        ternary.group_dot(k, weights, q, columns, n_tokens, use)

    parameters = {
        "weights": (t.i8, ternary.group_bytes(columns)),
        "w_scale": (t.f32, GROUP_ROWS),
        "q": (t.i8, max_tokens * columns),
        "q_scale": (t.f32, max_tokens),
        "q_total": (t.i32, max_tokens),
        "y": (t.f32, max_tokens * GROUP_ROWS),
        "n_tokens": t.i64,
    }
    return kernel(target, checked, parameters, body)


@given(seeds, st.sampled_from([1, 63, 64, 100]), st.integers(1, 64), st.integers(0, 9))
@few
def test_linear_gives_the_bits_of_its_reference(
    target: Target, checked: bool, seed: int, columns: int, rows: int, n_tokens: int
) -> None:
    rng, width, most = np.random.default_rng(seed), padded(columns), 9
    codes = np.ones((GROUP_ROWS, width), np.uint8)
    codes[:rows, :columns] = rng.integers(0, 3, (rows, columns))
    w_scale = np.zeros(GROUP_ROWS, np.float32)
    w_scale[:rows] = rng.uniform(0.001, 10, rows)
    x = f32(rng.standard_normal((most, columns)) * 2.0 ** rng.integers(-9, 9, (most, 1)))
    q, q_scale = quantize_reference(x)
    padded_q = np.zeros((most, width), np.int8)
    padded_q[:, :columns] = q
    y = np.full((most, GROUP_ROWS), -1, np.float32)
    linear_kernel(target, checked, width, most)(
        ternary.pack_reference(codes), w_scale, padded_q, q_scale, q.sum(1, np.int32), y, n_tokens
    )
    expected = ternary.linear_reference(codes[:rows, :columns], w_scale[:rows], q, q_scale)
    assert_same_bits(y[:n_tokens, :rows].copy(), expected[:n_tokens])
    assert not y[:n_tokens, rows:].any()
    assert (y[n_tokens:] == -1).all()


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
