"""The engine: requests share steps of the compiled program until each is finished."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from bitnet.engine.params import SamplingParams
from bitnet.engine.passes import Pass, steps
from bitnet.engine.pooling import Pooled
from bitnet.engine.request import Request
from bitnet.engine.sampler import Sampler, exact_logits, token_logprobs
from bitnet.engine.scheduler import schedule
from bitnet.errors import (
    BitNetError,
    ContextLengthExceededError,
    GenerationError,
    GenerationTimeoutError,
    InvalidArgumentError,
    ModelClosedError,
    ModelMemoryError,
    UnsupportedOperationError,
)
from bitnet.models.spec import Pooling
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.workers import Workers, team_size

Plan = list[tuple[Request, Sequence[int]]]
Rows = npt.NDArray[np.float32]
UseRows = Callable[[int, int, Rows], None]


class Engine:
    """Runs any number of requests at once; safe to use from several threads.

    There is no thread of its own: of those that wait for tokens, one runs the next step for
    everybody. A request's tokens do not depend on what else runs.

    context: how many positions a sequence may have.
    max_requests: how many requests a step may serve; None is as many as it takes tokens.
    """

    def __init__(self, stepper: Stepper, context: int, max_requests: int | None = None) -> None:
        self.context = context
        self._stepper = stepper
        self._sampler = Sampler(stepper.program)
        self.vocab_size = stepper.program.plan.spec.vocab_size
        self._max_requests = max_requests
        self._dropped: deque[Request] = deque()
        # The lock of what follows; notified when that changes. It is not held during a step,
        # which only the owner runs. Readers, who want steps, and those who want the engine alone
        # take turns. Each call is known by an object of its own, so that a call that Ctrl-C ends
        # anywhere can tell what it has to give back.
        self._changed = threading.Condition()
        self._owner: object | None = None
        self._readers: set[object] = set()
        self._waiting: set[object] = set()
        self._alone_last = False
        self._requests: list[Request] = []
        self._closed = False

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        stop_ids: Collection[int],
        max_ahead: int | None = None,
    ) -> Request:
        """Queue a generation after `prompt`, a non-empty list of token ids.

        It ends at the first token in `stop_ids`, which is not part of the output. It pauses while
        `max_ahead` new tokens wait to be read.

        Raises InvalidArgumentError and ContextLengthExceededError; UnsupportedOperationError for a
        model without an output head. Call `finish` in the end.
        """
        if not self._stepper.program.plan.spec.has_head:
            raise UnsupportedOperationError("the model has no output head, so it writes no text")
        self._check_tokens(prompt)
        max_length = min(self.context, params.max_length or self.context)
        if len(prompt) >= max_length:
            limit = "max_length" if max_length < self.context else "a context"
            raise ContextLengthExceededError(
                f"a prompt of {len(prompt)} tokens leaves no room in {limit} of {max_length}"
            )
        seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed
        request = Request(list(prompt), params, stop_ids, seed, max_length, max_ahead)
        with self._changed:
            self._check_open()
            self._requests.append(request)
        return request

    def next_token(self, request: Request, index: int, deadline: float | None = None) -> int | None:
        """The `index`-th new token of a request, or None when it ended before that.

        deadline: on the clock of `time.monotonic`; a step that runs then is still finished.

        Raises GenerationTimeoutError, after which the same token may be asked for again;
        ModelMemoryError when there is none for the request's keys and values; GenerationError
        when a step that the request was part of failed.
        """
        me, interrupt = object(), None
        try:
            while True:
                with self._changed:
                    self._readers.add(me)
                    request.n_read = max(request.n_read, index)
                    if index < len(request.output):
                        return request.output[index]
                    if request.failure is not None:
                        _raise(request.failure)
                    if request.finish_reason is not None:
                        return None
                    self._check_open()
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise GenerationTimeoutError("the next token did not come in time")
                    if self._owner or (self._waiting and not self._alone_last):
                        self._changed.wait(left)
                        continue
                    self._owner, self._alone_last = me, False
                self._step()
                self._end_step()
        finally:
            # No call before the try: Ctrl-C comes through where functions begin.
            while self._owner is me or me in self._readers:
                try:
                    self._leave(me)
                except KeyboardInterrupt as error:  # noqa: PERF203  # it must be done all the same
                    interrupt = error
            if interrupt is not None:
                raise interrupt

    def finish(self, request: Request) -> None:
        """End a request, finished or not, and free its memory. Does not wait."""
        with self._changed:
            request.finish_reason = request.finish_reason or "cancelled"
            self._dropped.append(request)
            if self._owner is None:
                self._remove_dropped()
            self._changed.notify_all()

    def drop(self, request: Request) -> None:
        """Like `finish`, but later: for the garbage collector, which may run anywhere."""
        self._dropped.append(request)

    def logits(self, tokens: Sequence[int]) -> Rows:
        """Logits (len(tokens), vocab) of a sequence of its own, in one full forward pass."""
        return self._all_rows(tokens, self._stepper.step)

    def hidden_states(self, tokens: Sequence[int]) -> Rows:
        """Like `logits`, but (len(tokens), hidden_size): what the output head would read."""
        return self._all_rows(tokens, self._stepper.hidden_states)

    def embeddings(self, texts: Sequence[Sequence[int]], pooling: Pooling) -> Rows:
        """A vector of length 1 for each text, a list of token ids: (len(texts), hidden_size).

        The texts share steps. Raises InvalidArgumentError, ContextLengthExceededError,
        ModelMemoryError, and GenerationError where hidden states are not finite.
        """
        for number, tokens in enumerate(texts):
            if not 1 <= len(tokens) <= self.context:
                error = ContextLengthExceededError if tokens else InvalidArgumentError
                raise error(f"text {number} has {len(tokens)} tokens, not 1 to {self.context}")
        pooled = [Pooled(len(tokens), pooling) for tokens in texts]
        passes = [Pass(tokens, each.wanted) for tokens, each in zip(texts, pooled, strict=True)]

        def add(number: int, _first: int, states: Rows) -> None:
            pooled[number].add(states)

        self._forward(passes, self._stepper.hidden_states, add)
        width = self._stepper.program.plan.spec.hidden_size
        return np.array([each.vector() for each in pooled], np.float32).reshape(-1, width)

    def evaluate(self, passes: Sequence[Pass], use: UseRows) -> None:
        """Logits of sequences of their own, many of them in a step.

        use: called after each step with the number of a pass, the index of the first token in it
            that logits (n, vocab) have come for, and these; in order.

        Raises InvalidArgumentError, ContextLengthExceededError and ModelMemoryError.
        """
        self._forward(passes, self._stepper.step, use)

    @property
    def threads(self) -> int:
        """How many threads a step runs on."""
        return self._stepper.workers.n

    def set_threads(self, n: int) -> None:
        """Run further steps on `n` threads, or one per core if that is fewer.

        Raises InvalidArgumentError.
        """
        n = team_size(n, 0)
        with self._alone():
            self._check_open()
            workers = self._stepper.workers
            if workers.n != n:
                self._stepper.use_workers(Workers(n, numa=workers.numa))

    def trim(self) -> None:
        """Free what is only kept to be used again."""
        with self._alone():
            self._check_open()
            self._stepper.pages.trim()

    def close(self) -> None:
        """End all requests; later calls raise ModelClosedError."""
        with self._alone():
            self._closed = True
            self._requests.clear()
            self._stepper.close()

    # -- inside -----------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for the step that runs, and keep others from starting."""
        me, interrupt = object(), None
        try:
            with self._changed:
                self._waiting.add(me)
                while self._owner or (self._readers and self._alone_last):
                    self._changed.wait()
                self._waiting.discard(me)
                self._owner, self._alone_last = me, True
            yield
        finally:
            # The loop of `next_token`, for the same reason.
            while self._owner is me or me in self._waiting:
                try:
                    self._leave(me)
                except KeyboardInterrupt as error:  # noqa: PERF203  # it must be done all the same
                    interrupt = error
            if interrupt is not None:
                raise interrupt

    def _leave(self, me: object) -> None:
        """Give back what a call has."""
        with self._changed:
            self._readers.discard(me)
            was_waiting = me in self._waiting
            self._waiting.discard(me)
            if self._owner is me:
                self._end_step()
            elif was_waiting or self._waiting:
                self._changed.notify_all()

    def _end_step(self) -> None:
        with self._changed:
            self._owner = None
            self._remove_dropped()
            self._changed.notify_all()

    def _step(self) -> None:
        """One step for all requests that have tokens to feed; the caller is the owner."""
        plan: Plan = []
        try:
            with self._changed:
                running = [r for r in self._requests if r.is_running]
                plan = schedule(running, self._stepper.max_tokens, self._max_requests)
            self._advance([entry for entry in plan if self._reserve(*entry)])
        except BaseException as error:  # a request that has lost its logits cannot go on
            for request, _ in plan:
                request.failure = error
            if not plan or not isinstance(error, Exception):
                raise

    def _reserve(self, request: Request, tokens: Sequence[int]) -> bool:
        """Whether there is memory for a request's tokens; if not it has failed."""
        try:
            self._stepper.reserve(request.sequence, len(tokens))
        except ModelMemoryError as error:
            request.failure = error
        return request.failure is None

    def _advance(self, plan: Plan) -> None:
        if not plan:
            return
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
                self._choose(request, next(logits))

    def _choose(self, request: Request, logits: Rows) -> None:
        n_top = request.params.logprobs
        raw = logits.copy() if n_top else logits  # choosing changes them
        try:
            token = self._sampler.choose(request, logits)
        except GenerationError as error:
            request.failure = error
            return
        logprobs = token_logprobs(raw, token, n_top) if n_top else None
        with self._changed:
            if request.finish_reason is not None:  # cancelled meanwhile
                return
            now = time.perf_counter()
            request.first_token_at = request.first_token_at or now
            request.last_token_at = now
            if token in request.stop_ids:
                request.finish_reason = "stop"
                return
            request.output.append(token)
            if logprobs is not None:
                request.logprobs.append(logprobs)
            n = len(request.output)
            if n == request.params.max_new_tokens or len(request.prompt) + n == request.max_length:
                request.finish_reason = "length"

    def _all_rows(self, tokens: Sequence[int], step: Callable[[list[Chunk]], Rows]) -> Rows:
        """What `step` gives for all tokens of a sequence of its own."""
        parts: list[Rows] = []
        only = Pass(tokens, range(len(tokens)))
        self._forward([only], step, lambda _number, _first, rows: parts.append(rows))
        return np.concatenate(parts)

    def _forward(
        self, passes: Sequence[Pass], step: Callable[[list[Chunk]], Rows], use: UseRows
    ) -> None:
        for each in passes:
            self._check_tokens(each.tokens)
            if len(each.tokens) > self.context:
                raise ContextLengthExceededError(
                    f"{len(each.tokens)} tokens are more than the context of {self.context}"
                )
        sequences = [KVSequence() for _ in passes]
        try:
            for parts in steps(passes, self._stepper.max_tokens):
                chunks = [Chunk(sequences[p.number], p.tokens, p.wanted) for p in parts]
                with self._alone():
                    self._check_open()
                    rows = step(chunks)
                    for part in parts:
                        if part.is_last:
                            self._stepper.release(sequences[part.number])
                first = 0
                for part in parts:
                    last = first + len(part.wanted)
                    if part.wanted:
                        use(part.number, part.start + part.wanted.start, rows[first:last])
                    first = last
        finally:
            with self._alone():
                for sequence in sequences:
                    self._stepper.release(sequence)

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if len(tokens) == 0:
            raise InvalidArgumentError("there must be at least one token")
        for token in tokens:
            if not 0 <= token < self.vocab_size:
                raise InvalidArgumentError(
                    f"token id {token} is outside the vocabulary of {self.vocab_size}"
                )

    def _remove_dropped(self) -> None:
        while self._dropped:
            request = self._dropped.popleft()
            if request in self._requests:
                self._requests.remove(request)
                request.finish_reason = request.finish_reason or "cancelled"
                self._stepper.release(request.sequence)

    def _check_open(self) -> None:
        if self._closed:
            raise ModelClosedError("the model was closed")


def _raise(failure: BaseException) -> NoReturn:
    if isinstance(failure, BitNetError):
        raise failure
    raise GenerationError(f"a step failed: {failure}") from failure
