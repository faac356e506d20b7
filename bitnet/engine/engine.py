"""The engine: requests share steps of the compiled program until each is finished."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from bitnet.engine.params import SamplingParams
from bitnet.engine.request import Request
from bitnet.engine.sampler import Sampler, exact_logits
from bitnet.engine.scheduler import schedule
from bitnet.errors import (
    ContextLengthExceededError,
    GenerationError,
    InvalidArgumentError,
    ModelClosedError,
)
from bitnet.program.step import Chunk, KVSequence, Stepper


class Engine:
    """Runs any number of requests at once; safe to use from several threads.

    There is no thread of its own: whoever waits for a token runs the next step for everybody.
    A request's tokens do not depend on what else runs.

    context: how many positions a sequence may have.
    """

    def __init__(self, stepper: Stepper, context: int) -> None:
        self.context = context
        self._stepper = stepper
        self._sampler = Sampler(stepper.program)
        self._vocab_size = stepper.program.plan.spec.vocab_size
        self._requests: list[Request] = []
        self._dropped: deque[Request] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def submit(
        self, prompt: Sequence[int], params: SamplingParams, stop_ids: Collection[int]
    ) -> Request:
        """Queue a generation after `prompt`, a non-empty list of token ids.

        It ends at the first token in `stop_ids`, which is not part of the output.

        Raises InvalidArgumentError and ContextLengthExceededError. Call `finish` in the end.
        """
        self._check_tokens(prompt)
        if len(prompt) >= self.context:
            raise ContextLengthExceededError(
                f"a prompt of {len(prompt)} tokens leaves no room in a context of {self.context}"
            )
        seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed
        request = Request(list(prompt), params, stop_ids, seed)
        with self._lock:
            self._check_open()
            self._requests.append(request)
        return request

    def next_token(self, request: Request, index: int) -> int | None:
        """The `index`-th new token of a request, or None when it ended before that.

        Raises GenerationError when a step that the request was part of failed.
        """
        while True:
            with self._lock:
                if index < len(request.output):
                    return request.output[index]
                if request.failure is not None:
                    raise GenerationError(f"a step failed: {request.failure}") from request.failure
                if request.finish_reason is not None:
                    return None
                self._check_open()
                self._step()

    def finish(self, request: Request) -> None:
        """Drop a request, finished or not, and free its memory."""
        with self._lock:
            self._remove(request)

    def drop(self, request: Request) -> None:
        """Like `finish`, but later: for the garbage collector, which may run within a step."""
        self._dropped.append(request)

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits (len(tokens), vocab) of a sequence of its own, in one full forward pass."""
        self._check_tokens(tokens)
        if len(tokens) > self.context:
            raise ContextLengthExceededError(
                f"{len(tokens)} tokens are more than the context of {self.context}"
            )
        sequence, at_once = KVSequence(), self._stepper.max_tokens
        parts = []
        try:
            for start in range(0, len(tokens), at_once):
                part = tokens[start : start + at_once]
                with self._lock:
                    self._check_open()
                    chunk = Chunk(sequence, part, range(len(part)))
                    parts.append(self._stepper.step([chunk]))
        finally:
            with self._lock:
                self._stepper.release(sequence)
        return np.concatenate(parts)

    def close(self) -> None:
        """End all requests; later calls raise ModelClosedError."""
        with self._lock:
            self._closed = True
            self._requests.clear()
            self._stepper.close()

    # -- inside, with the lock held ---------------------------------------------------------

    def _step(self) -> None:
        """One step for all requests that have tokens to feed."""
        while self._dropped:
            self._remove(self._dropped.popleft())
        running = [r for r in self._requests if r.finish_reason is None and r.failure is None]
        plan = schedule(running, self._stepper.max_tokens)
        try:
            self._advance(plan)
        except BaseException as error:  # a request that has lost its logits cannot go on
            for request, _ in plan:
                request.failure = error
            raise

    def _advance(self, plan: list[tuple[Request, Sequence[int]]]) -> None:
        now = time.perf_counter()
        chunks = []
        for request, tokens in plan:
            request.started_at = request.started_at or now
            last = len(tokens) - 1 if len(tokens) == len(request.pending) else len(tokens)
            wanted = range(last, len(tokens))
            best, exact_ids = exact_logits(request) if wanted else (0, ())
            chunks.append(Chunk(request.sequence, tokens, wanted, best, exact_ids))
        logits = iter(self._stepper.step(chunks))
        for (request, _), chunk in zip(plan, chunks, strict=True):
            if chunk.wanted:
                self._take(request, self._sampler.choose(request, next(logits)))

    def _take(self, request: Request, token: int) -> None:
        now = time.perf_counter()
        request.first_token_at = request.first_token_at or now
        request.last_token_at = now
        if token in request.stop_ids:
            request.finish_reason = "stop"
            return
        request.output.append(token)
        n = len(request.output)
        if n == request.params.max_new_tokens or len(request.prompt) + n == self.context:
            request.finish_reason = "length"

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if len(tokens) == 0:
            raise InvalidArgumentError("there must be at least one token")
        for token in tokens:
            if not 0 <= token < self._vocab_size:
                raise InvalidArgumentError(
                    f"token id {token} is outside the vocabulary of {self._vocab_size}"
                )

    def _remove(self, request: Request) -> None:
        if request in self._requests:
            self._requests.remove(request)
            request.finish_reason = request.finish_reason or "cancelled"
            self._stepper.release(request.sequence)

    def _check_open(self) -> None:
        if self._closed:
            raise ModelClosedError("the model was closed")
