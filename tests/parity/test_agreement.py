"""The rules of agreement accept other orders of summation and reject other arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity import plain
from tests.parity.agreement import judge
from tests.parity.expected import load
from tests.parity.plain import F64, PlainModel

FOLDER = Path(__file__).parent / "fixtures" / "b1.58-latent"

linear, norm, rotate, ternary = (
    PlainModel.linear,
    PlainModel.norm,
    plain.rotate,
    PlainModel.ternary,
)


def linear_with_scale_per_block(self: PlainModel, x: F64, name: str) -> F64:
    scaled, s = plain.scale_activations(x.reshape(len(x), -1, 32))
    weight, scale = self.ternary(name)
    return (np.rint(scaled) / s).reshape(x.shape) @ weight.T * scale


def linear_with_half_precision_values(self: PlainModel, x: F64, name: str) -> F64:
    y = linear(self, x, name)
    return y.astype(np.float16).astype(np.float64) if name.endswith("v_proj") else y


def half_precision_scale(self: PlainModel, name: str) -> tuple[F64, float]:
    weight, scale = ternary(self, name)
    return weight, float(np.float16(scale))


def norm_with_other_epsilon(self: PlainModel, x: F64, name: str) -> F64:
    self.eps = 1.2e-5
    return norm(self, x, name)


def rotate_neighbours(x: F64, theta: float) -> F64:
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return rotate(pairs.swapaxes(-1, -2).reshape(x.shape), theta)


def last_block_visible(n: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.tri(n, dtype=bool) & ~np.tri(n, k=-32, dtype=bool)


MISTAKES: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "rounding towards zero": (plain, "round_activations", np.trunc),
    "a scale per block": (PlainModel, "linear", linear_with_scale_per_block),
    "weight scale in float16": (PlainModel, "ternary", half_precision_scale),
    "values in float16": (PlainModel, "linear", linear_with_half_precision_values),
    "another epsilon": (PlainModel, "norm", norm_with_other_epsilon),
    "no sub-norms": (PlainModel, "sub_norm", lambda _self, x, *_: x),
    "SiLU for squared ReLU": (plain, "activate", lambda x, _: x / (1 + np.exp(-x))),
    "another theta": (plain, "rotate", lambda x, theta: rotate(x, theta * 1.001)),
    "the other rotary pairs": (plain, "rotate", rotate_neighbours),
    "heads in another order": (plain, "share_heads", lambda x, group: np.tile(x, (1, group, 1))),
    "one attention block only": (plain, "visible", last_block_visible),
}


def judge_plain() -> None:
    model, expected = PlainModel(FOLDER), load(FOLDER)
    judge([model.logits(sequence.ids)[0] for sequence in expected], expected, n_layers=1)


def test_float64_agrees() -> None:
    judge_plain()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MISTAKES[mistake])
    with pytest.raises(AssertionError):
        judge_plain()
