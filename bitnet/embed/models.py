"""Loaded models, how long they live, and how the last run on them went."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bitnet.embed.errors import UnknownModelError
from bitnet.engine import Timings
from bitnet.model import Model

log = logging.getLogger("bitnet.embed")


@dataclass(frozen=True)
class Metrics:
    """A run, or a batch; seconds."""

    total_s: float
    first_token_s: float
    between_tokens_s: float
    tokens: int
    prompt_tokens: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.total_s if self.total_s else 0.0


def metrics_of(timings: Sequence[Timings]) -> Metrics | None:
    """Of generations that ran together; None when none of them came to a token."""
    done = [t for t in timings if t.time_to_first_token_s]
    if not done:
        return None
    gaps = sum(max(t.completion_tokens - 1, 0) for t in done)
    return Metrics(
        total_s=max(t.time_to_first_token_s + t.decode_s for t in done),
        first_token_s=min(t.time_to_first_token_s for t in done),
        between_tokens_s=sum(t.decode_s for t in done) / gaps if gaps else 0.0,
        tokens=sum(t.completion_tokens for t in done),
        prompt_tokens=sum(t.prompt_tokens for t in done),
    )


class LoadedModel:
    """A model and the runs on it. It is closed when it has been freed and none is left.

    has_own_threads: whether it was loaded with a number of threads of its own.
    """

    def __init__(self, model: Model, *, has_own_threads: bool) -> None:
        self.model = model
        self.has_own_threads = has_own_threads
        self.metrics: Metrics | None = None
        self.c_strings: dict[str, object] = {}
        """What C programs point at, alive as long as this."""
        self.id = -1
        self._lock = threading.Lock()
        self._runs = 0
        self._freed = False

    def begin_run(self) -> None:
        """Keep the model open until `end_run`. Raises UnknownModelError when it was freed."""
        with self._lock:
            if self._freed:
                raise UnknownModelError(self.id)
            self._runs += 1

    def end_run(self) -> None:
        with self._lock:
            self._runs -= 1
            last = self._freed and not self._runs
        if last:
            self.model.close()

    def free(self) -> None:
        """Close the model, now or after the last run."""
        with self._lock:
            self._freed = True
            last = not self._runs
        if last:
            self.model.close()

    @contextmanager
    def run(self) -> Iterator[Model]:
        """The model, open until the block ends."""
        self.begin_run()
        try:
            yield self.model
        finally:
            self.end_run()

    def record(self, timings: Sequence[Timings]) -> None:
        """Remember how a run went, if it came to a token."""
        metrics = metrics_of(timings)
        if metrics is None:
            return
        self.metrics = metrics
        log.debug(
            "model %d: %d prompt tokens, %d new ones, %.1f tokens/s",
            self.id,
            metrics.prompt_tokens,
            metrics.tokens,
            metrics.tokens_per_s,
        )
