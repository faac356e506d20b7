"""The engine computes what transformers computes now, for models made on the spot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert
from tests.parity.agreement import judge
from tests.parity.cases import LIVE, Case

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # what torch and transformers warn of is theirs
]


@pytest.mark.parametrize("case", LIVE, ids=lambda case: case.name)
def test_logits_agree_with_transformers(random_models: Any, case: Case, tmp_path: Path) -> None:
    expected, _ = random_models.write(case, tmp_path)
    with bitnet.load(tmp_path, kv="f32") as model:
        logits = [model.logits(sequence.ids) for sequence in expected]
    judge(logits, expected, case.layers)


@pytest.mark.parametrize("case", LIVE, ids=lambda case: case.name)
def test_transformers_loads_folders_that_models_are_converted_to(
    random_models: Any, case: Case, tmp_path: Path
) -> None:
    expected, _ = random_models.write(case, tmp_path / "published")
    source = tmp_path / "published"
    if case.hidden % 128 == 0 and case.ffn % 128 == 0:  # as I2_S needs it
        source = tmp_path / "model.gguf"
        convert(tmp_path / "published", source, "i2_s")
    convert(source, tmp_path / "written", "hf")
    logits = random_models.transformers_logits(tmp_path / "written", [e.ids for e in expected])
    theirs = [replace(e, logits=mine) for e, mine in zip(expected, logits, strict=True)]
    with bitnet.load(tmp_path / "written", kv="f32") as model:
        judge([model.logits(sequence.ids) for sequence in expected], theirs, case.layers)


@pytest.mark.parametrize("style", ["b1.58-packed", "b1.58-latent", "llama-packed"])
def test_folders_saved_by_transformers_hold_the_same_model(
    random_models: Any, style: str, tmp_path: Path
) -> None:
    case = next(case for case in LIVE if case.style == style and case.layers == 1)
    expected, _ = random_models.write(case, tmp_path / "published")
    model = random_models.load(tmp_path / "published")
    # It cannot pack again what it has unpacked; then the weights are -1, 0 and 1 as floats.
    model.save_pretrained(tmp_path / "saved", save_original_format=False)
    with (
        bitnet.load(tmp_path / "published") as published,
        bitnet.load(tmp_path / "saved") as saved,
    ):
        for sequence in expected:
            logits = saved.logits(sequence.ids)
            np.testing.assert_array_equal(logits, published.logits(sequence.ids))
