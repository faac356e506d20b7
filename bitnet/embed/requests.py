"""What bitnet_ext.h adds to a run: other inputs, results kept by id, cancellation."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from bitnet.generation import Completion, Generation, Token
from bitnet.model import Messages, Model, Options


@dataclass(frozen=True)
class Request:
    """A bitnet_ext_request_t: one of prompt, messages and ids is given."""

    prompt: str | None
    messages: Messages | None
    ids: Sequence[int] | None
    options: Options
    cancellation: int | None


def start(model: Model, request: Request, max_ahead: int | None = None) -> Generation:
    """Begin the generation that is asked for."""
    if request.messages is not None:
        prompt: str | Sequence[int] = model.tokenizer.encode_chat(request.messages)
    elif request.ids is not None:
        prompt = request.ids
    else:
        prompt = request.prompt or ""
    return model.start(prompt, max_ahead=max_ahead, **request.options)


@dataclass(frozen=True)
class Result:
    """A generation that has ended, and its tokens with the text of each."""

    completion: Completion
    tokens: list[Token]


def run(generation: Generation) -> Result:
    """Read a generation to its end."""
    tokens = []
    while (token := generation.next_token()) is not None:
        tokens.append(token)
    completion = generation.completion("".join(token.text for token in tokens))
    return Result(completion, [token for token in tokens if token.id is not None])


class Cancellation:
    """Ends all generations that were given to it, and those that come later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._generations: weakref.WeakSet[Generation] = weakref.WeakSet()

    def watch(self, generation: Generation) -> None:
        with self._lock:
            self._generations.add(generation)
            cancelled = self._cancelled
        if cancelled:
            generation.close()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            generations = list(self._generations)
        for generation in generations:
            generation.close()
