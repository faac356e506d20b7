"""Embedding models converted: the same embeddings come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.conversion import Target, convert
from bitnet.errors import InvalidArgumentError, UnsupportedModelError
from bitnet.formats.gguf_writer import TensorData
from bitnet.formats.safetensors import SafetensorsFolder
from bitnet.models import open_checkpoint
from bitnet.models.spec import Pooling
from tests.embedder_files import HIDDEN, Embedder, Kind, write_tokenizer

IDS = list(range(40, 90))
TEXTS = ["caf\u00e9", "cafe\u0301", "a  b", ""]


@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
@pytest.mark.parametrize("to", ["native", "i2_s"])
def test_files_and_folders_can_be_converted(tmp_path: Path, kind: Kind, to: Target) -> None:
    model = Embedder(kind)
    file = model.write_gguf(tmp_path / "model.gguf", pooling=1)
    folder = model.write_folder(tmp_path / "folder", pooling="mean_tokens")
    write_tokenizer(folder, kind)
    with bitnet.load(file, threads=1) as source:
        expected, embedding = source.hidden_states(IDS), source.embed("ab")
    for number, origin in enumerate((file, folder)):
        out = tmp_path / f"{number}.gguf"
        convert(origin, out, to)
        with bitnet.load(out, threads=1) as converted:
            assert converted.config == source.config
            np.testing.assert_array_equal(converted.hidden_states(IDS), expected)
            np.testing.assert_array_equal(converted.embed("ab"), embedding)


@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
@pytest.mark.parametrize("pooling", ["lasttoken", "mean_tokens", None])
def test_folders_become_files_and_folders_again(
    tmp_path: Path, kind: Kind, pooling: str | None
) -> None:
    first = Embedder(kind).write_folder(tmp_path / "first", pooling=pooling)
    write_tokenizer(first, kind)
    convert(first, tmp_path / "m.gguf", "i2_s")
    convert(tmp_path / "m.gguf", tmp_path / "again", "hf")
    convert(first, tmp_path / "direct", "hf")
    convert(tmp_path / "direct", tmp_path / "native.gguf")
    choice: Pooling | None = None if pooling else "cls"
    with bitnet.load(first, threads=1) as source:
        expected, states = source.embed(TEXTS, pooling=choice), source.hidden_states(IDS)
        for name in ("m.gguf", "again", "direct", "native.gguf"):
            with bitnet.load(tmp_path / name, threads=1) as converted:
                assert converted.config == source.config
                np.testing.assert_array_equal(converted.embed(TEXTS, pooling=choice), expected)
                np.testing.assert_array_equal(converted.hidden_states(IDS), states)
    if kind == "qwen3":  # normalises
        np.testing.assert_array_equal(expected[0], expected[1])
    convert(first, tmp_path / "direct", "hf", overwrite=True)


def test_folders_are_such_as_transformers_has_them(tmp_path: Path) -> None:
    convert(Embedder("gemma3").write_gguf(tmp_path / "m.gguf"), tmp_path / "hf", "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == ["Gemma3TextModel"]
    quantization = config["quantization_config"]
    assert (quantization["use_rms_norm"], quantization["rms_norm_eps"]) == (True, 1e-6)
    with SafetensorsFolder(tmp_path / "hf") as files:
        assert files.tensors["model.layers.1.mlp.up_proj.rms_norm.weight"].shape == (HIDDEN,)
    (tmp_path / "hf" / "1_Pooling" / "mine").touch()
    with pytest.raises(InvalidArgumentError, match="1_Pooling/mine is no file that such folders"):
        convert(tmp_path / "m.gguf", tmp_path / "hf", "hf", overwrite=True)


def test_norms_that_are_not_kept_less_one_are_refused(tmp_path: Path) -> None:
    norm = TensorData("output_norm.weight", (HIDDEN,), "F32", np.full(HIDDEN, 1e-9, np.float32))
    file = Embedder("gemma3").write_gguf(tmp_path / "m.gguf", changed=(norm,))
    with pytest.raises(UnsupportedModelError, match=r"output_norm.weight: less 1, its values are"):
        convert(file, tmp_path / "hf", "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps 1e-05 of linear layers is not that of the other"),
        ({"use_rms_norm": False}, r"qwen3 is supported only with use_rms_norm"),
    ],
)
def test_norms_in_linear_layers_must_be_as_the_others(
    tmp_path: Path, change: dict[str, Any], rule: str
) -> None:
    convert(Embedder("qwen3").write_gguf(tmp_path / "m.gguf"), tmp_path / "hf", "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config["quantization_config"] |= change
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=rule):
        open_checkpoint(tmp_path / "hf")


def test_what_has_no_form_is_refused(tmp_path: Path) -> None:
    file = Embedder("qwen3").write_gguf(tmp_path / "model.gguf")
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
