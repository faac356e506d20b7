"""Choosing tokens: native code against numpy, and both against what the parameters promise."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bitnet.codegen import Module, Target
from bitnet.kernels import sampling
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, seeds, some

VOCABS = [1, 2, 15, 16, 17, 100, 1000]
ALMOST_ONE = np.nextafter(1.0, 0.0)


@cache
def native(target: Target, checked: bool, name: str) -> Native:
    module = Module(target, checked=checked)
    return Native(module, getattr(sampling, name)(module))


@st.composite
def logits_(draw: st.DrawFn) -> Array:
    """Logits with a few levels shared by many tokens, or all different."""
    rng, n = np.random.default_rng(draw(seeds)), draw(st.sampled_from(VOCABS))
    x = rng.standard_normal(n) * draw(st.sampled_from([0.01, 1, 30]))
    if draw(st.booleans()):
        x = np.round(x)
    odd = draw(st.lists(st.sampled_from([0.0, -0.0, -np.inf, 1e30, -1e30, 1e-40]), max_size=5))
    x[rng.integers(0, n, len(odd))] = odd
    return f32(x)


@given(logits_())
@some
def test_argmax_is_the_lowest_id_among_the_largest(
    target: Target, checked: bool, logits: Array
) -> None:
    assert native(target, checked, "argmax")(logits, len(logits)) == np.argmax(logits)


def test_argmax_takes_negative_zero_for_zero_and_passes_over_nan(
    target: Target, checked: bool
) -> None:
    argmax = native(target, checked, "argmax")
    for logits, token in (
        ([-0.0, 0.0], 0),
        ([-1.0] * 20 + [-0.0] + [0.0] * 20, 20),
        ([np.nan, 1.0, np.nan, 2.0], 3),
        ([np.nan] * 17 + [2.0] + [np.nan] * 20, 17),
        ([-np.inf] * 40, 0),
        ([np.nan] * 40, 0),
    ):
        assert argmax(f32(logits), len(logits)) == token


@given(
    logits_(),
    seeds,
    st.sampled_from([1.0, 1.1, 0.5]),
    st.sampled_from([0.0, 0.3, -2.0]),
    st.sampled_from([0.0, 1.7, -0.1]),
)
@few
def test_penalize_gives_the_bits_of_its_reference(
    target: Target,
    checked: bool,
    logits: Array,
    seed: int,
    repetition: float,
    frequency: float,
    presence: float,
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(len(logits))[: rng.integers(0, 9)].astype(np.int32)
    counts = rng.integers(1, 100, len(ids), np.int32)
    expected = sampling.penalize_reference(logits, ids, counts, repetition, frequency, presence)
    native(target, checked, "penalize")(
        logits, len(logits), ids, counts, len(ids), repetition, frequency, presence
    )
    assert_same_bits(logits, expected)


def test_penalties_are_the_published_ones() -> None:
    logits, ids = f32([3, -3, 0, 5]), np.array([0, 1, 2], np.int32)
    counts = np.array([1, 2, 4], np.int32)

    def penalized(*penalties: float) -> list[float]:
        return sampling.penalize_reference(logits, ids, counts, *penalties).tolist()

    assert penalized(1.0, 0.0, 0.0) == [3, -3, 0, 5]
    assert penalized(2.0, 0.0, 0.0) == [1.5, -6, 0, 5]  # divided or multiplied: always less likely
    assert penalized(1.0, 0.5, 0.0) == [2.5, -4, -2, 5]
    assert penalized(1.0, 0.0, 1.0) == [2, -4, -1, 5]


def draw(
    target: Target,
    checked: bool,
    logits: Array,
    uniform: float,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> int:
    n = len(logits)
    scratch = np.full(sampling.scratch_bytes(n) // 4, -1, np.int32)
    function = native(target, checked, "sample")
    return function(logits, n, temperature, top_k, top_p, min_p, uniform, scratch)


@given(
    logits_(),
    st.floats(0, ALMOST_ONE),
    st.sampled_from([0.01, 0.8, 1.0, 5.0]),
    st.sampled_from([0, 1, 2, 40, 10**6]),
    st.sampled_from([1e-6, 0.3, 0.95, 1.0]),
    st.sampled_from([0.0, 0.05, 0.999]),
)
@some
def test_sample_draws_the_token_of_its_reference(
    target: Target,
    checked: bool,
    logits: Array,
    uniform: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
) -> None:
    assume(logits.max() > -np.inf)
    parameters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    expected = sampling.sample_reference(logits, uniform=uniform, **parameters)
    for _ in range(2):
        assert draw(target, checked, logits, uniform, **parameters) == expected


@given(logits_(), st.floats(0, ALMOST_ONE))
@few
def test_the_narrowest_filters_leave_the_most_likely_token(
    target: Target, checked: bool, logits: Array, uniform: float
) -> None:
    best = native(target, checked, "argmax")(logits, len(logits))
    assert draw(target, checked, logits, uniform, top_k=1) == best
    assert draw(target, checked, logits, uniform, top_p=1e-9) == best


UNIFORMS = np.array([0, 0.2499, 0.25, 0.4999, 0.5, 0.75, ALMOST_ONE])


@pytest.mark.parametrize(
    ("logits", "filters", "tokens"),
    [
        ([1, 1, 1, 1], {}, [0, 0, 1, 1, 2, 3, 3]),
        ([0.0, -0.0, 0.0, -0.0], {}, [0, 0, 1, 1, 2, 3, 3]),
        ([1, 1, 1, 1], {"top_k": 2}, [0, 0, 0, 0, 1, 1, 1]),  # of equal tokens the first stay
        ([1, 1, 1, 1], {"top_k": 9}, [0, 0, 1, 1, 2, 3, 3]),
        ([1, 1, 1, 1], {"top_p": 0.5}, [0, 0, 0, 0, 1, 1, 1]),  # just enough for the mass
        ([1, 1, 1, 1], {"top_p": 0.51}, [0, 0, 0, 1, 1, 2, 2]),  # and one more
        ([1, 1, 1, 1], {"min_p": 0.999}, [0, 0, 1, 1, 2, 3, 3]),
        ([0, 5, 5, 0], {"min_p": 0.5}, [1, 1, 1, 1, 2, 2, 2]),
        ([0, 5, 5, 0], {"temperature": 0.01}, [1, 1, 1, 1, 2, 2, 2]),
        ([-np.inf, 1, -np.inf, 1], {}, [1, 1, 1, 1, 3, 3, 3]),
        ([7], {"top_k": 40, "top_p": 0.1, "min_p": 0.5}, [0] * 7),
    ],
)
def test_filters_keep_what_they_promise(
    target: Target,
    logits: list[float],
    filters: dict[str, float],
    tokens: list[int],
) -> None:
    drawn = [draw(target, True, f32(logits), u, **filters) for u in UNIFORMS]
    assert drawn == tokens


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_softmax_says(target: Target, temperature: float) -> None:
    logits = f32(np.random.default_rng(3).standard_normal(40))
    uniforms = (np.arange(4000) + 0.5) / 4000
    tokens = [draw(target, False, logits, u, temperature=temperature) for u in uniforms]
    exact = np.exp(logits.astype(float) / temperature)
    share = np.bincount(tokens, minlength=40) / 4000
    np.testing.assert_allclose(share, exact / exact.sum(), atol=1 / 4000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_logits_still_give_a_token(target: Target, checked: bool, bad: float) -> None:
    for count in (1, 3, 40):
        logits = f32(np.zeros(40))
        logits[-count:] = bad
        for uniform in (0.0, 0.5, ALMOST_ONE):
            assert 0 <= draw(target, checked, logits, uniform, top_k=5, top_p=0.9) < 40
