"""How near logits must be to those of another engine.

Activations are rounded to int8, so one that lies on a tie falls either way with the order of a
sum. Tokens that meet no tie agree to float noise. A fall moves the logits of its token by about
1e-2 and, through keys and values, those of the tokens after it; in a deep model of some length
hardly a token is spared. A looser rule than the ones here would hide real bugs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.parity.expected import Expected

FLOAT_NOISE = 1e-5  # ten times what is seen
CLOSE = 1e-4
CLOSE_SHARE = 0.85
BOUND = 6e-2
SAME_TOP_SHARE = 0.93


@dataclass(frozen=True)
class Agreement:
    """Per token: how far the logits are apart, whether the largest is the same one."""

    deviation: npt.NDArray[np.float64]
    """max |difference| / max |expected|."""
    same_top: npt.NDArray[np.bool_]
    tie_free: npt.NDArray[np.bool_]

    def __str__(self) -> str:
        return (
            f"{len(self.deviation)} tokens, {np.mean(self.deviation <= CLOSE):.1%} "
            f"within {CLOSE:g}, median {np.median(self.deviation):.1e}, "
            f"worst {self.deviation.max():.1e}, same top token {self.same_top.mean():.1%}; "
            f"{self.tie_free.mean():.1%} without ties, "
            f"their worst {self.deviation[self.tie_free].max():.1e}"
        )


def judge(
    logits: Sequence[npt.NDArray[Any]], expected: Sequence[Expected], n_layers: int
) -> Agreement:
    """Fail unless the logits of each sequence, (tokens, vocab), are what is to be expected."""
    found = compare(logits, expected)
    without_ties = found.deviation[found.tie_free]
    assert without_ties.size, "no token without ties to compare"
    assert without_ties.max() <= FLOAT_NOISE, str(found)
    assert found.deviation.max() <= BOUND, str(found)
    if n_layers == 1:
        assert np.mean(found.deviation <= CLOSE) >= CLOSE_SHARE, str(found)
    assert found.same_top.mean() >= SAME_TOP_SHARE, str(found)
    return found


def compare(logits: Sequence[npt.NDArray[Any]], expected: Sequence[Expected]) -> Agreement:
    """The agreement of all tokens of the sequences."""
    parts = [_compare(mine, theirs) for mine, theirs in zip(logits, expected, strict=True)]
    return Agreement(
        np.concatenate([part.deviation for part in parts]),
        np.concatenate([part.same_top for part in parts]),
        np.concatenate([part.tie_free for part in parts]),
    )


def _compare(logits: npt.NDArray[Any], expected: Expected) -> Agreement:
    assert logits.shape == expected.logits.shape
    difference = np.abs(logits.astype(np.float64) - expected.logits).max(axis=1)
    return Agreement(
        difference / np.abs(expected.logits).max(axis=1).astype(np.float64),
        logits.argmax(axis=1) == expected.logits.argmax(axis=1),
        expected.tie_free,
    )
