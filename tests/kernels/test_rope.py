"""Rotary embedding: both pairings, and the tables of angles."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target
from bitnet.codegen import types as t
from bitnet.kernels.rope import Pairing, rope, rope_reference, rope_tables
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

HEAD_DIMS = [2, 4, 20, 32, 34, 64, 66, 100, 256]
pairings = st.sampled_from(["halves", "interleaved"])


@cache
def rope_kernel(target: Target, checked: bool, d: int, pairing: Pairing) -> Native:
    def body(k: Function, x: Buffer, cos: Buffer, sin: Buffer, y: Buffer) -> None:
        rope(k, x, cos, sin, y, pairing)
        rope(k, x, cos, sin, x, pairing)

    half = (t.f32, d // 2)
    return kernel(
        target, checked, {"x": (t.f32, d), "cos": half, "sin": half, "y": (t.f32, d)}, body
    )


def angles(seed: int, d: int) -> tuple[Array, Array]:
    turn = np.random.default_rng(seed).uniform(0, 7, d // 2)
    return f32(np.cos(turn)), f32(np.sin(turn))


@given(st.data(), st.sampled_from(HEAD_DIMS), pairings, seeds)
@few
def test_rope_gives_the_bits_of_its_reference(
    target: Target, checked: bool, data: st.DataObject, d: int, pairing: Pairing, seed: int
) -> None:
    x = data.draw(floats(d))
    cos, sin = angles(seed, d)
    expected = rope_reference(x[None, None], cos[None], sin[None], pairing)[0, 0]
    in_place, y = x.copy(), np.empty(d, np.float32)
    rope_kernel(target, checked, d, pairing)(in_place, cos, sin, y)
    assert_same_bits(y, expected)
    assert_same_bits(in_place, expected)


@given(seeds, st.sampled_from(HEAD_DIMS), pairings)
@some
def test_rope_reference_turns_pairs_by_the_angle(seed: int, d: int, pairing: Pairing) -> None:
    rng = np.random.default_rng(seed)
    x, turn = f32(rng.standard_normal((2, 3, d))), rng.uniform(0, 7, (2, d // 2))
    y = rope_reference(x, f32(np.cos(turn)), f32(np.sin(turn)), pairing)

    def pairs(v: Array) -> Array:
        if pairing == "halves":
            return v[..., : d // 2] + 1j * v[..., d // 2 :]
        return v[..., 0::2] + 1j * v[..., 1::2]

    np.testing.assert_allclose(pairs(y), pairs(x) * np.exp(1j * turn)[:, None], atol=1e-6)


@pytest.mark.parametrize(("d", "theta"), [(20, 10000.0), (64, 500000.0), (128, 1000042.0)])
def test_tables_hold_position_times_inverse_frequency(d: int, theta: float) -> None:
    cos, sin = rope_tables(4096, d, theta)
    assert cos.shape == sin.shape == (4096, d // 2)
    frequency = np.array([theta ** (-2 * i / d) for i in range(d // 2)])
    angle = np.arange(4096)[:, None] * frequency
    # The angle is an f32, so its last bit moves cos and sin by up to 4096 * 2**-24.
    np.testing.assert_allclose(cos, np.cos(angle), atol=1e-3)
    np.testing.assert_allclose(sin, np.sin(angle), atol=1e-3)
    assert (cos[0] == 1).all()
    assert (sin[0] == 0).all()


def test_tables_are_within_one_ulp_up_to_a_million_radians() -> None:
    cos, sin = (column[:, 0] for column in rope_tables(2**20, 2, 10000.0))
    angle = np.arange(2**20, dtype=float)
    for table, exact in ((cos, np.cos(angle)), (sin, np.sin(angle))):
        assert (np.abs(table - exact) <= np.spacing(f32(np.abs(exact)))).all()
