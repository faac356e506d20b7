"""How the tokens of one generation are chosen, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitnet.errors import InvalidArgumentError

MAX_LOGPROBS = 20


@dataclass(frozen=True)
class SamplingParams:
    """Sampling and length of one generation. Raises InvalidArgumentError.

    max_new_tokens: at least 1.
    max_length: tokens of prompt and answer together, at least 1; None is the model's context,
        which limits both anyway.
    temperature: 0 chooses the most likely token; otherwise logits are divided by it.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set of most likely tokens with at least this mass, in (0, 1].
    min_p: drop tokens less likely than min_p times the most likely one, in [0, 1].
    repetition_penalty: > 0; above 1 makes tokens of the prompt and the answer less likely
        (Keskar et al., "CTRL", 2019).
    frequency_penalty, presence_penalty: subtracted from the logit of a token of the answer,
        once for each time it occurred and once if it occurred, as in OpenAI's API.
    seed: the same seed, prompt and parameters give the same answer; None is random.
    stop: the answer ends before the first of these strings.
    logprobs: tell the log-probability of each new token and those of this many of the most likely
        ones, at most 20; 0 tells none. They are what the model says, before temperature,
        penalties and cuts.
    """

    max_new_tokens: int = 256
    max_length: int | None = None
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int = 0

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1")
        if self.max_length is not None:
            _check("max_length", self.max_length, self.max_length >= 1, "at least 1")
        _check("temperature", self.temperature, self.temperature >= 0, "0 or more")
        _check("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "in (0, 1]")
        _check("min_p", self.min_p, 0 <= self.min_p <= 1, "in [0, 1]")
        _check("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "> 0")
        for name in ("frequency_penalty", "presence_penalty"):
            _check(name, getattr(self, name), True, "finite")
        if self.seed is not None:
            _check("seed", self.seed, 0 <= self.seed < 2**64, "in 0..2**64-1")
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise InvalidArgumentError("stop must be a sequence of non-empty strings")
        rule = f"in 0..{MAX_LOGPROBS}"
        _check("logprobs", self.logprobs, 0 <= self.logprobs <= MAX_LOGPROBS, rule)


def _check(name: str, value: float, ok: bool, rule: str) -> None:
    if not (math.isfinite(value) and ok):
        raise InvalidArgumentError(f"{name} must be {rule}, not {value!r}")
