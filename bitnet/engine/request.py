"""One generation: what was asked, what has come out, how long it took."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bitnet.engine.params import SamplingParams
from bitnet.program.step import KVSequence

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Timings:
    """Where the time of a generation went; seconds."""

    prompt_tokens: int
    completion_tokens: int
    prefill_s: float
    """From the first step that worked on the prompt to the first new token."""
    decode_s: float
    """From the first new token to the last."""
    time_to_first_token_s: float
    """From the request to the first new token: prefill and the wait before it."""

    @property
    def prefill_tokens_per_s(self) -> float:
        return self.prompt_tokens / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        return (self.completion_tokens - 1) / self.decode_s if self.decode_s else 0.0


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of probabilities, for one new token."""

    logprob: float
    """Of the token itself."""
    top: list[tuple[int, float]]
    """The most likely tokens and theirs, likeliest first."""


@dataclass(eq=False)
class Request:
    """A generation in progress. The engine owns it; callers read it.

    max_length: tokens that prompt and output together may have.
    max_ahead: new tokens that may wait to be read before the request pauses; None is no limit.
    """

    prompt: Sequence[int]
    params: SamplingParams
    stop_ids: Collection[int]
    seed: int
    max_length: int
    max_ahead: int | None = None
    sequence: KVSequence = field(default_factory=KVSequence)
    output: list[int] = field(default_factory=list)
    """New tokens, without the one that ended the generation."""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    """One for each of `output`, if asked for."""
    n_read: int = 0
    """How many of `output` have been asked for."""
    finish_reason: FinishReason | None = None
    failure: BaseException | None = None
    """What went wrong in a step, after which the request cannot go on."""
    submitted_at: float = field(default_factory=time.perf_counter)
    started_at: float = 0.0
    first_token_at: float = 0.0
    last_token_at: float = 0.0

    @property
    def pending(self) -> Sequence[int]:
        """Tokens that the model has not seen yet: the rest of the prompt, or the last token."""
        seen = self.sequence.length
        if seen < len(self.prompt):
            return self.prompt[seen:]
        return self.output[seen - len(self.prompt) :]

    @property
    def is_running(self) -> bool:
        """Whether the next step may take tokens of it."""
        ahead = len(self.output) - self.n_read
        paused = self.max_ahead is not None and ahead >= self.max_ahead
        return self.finish_reason is None and self.failure is None and not paused

    @property
    def timings(self) -> Timings:
        started = bool(self.first_token_at)
        return Timings(
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.output),
            prefill_s=self.first_token_at - self.started_at if started else 0.0,
            decode_s=self.last_token_at - self.first_token_at,
            time_to_first_token_s=self.first_token_at - self.submitted_at if started else 0.0,
        )
