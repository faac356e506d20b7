"""The negative log-likelihood of texts under a model, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitnet.engine import Engine
from bitnet.errors import ContextLengthExceededError, GenerationError, InvalidArgumentError
from bitnet.evaluation.baseline import Baseline, BaselineWriter, Divergence, writing_baseline
from bitnet.evaluation.excerpts import Excerpt
from bitnet.evaluation.statistics import Z95, standard_error

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_ELEMENTS_AT_ONCE = 1 << 16  # of logits: what the caches hold


@dataclass(frozen=True)
class Score:
    """How well a model predicts the tokens of a text; there may be none.

    nll: of each token, the negative natural logarithm of its probability, float64 (tokens,).
    """

    nll: F64

    @property
    def tokens(self) -> int:
        return len(self.nll)

    @property
    def mean_nll(self) -> float:
        return float(self.nll.mean()) if self.tokens else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean, as if the tokens did not depend on each other; nan for less than two."""
        return standard_error(self.nll)

    @property
    def perplexity(self) -> float:
        return _exp(self.mean_nll)

    @property
    def perplexity_interval(self) -> tuple[float, float]:
        """Where the perplexity of more such text lies, with 95 % confidence."""
        margin = Z95 * self.standard_error
        return _exp(self.mean_nll - margin), _exp(self.mean_nll + margin)


@dataclass(frozen=True)
class Evaluation:
    """Scores of texts; divergence: from the baseline, if there was one."""

    scores: list[Score]
    divergence: Divergence | None = None

    @property
    def total(self) -> Score:
        """All texts as one."""
        return Score(np.concatenate([np.empty(0), *(score.nll for score in self.scores)]))


def evaluate(
    engine: Engine,
    excerpts: Sequence[Excerpt],
    *,
    baseline: Path | None = None,
    save_baseline: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Score excerpts, many at a time; of the logits only those of one step are kept.

    baseline: a file that `save_baseline` wrote, for the same excerpts, to compare the
        distributions with.
    save_baseline: the file to write the distributions to; 2 bytes for each token and each entry
        of the vocabulary.
    progress: called with the share that is done, 0 to 1.

    Raises InvalidArgumentError for files and for excerpts without anything to predict,
    ContextLengthExceededError, GenerationError when logits are not numbers.
    """
    for number, excerpt in enumerate(excerpts, start=1):
        if len(excerpt.ids) - 1 > engine.context:
            raise ContextLengthExceededError(
                f"text {number}: {len(excerpt.ids)} tokens, of which all but the last are read, "
                f"are more than the context of {engine.context}"
            )
    # Excerpts with nothing to predict get an empty score.
    chosen = [excerpt for excerpt in excerpts if excerpt.n_predicted]
    if not chosen:
        raise InvalidArgumentError("there is nothing to predict: a text needs two tokens or more")
    vocab = engine.vocab_size
    saved = None if baseline is None else Baseline(baseline, chosen, vocab)
    with ExitStack() as files:
        writer = None
        if save_baseline is not None:
            writer = files.enter_context(writing_baseline(save_baseline, chosen, vocab))
        found = _Scores(chosen, writer, saved, progress or (lambda _share: None))
        engine.evaluate([excerpt.forward_pass for excerpt in chosen], found.take)
    nll = iter(found.nll)
    scores = [Score(next(nll) if excerpt.n_predicted else np.empty(0)) for excerpt in excerpts]
    return Evaluation(scores, None if saved is None else saved.divergence)


class _Scores:
    """What has come of excerpts so far. nll: as in `Score`, of each excerpt."""

    def __init__(
        self,
        excerpts: Sequence[Excerpt],
        writer: BaselineWriter | None,
        baseline: Baseline | None,
        progress: Callable[[float], None],
    ) -> None:
        self.nll = [np.empty(excerpt.n_predicted) for excerpt in excerpts]
        self._excerpts = excerpts
        self._writer = writer
        self._baseline = baseline
        self._progress = progress
        self._n = sum(excerpt.n_predicted for excerpt in excerpts)
        self._n_done = 0

    def take(self, number: int, first: int, logits: F32) -> None:
        """Logits (n, vocab) that come after the tokens from index `first` on of an excerpt."""
        excerpt = self._excerpts[number]
        at_once = max(1, _ELEMENTS_AT_ONCE // logits.shape[1])
        for start in range(0, len(logits), at_once):
            rows = logits[start : start + at_once]
            target = first + start + 1
            ids = np.array(excerpt.ids[target : target + len(rows)])
            log_probs, nll = log_likelihoods(rows, ids)
            place = target - excerpt.first
            self.nll[number][place : place + len(rows)] = nll
            if self._writer is not None:
                self._writer.add(log_probs, nll)
            if self._baseline is not None:
                self._baseline.compare(log_probs)
        self._n_done += len(logits)
        self._progress(self._n_done / self._n)


def log_likelihoods(logits: F32, targets: npt.NDArray[np.int64]) -> tuple[F32, F64]:
    """Logarithms of the probabilities that logits (n, vocab) stand for, and those of `targets`.

    The latter, negative and in float64 (n,), are the negative log-likelihoods. A row does not
    depend on those beside it. Raises GenerationError when they are not numbers.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        log_probs = logits - logits.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(log_probs).sum(axis=1).astype(np.float64))
    nll = log_sums - log_probs[np.arange(len(targets)), targets]
    if not np.isfinite(nll).all():
        raise GenerationError(
            "the model's logits are not numbers: its weights are broken, or too large for a KV "
            "cache in f16"
        )
    log_probs -= log_sums.astype(np.float32)[:, np.newaxis]
    return log_probs, nll


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
