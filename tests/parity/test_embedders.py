"""Embedding models give what a plain reading of their folders gives, but for ties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert
from tests.embedder_files import Embedder, Kind
from tests.parity.agreement import BOUND, CLOSE, CLOSE_SHARE, FLOAT_NOISE
from tests.parity.plain_embedder import PlainEmbedder


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
def test_hidden_states_are_those_of_the_plain_model(
    tmp_path: Path, kind: Kind, n_layers: int
) -> None:
    folder = Embedder(kind, n_layers).write_folder(tmp_path / "model", prefix="model.")
    plain = PlainEmbedder(folder)
    ids = np.random.default_rng(1).choice(plain.settled_ids(), 60)
    expected, tie_free = plain.hidden_states(ids)
    with bitnet.load(folder, kv="f32") as model:
        found = model.hidden_states(ids.tolist())
    deviation = np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert deviation[tie_free].max(initial=0) <= FLOAT_NOISE
    assert deviation.max() <= BOUND
    assert np.mean(deviation <= CLOSE) >= CLOSE_SHARE
    if n_layers == 1:
        assert tie_free.mean() > 0.5


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # what torch and transformers warn of is theirs
@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
def test_transformers_loads_folders_that_models_are_converted_to(
    random_models: Any, kind: Kind, tmp_path: Path
) -> None:
    convert(Embedder(kind).write_gguf(tmp_path / "m.gguf"), tmp_path / "written", "hf")
    ids = np.arange(40, 200).reshape(40, 4)  # short texts, for a tie is felt in all that follows
    expected = random_models.transformers_states(tmp_path / "written", ids)
    with bitnet.load(tmp_path / "written", kv="f32") as model:
        found = np.stack([model.hidden_states(text.tolist()) for text in ids])
    deviation = np.abs(found - expected).max(axis=-1) / np.abs(expected).max(axis=-1)
    assert np.median(deviation) <= FLOAT_NOISE
    assert deviation.max() <= BOUND
