"""RMS norm and the quantisation of activations."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target
from bitnet.codegen import types as t
from bitnet.kernels.layouts import LAYOUTS, Layout, LayoutName
from bitnet.kernels.norm import quantize, quantize_reference, rms_norm, rms_norm_reference
from bitnet.kernels.numerics import pad_reference, padded
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

EPS = 1e-5
WIDTHS = [1, 15, 16, 17, 63, 64, 65, 100, 320]


@cache
def norm_kernel(target: Target, checked: bool, n: int) -> Native:
    def body(k: Function, x: Buffer, weight: Buffer, y: Buffer) -> None:
        rms_norm(k, x, weight, y, n, EPS)
        rms_norm(k, x, weight, x, n, EPS)

    return kernel(target, checked, dict.fromkeys(("x", "weight", "y"), (t.f32, padded(n))), body)


@given(st.data(), st.sampled_from(WIDTHS))
@few
def test_rms_norm_gives_the_bits_of_its_reference(
    target: Target, checked: bool, data: st.DataObject, n: int
) -> None:
    x, weight = data.draw(floats(n)), data.draw(floats(n))
    expected = pad_reference(rms_norm_reference(x, weight, EPS), padded(n))
    in_place, y = pad_reference(x, padded(n)), np.empty(padded(n), np.float32)
    norm_kernel(target, checked, n)(in_place, pad_reference(weight, padded(n)), y)
    assert_same_bits(y, expected)
    assert_same_bits(in_place, expected)


@cache
def head_norm_kernel(target: Target, checked: bool, n: int) -> Native:
    def body(k: Function, heads: Buffer, weight: Buffer) -> None:
        for head in range(2):
            x = heads.part(head * n, n)
            rms_norm(k, x, weight, x, n, EPS)

    return kernel(target, checked, {"heads": (t.f32, 2 * n), "weight": (t.f32, n)}, body)


@given(st.data(), st.sampled_from([2, 15, 16, 20, 64, 80]))
@few
def test_rows_that_are_not_padded_can_be_normed_in_place(
    target: Target, checked: bool, data: st.DataObject, n: int
) -> None:
    heads, weight = data.draw(floats(2 * n)), data.draw(floats(n))
    expected = rms_norm_reference(heads.reshape(2, n), weight, EPS).reshape(-1)
    head_norm_kernel(target, checked, n)(heads, weight)
    assert_same_bits(heads, expected)


@given(st.data(), st.sampled_from(WIDTHS), seeds)
@some
def test_rms_norm_reference_is_the_formula(data: st.DataObject, n: int, seed: int) -> None:
    x, weight = data.draw(floats(n)), f32(np.random.default_rng(seed).uniform(-3, 3, n))
    wide = x.astype(float)
    exact = wide / np.sqrt((wide**2).mean() + np.float64(np.float32(EPS))) * weight
    np.testing.assert_allclose(rms_norm_reference(x, weight, EPS), exact, rtol=2e-6, atol=1e-42)


@cache
def quantize_kernel(target: Target, checked: bool, n: int, layout: Layout) -> Native:
    def body(k: Function, x: Buffer, q: Buffer, scale: Buffer, total: Buffer) -> None:
        quantize(k, x, layout, q, scale, total)

    parameters = {
        "x": (t.f32, n),
        "q": (t.i8, layout.q_width(n)),
        "scale": (t.f32, 1),
        "total": (t.i32, 1),
    }
    return kernel(target, checked, parameters, body)


def run_quantize(
    target: Target, checked: bool, x: Array, name: LayoutName = "b3"
) -> tuple[Array, Array, Array]:
    """q, scale, total of a row of any width; rows in memory are padded with zeros."""
    width, layout = padded(len(x)), LAYOUTS[name]
    q = np.full(layout.q_width(width), 99, np.int8)
    scale, total = np.empty(1, np.float32), np.empty(1, np.int32)
    quantize_kernel(target, checked, width, layout)(pad_reference(x, width), q, scale, total)
    ordered = q[[layout.place(column) for column in range(len(q))]]
    assert not ordered[len(x) :].any()
    return ordered[: len(x)], scale, total


def test_quantised_numbers_come_in_the_order_of_the_layout(target: Target, checked: bool) -> None:
    x = f32(np.random.default_rng(0).standard_normal(384))
    for name in LAYOUTS:
        q, _, _ = run_quantize(target, checked, x, name)
        assert_same_bits(q, quantize_reference(x)[0])


def check_quantize(target: Target, checked: bool, x: Array) -> None:
    q, scale, total = run_quantize(target, checked, x)
    expected_q, expected_scale = quantize_reference(x)
    assert_same_bits(q, expected_q)
    assert_same_bits(scale, f32([expected_scale]))
    assert total[0] == expected_q.astype(int).sum()


@given(st.data(), st.sampled_from(WIDTHS))
@few
def test_quantize_gives_the_bits_of_its_reference(
    target: Target, checked: bool, data: st.DataObject, n: int
) -> None:
    check_quantize(target, checked, data.draw(floats(n)))


@given(st.data(), st.sampled_from(WIDTHS))
@some
def test_quantize_reference_is_the_formula(data: st.DataObject, n: int) -> None:
    """s = 127 / max(absmax, 1e-5); q = round half to even of x * s, all in f32."""
    x = data.draw(floats(n))
    q, s = quantize_reference(x)
    assert s == np.float32(127) / max(np.float32(abs(x).max()), np.float32(1e-5))
    assert q.tolist() == [max(-127, min(127, round(float(v * s)))) for v in x]


def test_exact_halves_round_to_even(target: Target, checked: bool) -> None:
    x = f32(np.concatenate([[127.0], np.arange(-127, 127) + 0.5]))
    check_quantize(target, checked, x)
    q, scale, _ = run_quantize(target, checked, x)
    assert scale[0] == 1
    assert q[1:].tolist() == [round(v) for v in x[1:].tolist()]
    assert (q[1:] % 2 == 0).all()


def test_a_row_of_zeros_quantises_to_zeros(target: Target, checked: bool) -> None:
    q, scale, total = run_quantize(target, checked, f32(np.zeros(100)))
    assert not q.any()
    assert total[0] == 0
    assert scale[0] == np.float32(127) / np.float32(1e-5)


def test_a_row_below_the_floor_keeps_the_scale_of_the_floor(target: Target, checked: bool) -> None:
    x = f32([1e-6, -1e-6, 5e-7, 0, 1e-9])
    check_quantize(target, checked, x)
    q, scale, _ = run_quantize(target, checked, x)
    assert scale[0] == np.float32(127) / np.float32(1e-5)
    assert q.tolist() == [13, -13, 6, 0, 0]


def test_quantised_numbers_never_reach_minus_128(target: Target, checked: bool) -> None:
    """The integer kernels rely on it, whatever a broken model feeds them."""
    rng = np.random.default_rng(0)
    for bad in ([np.nan], [np.inf], [-np.inf, np.nan], [3.4e38, -3.4e38], [-1.0000001, 1]):
        x = f32(rng.standard_normal(100))
        x[: len(bad)] = bad
        q, _, total = run_quantize(target, checked, x)
        assert abs(q.astype(int)).max() <= 127
        assert total[0] == q.astype(int).sum()
