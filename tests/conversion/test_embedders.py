"""Embedding models converted: the same embeddings come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet.conversion import Target, convert
from bitnet.errors import InvalidArgumentError, UnsupportedModelError
from bitnet.models import open_checkpoint
from tests.embedder_files import Embedder, Kind, write_tokenizer

IDS = list(range(40, 90))


@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
@pytest.mark.parametrize("to", ["native", "i2_s"])
def test_files_and_folders_can_be_converted(tmp_path: Path, kind: Kind, to: Target) -> None:
    model = Embedder(kind)
    file = model.write_gguf(tmp_path / "model.gguf", pooling=1)
    folder = model.write_folder(tmp_path / "folder", pooling="mean_tokens")
    write_tokenizer(folder)
    with bitnet.load(file, threads=1) as source:
        expected, embedding = source.hidden_states(IDS), source.embed("ab")
    for number, origin in enumerate((file, folder)):
        out = tmp_path / f"{number}.gguf"
        convert(origin, out, to)
        with bitnet.load(out, threads=1) as converted:
            assert converted.config == source.config
            np.testing.assert_array_equal(converted.hidden_states(IDS), expected)
            if kind == "qwen3":  # whose folder has its own tokenizer
                np.testing.assert_array_equal(converted.embed("ab"), embedding)


def test_what_has_no_form_is_refused(tmp_path: Path) -> None:
    file = Embedder("qwen3").write_gguf(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModelError, match="no class of transformers"):
        convert(file, tmp_path / "folder", "hf")
    with pytest.raises(InvalidArgumentError, match="no output head to store in another way"):
        convert(file, tmp_path / "out.gguf", head="q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_embeddings_can_be_quantised(tmp_path: Path) -> None:
    file = Embedder("gemma3").write_gguf(tmp_path / "model.gguf")
    convert(file, tmp_path / "out.gguf", embed="q8_0")
    with open_checkpoint(tmp_path / "out.gguf") as checkpoint:
        assert checkpoint.dense("token_embd.weight").kind == "q8_0"
    with bitnet.load(tmp_path / "out.gguf") as model:
        assert np.isfinite(model.embed("ab")).all()
