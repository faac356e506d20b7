"""The gates of the feed-forward network: squared ReLU, SiLU and GELU."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from bitnet.codegen import Function, Value
from bitnet.kernels.numerics import F32, exp, exp_reference, fma_reference

Activation = Literal["relu2", "silu", "gelu"]

# GELU by its tanh formula, x/2 * (1 + tanh(u)) with u = sqrt(2/pi) * (x + 0.044715 x**3), is
# x / (1 + exp(-2u)): 2u = x * (_LINEAR + _CUBIC * x**2).
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR
_MOST = 1e4  # of x**2: exp(-2u) is 0, or as large as it gets, long before


def gated(k: Function, gate: Value, up: Value, activation: Activation) -> Value:
    """activation(gate) * up; relu2 is max(x, 0)**2, silu is x / (1 + exp(-x)).

    gelu is x / (1 + exp(-2u)), see above.
    """
    if activation == "relu2":
        positive = k.max(gate, 0.0)
        return positive * positive * up
    exponent = gate
    if activation == "gelu":
        square = k.min(gate * gate, _MOST)
        exponent = gate * k.fma(square, gate.constant(_CUBIC), gate.constant(_LINEAR))
    return gate / (exp(k, -exponent) + 1.0) * up


def gated_reference(gate: F32, up: F32, activation: Activation) -> F32:
    if activation == "relu2":
        positive = np.maximum(gate, np.float32(0))
        return positive * positive * up
    exponent = gate
    if activation == "gelu":
        with np.errstate(over="ignore"):
            square = np.minimum(gate * gate, np.float32(_MOST))
        exponent = gate * fma_reference(square, np.float32(_CUBIC), np.float32(_LINEAR))
    return gate / (exp_reference(-exponent) + np.float32(1)) * up
