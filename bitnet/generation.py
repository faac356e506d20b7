"""A generation as its reader sees it: tokens, the text they complete, and the result."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bitnet.engine import Engine, SamplingParams, Timings, TokenLogprobs
from bitnet.engine.request import FinishReason
from bitnet.engine.text import StopStrings
from bitnet.errors import GenerationTimeoutError

if TYPE_CHECKING:
    from bitnet.tokenizers import Tokenizer


@dataclass(frozen=True)
class Completion:
    """The result of a generation."""

    text: str
    token_ids: list[int]
    """The new tokens, without the one that ended the generation."""
    finish_reason: FinishReason
    """What ended it: "stop", the model or a stop string; "length", max_new_tokens or the context;
    "cancelled", `Generation.close`."""
    timings: Timings
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    """Of each new token, if asked for."""


@dataclass(frozen=True)
class Token:
    """A new token and the text it completed."""

    id: int | None
    """None for text that was held back and belongs to no further token."""
    text: str
    """Whole characters, or none yet."""
    logprobs: TokenLogprobs | None
    """If asked for."""


class Generation:
    """A running generation: an iterator over its text that ends with the generation.

    One thread reads it at a time. Closing it, from any thread, or dropping it before its end
    frees what it held.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        params: SamplingParams,
        max_ahead: int | None = None,
    ) -> None:
        self._engine = engine
        self._decoder = tokenizer.stream_decoder(prompt)
        self._stop = StopStrings(params.stop)
        self._request = engine.submit(prompt, params, tokenizer.eos_ids, max_ahead)
        self._taken = 0
        self._ended = False
        self._finalizer = weakref.finalize(self, engine.drop, self._request)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while (token := self.next_token()) is not None:
            if token.text:
                return token.text
        raise StopIteration

    def next_token(self, timeout: float | None = None) -> Token | None:
        """Wait for the next token, or None at the end. Iterating over the text reads them too.

        timeout: seconds; a step that runs then is still finished. Raises GenerationTimeoutError,
        after which the same token may be asked for again, and what `Model.generate` raises.
        """
        if self._ended:
            return None
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            id = self._engine.next_token(self._request, self._taken, deadline)
        except GenerationTimeoutError:
            raise
        except BaseException:
            self._ended = True
            self._finalizer()  # not close(): an interrupt may have come while a step holds a lock
            raise
        if id is None:
            return self._end()
        text = self._stop.push(self._decoder.push(id))
        logprobs = self._request.logprobs[self._taken] if self._request.logprobs else None
        self._taken += 1
        if self._stop.found:
            self._ended = True
            self.close()
        return Token(id, text, logprobs)

    def result(self) -> Completion:
        """Run to the end; the text is what had not been read before."""
        return self.completion("".join(self))

    def completion(self, text: str) -> Completion:
        """The result of a generation that has ended, `text` being all that came out."""
        reason = self.finish_reason or "cancelled"
        return Completion(text, self.token_ids, reason, self.timings, self.logprobs)

    def close(self) -> None:
        """End the generation now. Does not wait for a step that runs."""
        self._finalizer.detach()
        self._engine.finish(self._request)

    @property
    def token_ids(self) -> list[int]:
        """The tokens whose text has come out so far, or is held back."""
        return self._request.output[: self._taken]

    @property
    def logprobs(self) -> list[TokenLogprobs]:
        """Those of `token_ids`, if asked for."""
        return self._request.logprobs[: self._taken]

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the generation ended; None while it runs."""
        return "stop" if self._stop.found else self._request.finish_reason

    @property
    def timings(self) -> Timings:
        return self._request.timings

    def _end(self) -> Token | None:
        """After the last token: the text that was held back, if there is any."""
        self._ended = True
        whole = self._request.finish_reason != "cancelled"
        rest = self._stop.push(self._decoder.flush() if whole else "") + self._stop.flush()
        self.close()
        return Token(None, rest, None) if rest else None
