"""Distributions in a file: what is far from them, and files that are something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import bitnet
from bitnet.errors import InvalidArgumentError

Tensors = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def file(model: bitnet.Model, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baseline") / "stored.bin"
    model.score(texts[:2], save_baseline=path)
    return path


def log_probs_of(model: bitnet.Model, text: str) -> npt.NDArray[np.float64]:
    ids = model.tokenizer.encode(text, add_bos=model.tokenizer.add_bos)
    logits = model.logits(ids[:-1]).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_a_model_is_nowhere_away_from_itself(
    model: bitnet.Model, texts: list[str], file: Path
) -> None:
    found = model.score(texts[:2], baseline=file)
    assert found.divergence is not None
    assert found.divergence.mean_kl == found.divergence.max_kl == 0
    assert found.divergence.top1_agreement == 1
    assert np.array_equal(found.divergence.baseline_nll, found.total.nll)


def test_divergence_is_that_of_the_distributions(
    model: bitnet.Model, texts: list[str], file: Path
) -> None:
    before = np.concatenate([log_probs_of(model, text) for text in texts[:2]])
    with bitnet.load(head="q6_k") as other:
        found = other.score(texts[:2], baseline=file).divergence
        now = np.concatenate([log_probs_of(other, text) for text in texts[:2]])
    assert found is not None
    expected = (np.exp(before) * (before - now)).sum(axis=1)
    assert expected.max() > 5e-4
    np.testing.assert_allclose(found.kl, expected, rtol=2e-2, atol=2e-6)
    assert found.mean_kl == pytest.approx(expected.mean(), rel=2e-3)
    assert found.standard_error == pytest.approx(expected.std(ddof=1) / len(expected) ** 0.5, 1e-2)
    same = before.argmax(axis=1) == now.argmax(axis=1)
    assert np.array_equal(found.same_top, same)
    assert 0.9 < found.top1_agreement < 1


def test_windows_have_baselines_too(model: bitnet.Model, texts: list[str], tmp_path: Path) -> None:
    text = "\n".join(texts)
    model.perplexity(text, save_baseline=tmp_path / "windows")
    found = model.perplexity(text, baseline=tmp_path / "windows").divergence
    assert found is not None
    assert found.max_kl == 0


def test_what_cannot_be_written_says_so(
    model: bitnet.Model, texts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot write .*nowhere"):
        model.score(texts[:1], save_baseline=tmp_path / "nowhere" / "file")


def test_a_file_stays_when_scoring_fails(
    model: bitnet.Model, texts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")

    def fail(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.score(texts[:1], save_baseline=path, progress=fail)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_other_texts_and_windows_are_refused(
    model: bitnet.Model, texts: list[str], file: Path
) -> None:
    ids = model.tokenizer.encode(texts[0], add_bos=True)
    changed = [*ids[:3], ids[3] + 1, *ids[4:]]
    for others in (texts[:1], texts[1::-1], [changed, texts[1]]):
        with pytest.raises(InvalidArgumentError, match="of another text"):
            model.score(others, baseline=file)


def shorter(tensors: Tensors, _: dict[str, str]) -> None:
    for name in tensors:
        tensors[name] = tensors[name][:-1]


def of_fewer_words(tensors: Tensors, _: dict[str, str]) -> None:
    tensors["log_probs"] = np.ascontiguousarray(tensors["log_probs"][:, :-1])


def of_no_dimension(tensors: Tensors, _: dict[str, str]) -> None:
    tensors["log_probs"] = np.array(0, np.uint16)


def in_float(tensors: Tensors, _: dict[str, str]) -> None:
    tensors["log_probs"] = (tensors["log_probs"] / 2048).astype(np.float16)


def without_best(tensors: Tensors, _: dict[str, str]) -> None:
    del tensors["best"]


def with_more(tensors: Tensors, _: dict[str, str]) -> None:
    tensors["more"] = np.zeros(1, np.uint8)


def with_nan(tensors: Tensors, _: dict[str, str]) -> None:
    tensors["nll"] = tensors["nll"] * np.nan


def of_another_version(_: Tensors, metadata: dict[str, str]) -> None:
    metadata["format"] = "bitnet baseline \x1b[2J2"


def without_digest(_: Tensors, metadata: dict[str, str]) -> None:
    del metadata["digest"]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (shorter, "log_probs is not U16 of shape"),
        (of_fewer_words, "of a vocabulary of"),
        (of_no_dimension, "of a vocabulary of"),
        (in_float, "log_probs is not U16 of shape"),
        (without_best, "does not hold log_probs, nll, best"),
        (with_more, "does not hold log_probs, nll, best"),
        (with_nan, "negative or none"),
        (of_another_version, r"its format is 'bitnet baseline \\x1b\[2J2'"),
        (without_digest, "of another text"),
    ],
)
def test_a_damaged_file_is_refused(
    model: bitnet.Model,
    texts: list[str],
    file: Path,
    tmp_path: Path,
    damage: Callable[[Tensors, dict[str, str]], None],
    rule: str,
) -> None:
    with safe_open(file, framework="numpy") as stored:
        metadata = stored.metadata()
    tensors = load_file(file)
    damage(tensors, metadata)
    save_file(tensors, tmp_path / "damaged", metadata)
    with pytest.raises(InvalidArgumentError, match=f"damaged is no baseline for this: .*{rule}"):
        model.score(texts[:2], baseline=tmp_path / "damaged")


def test_what_is_no_such_file_is_refused(
    model: bitnet.Model, texts: list[str], file: Path, tmp_path: Path
) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut"
    for n in (0, 7, 100, len(whole) - 1):
        cut.write_bytes(whole[:n])
        with pytest.raises(InvalidArgumentError, match="is no baseline for this"):
            model.score(texts[:2], baseline=cut)
    with pytest.raises(InvalidArgumentError, match="is no baseline for this"):
        model.score(texts[:2], baseline=tmp_path)
    with pytest.raises(InvalidArgumentError, match="there is no file"):
        model.score(texts[:2], baseline=tmp_path / "none")
