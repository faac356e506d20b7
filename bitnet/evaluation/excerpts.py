"""What a model is to predict, and after which tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitnet.engine import Pass


@dataclass(frozen=True)
class Excerpt:
    """Tokens to read from an empty cache.

    first: index of the first one that is predicted, at least 1; those after it are, too.
    """

    ids: Sequence[int]
    first: int = 1

    @property
    def n_predicted(self) -> int:
        return max(0, len(self.ids) - self.first)

    @property
    def forward_pass(self) -> Pass:
        """The last token is not read: nothing after it is to be predicted."""
        n = len(self.ids) - 1
        return Pass(self.ids[:n], range(self.first - 1, n))


def whole(ids: Sequence[int]) -> Excerpt:
    """All tokens but the first, which nothing comes before."""
    return Excerpt(ids)


def windows(ids: Sequence[int], size: int, bos: int | None) -> list[Excerpt]:
    """A long text in windows, by the rule of llama.cpp's llama-perplexity.

    The windows of `size` tokens follow each other and know nothing of each other. The first half of
    each, size // 2 tokens and one, is only read, so that what is predicted has as much before it.
    `bos`, if not None, replaces the first token of each. Tokens that do not fill a last window are
    left out; of a text that does not fill one, what there is is the window.
    """
    size = min(size, len(ids))
    starts = range(0, len(ids) - size + 1, size) if size else range(0)
    begin = [] if bos is None else [bos]
    return [
        Excerpt([*begin, *ids[start + len(begin) : start + size]], size // 2 + 1)
        for start in starts
    ]


def digest(excerpts: Sequence[Excerpt]) -> str:
    """What tells excerpts from others, in hexadecimal digits."""
    found = hashlib.sha256()
    for excerpt in excerpts:
        found.update(np.array([len(excerpt.ids), excerpt.first], "<i8").tobytes())
        found.update(np.array(excerpt.ids, "<i4").tobytes())
    return found.hexdigest()
