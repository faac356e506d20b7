"""fma, exp and the reduction tree: native code against numpy, numpy against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target
from bitnet.codegen import types as t
from bitnet.kernels.numerics import (
    LANES,
    dot_reference,
    exp,
    exp_reference,
    f32xL,
    fma_reference,
    tree_reference,
)
from tests.kernels.harness import Native, assert_same_bits, f32, few, floats, kernel, seeds, some

COUNT = 192
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def nearest_f32(exact: Fraction) -> np.float32:
    """The f32 nearest to a rational number, ties to even, found with integers alone."""
    if exact == 0:
        return np.float32(0)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(size / step) * step  # round() of a Fraction takes ties to even
    if rounded >= 2**128:
        rounded = math.inf
    return np.float32(math.copysign(float(rounded), exact))


@st.composite
def beside_a_tie(draw: st.DrawFn) -> tuple[float, float, float]:
    """a*b + c a hair short of halfway between two f32: rounding to f64 first loses the hair."""
    u, power = 2.0**-23, draw(st.integers(-30, 30))
    odd = 1 + u * (2 * draw(st.integers(0, 2**22 - 1)) + 1)
    sign = draw(st.sampled_from([1, -1]))
    return (
        sign * (1 + u) * 2.0 ** (power - 24),
        (1 - u) * 2.0**power,
        sign * odd * 2.0 ** (2 * power),
    )


@st.composite
def cancelling(draw: st.DrawFn) -> tuple[float, float, float]:
    """a*b + c where c takes away all of the product but its rounding error."""
    a, b = (draw(st.integers(2**23, 2**24 - 1)) * 2.0 ** draw(st.integers(-40, 0)) for _ in "ab")
    return a, b, -float(f32(a * b))


@given(st.one_of(st.tuples(finite, finite, finite), beside_a_tie(), cancelling()))
@example((1 + 2**-23, 1 + 2**-23, 2.0**-60))
@example((2.0**-75, 2.0**-75, 0.0))
@example((2.0**-75, 2.0**-75, 2.0**-149))
@example((3.4028235e38, 1.0, 1.0141204801825835e31))
@some
def test_fma_reference_rounds_the_exact_result_once(numbers: tuple[float, float, float]) -> None:
    a, b, c = numbers
    with np.errstate(over="ignore"):
        result = np.float32(fma_reference(f32(a), f32(b), f32(c)))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    expected = nearest_f32(exact)
    assert result == expected, (a, b, c)


@cache
def fma_kernel(target: Target, checked: bool, lanes: int) -> Native:
    def body(k: Function, a: Buffer, b: Buffer, c: Buffer, out: Buffer) -> None:
        with k.loop(0, COUNT, lanes) as i:
            out.store(i, k.fma(*(x.load(i, lanes) for x in (a, b, c))))

    return kernel(
        target, checked, dict.fromkeys("abc", (t.f32, COUNT)) | {"out": (t.f32, COUNT)}, body
    )


@given(st.sampled_from([1, 4, 16, 64]), seeds, st.integers(-60, 60))
@few
def test_fma_gives_the_bits_of_its_reference(
    target: Target, checked: bool, lanes: int, seed: int, exponent: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = f32(rng.standard_normal((2, COUNT)))
    c = f32(rng.standard_normal(COUNT) * 2.0**exponent)
    c[::5] = -f32(a[::5].astype(float) * b[::5])  # what is left is the product's rounding error
    c[::7], a[::11] = 0, f32(1e-44)
    out = np.empty(COUNT, np.float32)
    fma_kernel(target, checked, lanes)(a, b, c, out)
    assert_same_bits(out, fma_reference(a, b, c))


@given(st.lists(st.one_of(beside_a_tie(), cancelling()), min_size=COUNT, max_size=COUNT))
@settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
def test_fma_rounds_the_exact_result_once(
    target: Target, checked: bool, cases: list[tuple[float, float, float]]
) -> None:
    a, b, c = f32(cases).T.copy()
    out = np.empty(COUNT, np.float32)
    fma_kernel(target, checked, LANES)(a, b, c, out)
    exact = [Fraction(x) * Fraction(y) + Fraction(z) for x, y, z in f32(cases).tolist()]
    assert_same_bits(out, f32([nearest_f32(e) for e in exact]))


@cache
def exp_kernel(target: Target, checked: bool) -> Native:
    def body(k: Function, x: Buffer, y: Buffer) -> None:
        with k.loop(0, COUNT - LANES, LANES) as i:
            y.store(i, exp(k, x.load(i, LANES)))
        with k.loop(COUNT - LANES, COUNT) as i:
            y[i] = exp(k, x[i])

    return kernel(target, checked, {"x": (t.f32, COUNT), "y": (t.f32, COUNT)}, body)


EDGES = f32([-np.inf, -1e30, -87.00001, -87, -86.99999, -0.0, 0.0, 1e-45, 88, 88.00001, np.inf])


@given(seeds, st.floats(0.001, 120))
@few
def test_exp_gives_the_bits_of_its_reference(
    target: Target, checked: bool, seed: int, size: float
) -> None:
    x = f32(np.random.default_rng(seed).uniform(-size, size, COUNT))
    x[: len(EDGES)] = x[-len(EDGES) :] = EDGES
    y = np.empty(COUNT, np.float32)
    exp_kernel(target, checked)(x, y)
    assert_same_bits(y, exp_reference(x))


def test_exp_is_within_two_ulp() -> None:
    x = f32(np.linspace(-87, 88, 100_001))
    exact = np.array([math.exp(v) for v in x.astype(float)])
    ulps = np.abs(exp_reference(x) - exact) / np.spacing(f32(exact))
    assert ulps.max() <= 2


def test_exp_of_the_far_ends() -> None:
    result = exp_reference(f32([-np.inf, -87.5, 0, 88.5, np.inf]))
    assert result[:3].tolist() == [0, 0, 1]
    assert result[3] == result[4] == exp_reference(f32(88))


@cache
def reduce_kernel(target: Target, checked: bool, lanes: int) -> Native:
    def body(k: Function, x: Buffer, y: Buffer) -> None:
        for i, how in enumerate(("add", "max")):
            y[i] = k.reduce(x.load(0, lanes), how)

    return kernel(target, checked, {"x": (t.f32, lanes), "y": (t.f32, 2)}, body)


@given(st.data(), st.sampled_from([1, 2, 16, 32]))
@few
def test_reduce_adds_by_the_fixed_tree(
    target: Target, checked: bool, data: st.DataObject, lanes: int
) -> None:
    x, y = data.draw(floats(lanes)), np.empty(2, np.float32)
    reduce_kernel(target, checked, lanes)(x, y)
    assert_same_bits(y[:1], f32([tree_reference(x)]))
    assert y[1] == x.max()


@cache
def dot_kernel(target: Target, checked: bool, n: int) -> Native:
    def body(k: Function, a: Buffer, b: Buffer, out: Buffer) -> None:
        total = k.var(f32xL)
        for i in range(0, n, LANES):
            x, y = (v.load(i, LANES, valid=min(LANES, n - i)) for v in (a, b))
            total.set(k.fma(x, y, total.get()))
        out[0] = k.reduce(total.get(), "add")

    return kernel(target, checked, {"a": (t.f32, n), "b": (t.f32, n), "out": (t.f32, 1)}, body)


@given(st.data(), st.sampled_from([1, 15, 17, 47]))
@few
def test_dot_reference_is_the_sum_that_native_code_makes(
    target: Target, checked: bool, data: st.DataObject, n: int
) -> None:
    a, b = data.draw(floats(n)), data.draw(floats(n))
    out = np.empty(1, np.float32)
    dot_kernel(target, checked, n)(a, b, out)
    assert_same_bits(out, dot_reference(a[None], b[None]))


def test_tree_reference_folds_halves() -> None:
    x = f32([1e8, 1, -1e8, 1])
    assert tree_reference(x) == 2  # (1e8 - 1e8) + (1 + 1)
    assert ((x[0] + x[1]) + x[2]) + x[3] == 1
