"""Bounds of what int8 logits may be away from exact ones, and who may be among the best."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels import certify, int8
from bitnet.kernels.head import head_reference
from bitnet.kernels.hilo import Split, layout_reference, split_reference
from bitnet.quant.tiled import TILE
from tests.kernels.harness import (
    Array,
    Native,
    assert_same_bits,
    f32,
    few,
    floats,
    kernel,
    seeds,
    some,
)

COUNT = 37


@cache
def token_kernel(target: Target, checked: bool, n: int) -> Native:
    form = int8.split_format(n)

    def body(
        k: Function, x: Buffer, q: Buffer, offsets: Buffer, scale: Buffer, norm: Value, out: Buffer
    ) -> None:
        certify.token_bound(k, x, Split(form, q, offsets, scale), n, norm, out)

    parameters = {
        "x": (t.f32, form.columns),
        "q": (t.i8, 2 * form.columns),
        "offsets": (t.i32, 2),
        "scale": (t.f32, 1),
        "norm": t.f32,
        "out": (t.f32, 2),
    }
    return kernel(target, checked, parameters, body)


def token_bound(target: Target, checked: bool, x: Array, norm: float) -> Array:
    v, scale = split_reference(x[None])
    q, offsets = layout_reference(v, int8.split_format(x.size))
    out = np.empty((1, 2), np.float32)
    token_kernel(target, checked, x.size)(x, q, offsets, scale, norm, out)
    assert_same_bits(out, certify.token_bound_reference(x[None], v, scale, norm))
    return out[0]


@given(floats(128))
@few
def test_token_bounds_have_the_bits_of_their_reference(
    target: Target, checked: bool, x: Array
) -> None:
    assert np.isfinite(token_bound(target, checked, x, 3.0)).all()


@pytest.mark.parametrize(
    ("size", "norm"), [(1e30, 1e10), (np.inf, 1.0), (np.nan, 1.0), (1.0, np.inf)]
)
def test_where_sums_may_overflow_nothing_is_certain(
    target: Target, size: float, norm: float
) -> None:
    x = np.full(64, size, np.float32)
    v, scale = split_reference(x[None])
    q, offsets = layout_reference(v, int8.split_format(64))
    out = np.zeros((1, 2), np.float32)
    token_kernel(target, False, 64)(x, q, offsets, scale, norm, out)
    assert (out == np.inf).all()


@cache
def tile_kernel(target: Target, checked: bool) -> Native:
    def body(
        k: Function, p: Buffer, scale: Buffer, residual: Buffer, norm: Buffer, token: Buffer,
        bound: Buffer, best: Buffer,
    ) -> None:  # fmt: skip
        rows = int8.RowBounds(scale, residual, norm)
        values = certify.bounds(k, rows, k.index(TILE), token)
        bound.store(0, values)
        best[0] = certify.best_lower(k, p.load(0, TILE), values)

    parameters = {
        "p": (t.f32, TILE),
        **dict.fromkeys(("scale", "residual", "norm"), (t.f32, 2 * TILE)),
        "token": (t.f32, 2),
        "bound": (t.f32, TILE),
        "best": (t.f32, 1),
    }
    return kernel(target, checked, parameters, body)


@given(seeds)
@few
def test_bounds_of_a_tile_have_the_bits_of_their_reference(
    target: Target, checked: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    p = f32(rng.standard_normal(TILE))
    p[rng.integers(0, TILE, 3)] = np.nan
    residual, norm = f32(rng.uniform(0, 2, (2, 2 * TILE)))
    token = f32(rng.uniform(0, 1, (1, 2)))
    bound, best = np.empty(TILE, np.float32), np.empty(1, np.float32)
    tile_kernel(target, checked)(p, residual, residual, norm, token, bound, best)
    expected = certify.bounds_reference(residual[TILE:], norm[TILE:], token)[0]
    assert_same_bits(bound, expected)
    assert best[0] == np.nanmax(p - expected)


def test_a_tile_of_nothing_has_no_best(target: Target) -> None:
    bound, best = np.empty(TILE, np.float32), np.empty(1, np.float32)
    two = np.ones(2 * TILE, np.float32)
    nothing = np.full(TILE, np.nan, np.float32)
    tile_kernel(target, True)(nothing, two, two, two, f32([1, 1]), bound, best)
    assert best[0] == -np.inf


@cache
def kth_kernel(target: Target, checked: bool) -> Native:
    def body(k: Function, values: Buffer, rank: Value, out: Buffer) -> None:
        out[0] = certify.kth_largest(k, values, rank)

    parameters = {"values": (t.f32, COUNT), "rank": t.i64, "out": (t.f32, 1)}
    return kernel(target, checked, parameters, body)


@given(floats(COUNT), st.integers(1, COUNT + 2), st.booleans())
@some
def test_the_kth_largest_is_the_kth_of_the_sorted(
    target: Target, checked: bool, values: Array, rank: int, equal: bool
) -> None:
    values[::5] = -np.inf
    if equal:
        values[1::3] = values[1]
    out = np.empty(1, np.float32)
    kth_kernel(target, checked)(values, rank, out)
    expected = np.sort(values)[::-1][rank - 1] if rank <= COUNT else -np.inf
    assert out[0] == expected


# -- the claim -----------------------------------------------------------------------------------


def certified(table: Array, x: Array) -> tuple[Array, Array]:
    """int8 logits (rows,) and their bounds."""
    q, scale = int8.quantize_reference(table)
    residual, norm = int8.bounds_reference(table, q, scale)
    v, s = split_reference(x[None])
    largest = float(np.nextafter((residual.astype(float) + norm).max(), np.inf))
    token = certify.token_bound_reference(x[None], v, s, largest)
    p = int8.head_reference(q, scale, v, s)[0]
    return p, certify.bounds_reference(residual, norm, token)[0]


def aligned_tables(seed: int, n: int) -> tuple[Array, Array]:
    """Rows and activations whose errors all point the same way, and of all sizes."""
    rng = np.random.default_rng(seed)
    table = f32(rng.standard_normal((48, n)) * 2.0 ** rng.integers(-60, 40, (48, 1)))
    q, scale = int8.quantize_reference(table)
    residual = table - q * scale[:, None]
    x = f32(residual[0] / max(np.abs(residual[0]).max(), 1e-30))
    table[1] = 0
    table[2] = np.sign(x)  # all its products have one sign
    table[3, 1:] = 0
    return table, x if seed % 2 else f32(x * 1e-20)


@given(seeds, st.sampled_from([16, 40, 272]))
@some
def test_exact_logits_lie_within_the_bounds(seed: int, n: int) -> None:
    table, x = aligned_tables(seed, n)
    p, bound = certified(table, x)
    exact = head_reference(table, x[None])[0].astype(np.longdouble)
    assert (np.abs(exact - p) <= bound).all()


@given(seeds, st.integers(1, 60))
@some
def test_candidates_hold_the_best_and_all_that_tie_with_the_last(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    table = f32(rng.standard_normal((300, 40)))
    x = f32(rng.standard_normal(40))
    table[rng.integers(0, 300, 100)] = table[rng.integers(0, 300, 100)]  # ties
    exact = head_reference(table, x[None])[0]
    p, bound = certified(table, x)
    candidates = certify.candidates_reference(p, bound, rank)
    assert candidates[exact >= np.sort(exact)[::-1][rank - 1]].all()
    assert rank > 18 or candidates.sum() < 300, "then it would certify nothing"


def test_the_bound_is_about_half_a_step_for_each_weight() -> None:
    """It must not only be right."""
    rng = np.random.default_rng(0)
    table = f32(rng.standard_normal((1000, 512)) * 0.02)
    x = f32(rng.standard_normal(512))
    p, bound = certified(table, x)
    error = np.abs(p - head_reference(table, x[None])[0])
    assert bound.max() < 0.3 * p.std()
    assert error.max() < bound.min()
