"""Squared ReLU, SiLU and GELU gates."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target
from bitnet.codegen import types as t
from bitnet.kernels.gate import Activation, gated, gated_reference
from bitnet.kernels.numerics import LANES
from tests.kernels.harness import Native, assert_same_bits, f32, few, floats, kernel

COUNT = 48
activations = st.sampled_from(["relu2", "silu", "gelu"])


@cache
def gate_kernel(target: Target, checked: bool, activation: Activation) -> Native:
    def body(k: Function, gate: Buffer, up: Buffer, out: Buffer) -> None:
        with k.loop(0, COUNT, LANES) as i:
            out.store(i, gated(k, gate.load(i, LANES), up.load(i, LANES), activation))

    parameters = dict.fromkeys(("gate", "up", "out"), (t.f32, COUNT))
    return kernel(target, checked, parameters, body)


@given(st.data(), activations)
@few
def test_gates_give_the_bits_of_their_reference(
    target: Target, checked: bool, data: st.DataObject, activation: Activation
) -> None:
    gate, up = data.draw(floats(COUNT)), data.draw(floats(COUNT))
    out = np.empty(COUNT, np.float32)
    gate_kernel(target, checked, activation)(gate, up, out)
    assert_same_bits(out, gated_reference(gate, up, activation))


def test_gate_references_are_the_formulas() -> None:
    gate = f32(np.linspace(-30, 30, 4001))
    up = f32(np.linspace(2, -3, 4001))
    wide = gate.astype(float)
    for activation, exact in (
        ("relu2", np.maximum(wide, 0) ** 2 * up),
        ("silu", wide / (1 + np.exp(-wide)) * up),
    ):
        np.testing.assert_allclose(gated_reference(gate, up, activation), exact, rtol=1e-6)


def test_gelu_is_its_tanh_formula() -> None:
    gate = f32(np.linspace(-30, 30, 4001))
    wide = gate.astype(float)
    exact = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    found = gated_reference(gate, np.ones_like(gate), "gelu")
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-9)


def test_gates_of_huge_inputs_stay_finite() -> None:
    gate = f32([-1e30, -1e4, -100, 1e4, 1e15])
    for activation in ("silu", "gelu"):
        assert np.isfinite(gated_reference(gate, f32(np.ones(5)), activation)).all()
    assert gated_reference(gate, f32(np.ones(5)), "relu2")[:3].tolist() == [0, 0, 0]
