"""The engine computes what transformers computed for the models in `fixtures/`."""

from __future__ import annotations

from pathlib import Path

import pytest

import bitnet
from tests.parity.agreement import judge
from tests.parity.cases import FIXTURES, Case
from tests.parity.expected import load

FOLDER = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("case", FIXTURES, ids=lambda case: case.name)
def test_logits_agree_with_transformers(case: Case) -> None:
    expected = load(FOLDER / case.name)
    with bitnet.load(FOLDER / case.name, kv="f32") as model:
        logits = [model.logits(sequence.ids) for sequence in expected]
    judge(logits, expected, case.layers)
