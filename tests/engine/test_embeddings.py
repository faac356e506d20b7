"""Embeddings: what of the hidden states they are made, and that company does not change them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet import (
    ContextLengthExceededError,
    GenerationError,
    InvalidArgumentError,
    ModelClosedError,
    UnsupportedOperationError,
)
from bitnet.engine.pooling import Pooled
from bitnet.models.spec import Pooling
from tests.embedder_files import END, Embedder
from tests.kernels.harness import assert_same_bits

LONG = "A text that takes more than one step of 128 tokens. " * 5
TEXTS = ["short", LONG, "naïve", "", LONG[:122], "short"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    Embedder("qwen3").write_gguf(folder / "qwen3.gguf")
    Embedder("gemma3").write_gguf(folder / "gemma3.gguf", pooling=1)
    Embedder("qwen3").write_gguf(folder / "silent.gguf", pooling=None)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[bitnet.Model]:
    with bitnet.load(folder / "qwen3.gguf") as model:
        yield model


def pooled(states: np.ndarray, pooling: Pooling) -> np.ndarray:
    """The formula, in float64."""
    wide = states.astype(float)
    row = {"mean": wide.mean(axis=0), "cls": wide[0], "last": wide[-1]}[pooling]
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_embeddings_are_pooled_hidden_states(model: bitnet.Model, pooling: Pooling) -> None:
    found = model.embed(TEXTS, pooling=pooling)
    assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), model.config.hidden_size))
    for text, vector in zip(TEXTS, found, strict=True):
        states = model.hidden_states([*text.encode(), END])
        np.testing.assert_allclose(vector, pooled(states, pooling), rtol=1e-6, atol=1e-7)


def test_without_a_choice_it_is_what_the_files_say(folder: Path, model: bitnet.Model) -> None:
    assert_same_bits(model.embed(TEXTS), model.embed(TEXTS, pooling="last"))
    with bitnet.load(folder / "gemma3.gguf") as gemma:
        assert_same_bits(gemma.embed("ab"), gemma.embed("ab", pooling="mean"))
        assert not np.array_equal(gemma.embed("ab"), gemma.embed("ab", pooling="last"))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_company_and_threads_do_not_matter(model: bitnet.Model, pooling: Pooling) -> None:
    alone = np.stack([model.embed(text, pooling=pooling) for text in TEXTS])
    assert_same_bits(model.embed(TEXTS, pooling=pooling), alone)
    assert_same_bits(model.embed(TEXTS[::-1], pooling=pooling), alone[::-1].copy())
    model.set_threads(2)
    assert_same_bits(model.embed(TEXTS, pooling=pooling), alone)
    model.set_threads(1)


def test_one_text_gives_one_vector_and_none_give_none(model: bitnet.Model) -> None:
    assert model.embed("short").shape == (128,)
    assert model.embed(["short"]).shape == (1, 128)
    assert model.embed([]).shape == (0, 128)


def test_pages_are_given_back(model: bitnet.Model) -> None:
    model.embed(TEXTS)
    pages = model._engine._stepper.pages
    assert len(pages._free) == pages.n_allocated


def test_begin_and_end_of_text_are_the_models_own(folder: Path) -> None:
    with bitnet.load(folder / "gemma3.gguf") as gemma:
        states = gemma.hidden_states([2, 261, 262])
        np.testing.assert_allclose(gemma.embed("ab"), pooled(states, "mean"), rtol=1e-6, atol=1e-7)


def test_what_is_asked_in_vain_is_refused(folder: Path, model: bitnet.Model) -> None:
    with pytest.raises(InvalidArgumentError, match="mean, cls, last, not 'max'"):
        model.embed("a", pooling="max")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ContextLengthExceededError, match="text 1 has 513 tokens, not 1 to 512"):
        model.embed(["a", "a" * 512])
    with pytest.raises(UnsupportedOperationError, match="no output head, so it writes no text"):
        model.generate("a")
    with pytest.raises(UnsupportedOperationError, match="no output head, so it gives no logits"):
        model.logits([1])
    assert model.embed("a").shape == (128,), "and it still works"
    with bitnet.load(folder / "silent.gguf") as silent:
        with pytest.raises(UnsupportedOperationError, match="bitnet-embedding-qwen3 do not say"):
            silent.embed("a")
        assert_same_bits(silent.embed("a", pooling="last"), model.embed("a"))
    with pytest.raises(ModelClosedError):
        silent.embed("a", pooling="last")


def test_a_text_without_a_token_is_refused(model: bitnet.Model) -> None:
    with pytest.raises(InvalidArgumentError, match="text 0 has 0 tokens"):
        model._engine.embeddings([[]], "last")


def test_models_that_write_text_embed_when_told_how() -> None:
    with bitnet.load() as model:
        with pytest.raises(UnsupportedOperationError, match="do not say how to make embeddings"):
            model.embed("Once")
        ids = model.tokenizer.encode("Once", add_bos=model.tokenizer.add_bos)
        if model.tokenizer.add_eos:
            ids.append(model.tokenizer.eos_id or 0)
        expected = pooled(model.hidden_states(ids), "mean")
        np.testing.assert_allclose(
            model.embed("Once", pooling="mean"), expected, rtol=1e-5, atol=1e-7
        )


def test_lengths_are_one_but_for_zero() -> None:
    for scale in (1e-20, 1.0, 1e20):
        state = Pooled(1, "last")
        state.add(np.full((1, 100), scale, np.float32))
        assert abs(np.linalg.norm(state.vector()) - (scale > 1e-15)) < 1e-6
    broken = Pooled(1, "mean")
    broken.add(np.full((1, 100), np.inf, np.float32))
    with pytest.raises(GenerationError, match="not finite"):
        broken.vector()
