"""The gates of the feed-forward network: squared ReLU and SiLU."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bitnet.codegen import Function, Value
from bitnet.kernels.numerics import F32, exp, exp_reference

Activation = Literal["relu2", "silu"]


def gated(k: Function, gate: Value, up: Value, activation: Activation) -> Value:
    """activation(gate) * up; relu2 is max(x, 0)**2, silu is x / (1 + exp(-x))."""
    if activation == "relu2":
        positive = k.max(gate, 0.0)
        return positive * positive * up
    return gate / (exp(k, -gate) + 1.0) * up


def gated_reference(gate: F32, up: F32, activation: Activation) -> F32:
    if activation == "relu2":
        positive = np.maximum(gate, np.float32(0))
        return positive * positive * up
    return gate / (exp_reference(-gate) + np.float32(1)) * up
