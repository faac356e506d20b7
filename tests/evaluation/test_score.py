"""Scores are the log-likelihoods that the model's logits say, whatever is scored beside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import bitnet
from bitnet.errors import ContextLengthExceededError, GenerationError, InvalidArgumentError
from bitnet.evaluation import Score, windows
from bitnet.evaluation.score import log_likelihoods

Array = npt.NDArray[Any]


def nll_of(model: bitnet.Model, ids: list[int], first: int = 1) -> Array:
    """In float64, from the logits of a forward pass by itself."""
    logits = model.logits(ids[:-1]).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_probs[np.arange(first - 1, len(ids) - 1), ids[first:]]


def ids_of(model: bitnet.Model, text: str) -> list[int]:
    return model.tokenizer.encode(text, add_bos=model.tokenizer.add_bos)


def test_score_is_what_the_logits_say(model: bitnet.Model, texts: list[str]) -> None:
    found = model.score(texts)
    for text, score in zip(texts, found.scores, strict=True):
        np.testing.assert_allclose(score.nll, nll_of(model, ids_of(model, text)), atol=2e-6)
    everything = np.concatenate([score.nll for score in found.scores])
    assert np.array_equal(found.total.nll, everything)


def test_score_does_not_depend_on_what_is_scored_beside(
    model: bitnet.Model, texts: list[str]
) -> None:
    together = model.score(texts).scores
    backwards = model.score(texts[::-1]).scores[::-1]
    for text, one, other in zip(texts, together, backwards, strict=True):
        alone = model.score([text]).scores[0]
        assert np.array_equal(alone.nll, one.nll)
        assert np.array_equal(alone.nll, other.nll)


def test_ids_are_scored_as_they_are(model: bitnet.Model, texts: list[str]) -> None:
    ids = ids_of(model, texts[0])
    by_ids, by_text = model.score([ids]), model.score([texts[0]])
    assert np.array_equal(by_ids.total.nll, by_text.total.nll)


def test_a_text_of_one_token_has_nothing_to_predict(model: bitnet.Model, texts: list[str]) -> None:
    found = model.score([[5], texts[0], []])
    assert [score.tokens > 0 for score in found.scores] == [False, True, False]
    with pytest.raises(InvalidArgumentError, match="nothing to predict"):
        model.score([[5], []])


def test_a_text_longer_than_the_context_is_named(model: bitnet.Model) -> None:
    longest = [7] * (model.context + 1)  # the last one is not read
    assert model.score([longest]).total.tokens == model.context
    with pytest.raises(ContextLengthExceededError, match="text 2: "):
        model.score([[5, 6], [*longest, 7]])


def test_progress_comes_to_its_end(model: bitnet.Model, texts: list[str]) -> None:
    shares: list[float] = []
    model.score(texts, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 1
    assert shares[-1] == 1


def test_perplexity_is_of_the_second_halves_of_windows(model: bitnet.Model) -> None:
    text = " ".join(f"The fox found {n} red apples." for n in range(300))
    ids = ids_of(model, text)
    size = model.context
    found = model.perplexity(text)
    assert len(found.scores) == len(ids) // size >= 2
    for number, score in enumerate(found.scores):
        window = [ids[0], *ids[number * size + 1 : (number + 1) * size]]
        expected = nll_of(model, window, size // 2 + 1)
        np.testing.assert_allclose(score.nll, expected, atol=2e-6)


def test_windows_follow_each_other_and_the_rest_is_left_out() -> None:
    found = windows(range(100, 123), 10, bos=None)
    assert [list(w.ids) for w in found] == [list(range(100, 110)), list(range(110, 120))]
    assert [w.first for w in found] == [6, 6]
    assert [w.ids[0] for w in windows(range(100, 123), 10, bos=1)] == [1, 1]
    assert all(len(w.ids) == 10 for w in windows(range(100, 123), 10, bos=1))


def test_a_text_shorter_than_a_window_is_one() -> None:
    (only,) = windows([1, 5, 6, 7, 8], 10, bos=1)
    assert (only.ids, only.first, only.n_predicted) == ([1, 5, 6, 7, 8], 3, 2)
    assert windows([], 10, bos=None) == []


def test_interval_is_that_of_the_mean() -> None:
    score = Score(np.array([1.0, 2.0, 3.0, 6.0]))
    error = math.sqrt(sum((x - 3) ** 2 for x in (1, 2, 3, 6)) / 3) / 2
    assert score.mean_nll == 3
    assert score.standard_error == pytest.approx(error)
    assert score.perplexity == pytest.approx(math.exp(3))
    low, high = score.perplexity_interval
    assert low == pytest.approx(math.exp(3 - 1.959964 * error))
    assert high == pytest.approx(math.exp(3 + 1.959964 * error))


def test_few_tokens_have_no_interval_and_unlikely_ones_no_end() -> None:
    assert all(math.isnan(end) for end in Score(np.array([2.0])).perplexity_interval)
    assert math.isnan(Score(np.empty(0)).perplexity)
    assert Score(np.array([1e4, 1e4])).perplexity == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    logits = np.zeros((2, 4), np.float32)
    logits[1, 2] = bad
    with pytest.raises(GenerationError, match="not numbers"):
        log_likelihoods(logits, np.array([0, 0]))


def test_rows_do_not_depend_on_those_beside_them() -> None:
    rng = np.random.default_rng(5)
    for vocab in (7, 1000, 4097):
        logits = rng.normal(0, 5, (9, vocab)).astype(np.float32)
        targets = rng.integers(0, vocab, 9)
        log_probs, nll = log_likelihoods(logits, targets)
        for i in range(9):
            some = slice(i, i + 2)
            log_probs_alone, nll_alone = log_likelihoods(logits[some], targets[some])
            assert np.array_equal(log_probs_alone, log_probs[some])
            assert np.array_equal(nll_alone, nll[some])
