"""From the hidden states of a text to its embedding."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bitnet.errors import GenerationError
from bitnet.models.spec import Pooling

_SMALLEST_LENGTH = 1e-12  # a vector shorter than this is not made longer than 1/1e-12 times


class Pooled:
    """The embedding of a text of `n_tokens`, as its hidden states come.

    Sums are of float64 numbers in the order of the tokens, and square roots of exact sums, so the
    embedding does not depend on the machine, nor on how the text is cut.
    """

    def __init__(self, n_tokens: int, pooling: Pooling) -> None:
        start, stop = {"mean": (0, n_tokens), "cls": (0, 1), "last": (n_tokens - 1, n_tokens)}[
            pooling
        ]
        self.wanted = range(start, stop)
        """The tokens whose hidden states it is made of."""
        self._sum: npt.NDArray[np.float64] = np.zeros(1)

    def add(self, states: npt.NDArray[np.float32]) -> None:
        """Take the next of the wanted hidden states, (n, hidden_size)."""
        for state in states:
            self._sum = self._sum + state

    def vector(self) -> npt.NDArray[np.float64]:
        """The embedding, of length 1. Raises GenerationError if it is not finite."""
        mean = self._sum / len(self.wanted)
        if not np.isfinite(mean).all():
            raise GenerationError("a hidden state of the text is not finite")
        return mean / max(math.sqrt(math.fsum(mean * mean)), _SMALLEST_LENGTH)
