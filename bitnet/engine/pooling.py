"""From the hidden states of a text to its embedding."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bitnet.errors import GenerationError
from bitnet.program.step import Chunk, KVSequence, Stepper

# The mean of the hidden states of all tokens, or that of the first or of the last token.
Pooling = Literal["mean", "cls", "last"]

_SMALLEST_LENGTH = 1e-12  # a vector shorter than this is not made longer than 1/1e-12 times


class TextState:
    """A text that is being read, and what is kept of its hidden states.

    Sums are of float64 numbers in the order of the tokens, and square roots of exact sums, so the
    embedding does not depend on the machine, nor on how the text is cut.
    """

    def __init__(self, tokens: Sequence[int], pooling: Pooling) -> None:
        self._tokens = tokens
        self._pooling = pooling
        self._sum: npt.NDArray[np.float64] = np.zeros(1)
        self.sequence = KVSequence()
        self.is_read = False

    def next_chunk(self, room: int) -> Chunk:
        """The next tokens, at most `room` of them."""
        start = self.sequence.length
        tokens = self._tokens[start : start + room]
        first, end = 0, len(tokens)
        if self._pooling == "cls":
            end = 0 if start else 1
        elif self._pooling == "last":
            first = end - 1 if start + end == len(self._tokens) else end
        return Chunk(self.sequence, tokens, range(first, end))

    def take(self, states: npt.NDArray[np.float32]) -> None:
        """The hidden states that the last chunk wanted, after its step."""
        for state in states:
            self._sum = self._sum + state
        self.is_read = self.sequence.length == len(self._tokens)

    def vector(self) -> npt.NDArray[np.float64]:
        """The embedding, of length 1. Raises GenerationError if it is not finite."""
        total = self._sum / (len(self._tokens) if self._pooling == "mean" else 1)
        if not np.isfinite(total).all():
            raise GenerationError("a hidden state of the text is not finite")
        return total / max(math.sqrt(math.fsum(total * total)), _SMALLEST_LENGTH)


def read_some(stepper: Stepper, left: deque[TextState]) -> None:
    """A step for as many texts as it has room for, the first ones; takes out those that it ends."""
    chunks: list[Chunk] = []
    room = stepper.max_tokens
    for state in left:
        if room == 0:
            break
        chunks.append(state.next_chunk(room))
        room -= len(chunks[-1].tokens)
    rows = stepper.hidden_states(chunks)
    for chunk in chunks:
        left[0].take(rows[: len(chunk.wanted)])
        rows = rows[len(chunk.wanted) :]
        if left[0].is_read:  # if not, its chunk was the last one
            stepper.release(left.popleft().sequence)
