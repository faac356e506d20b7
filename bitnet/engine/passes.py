"""Forward passes that are not generations: whose tokens share which step. Knows nothing of tensors.

Passes fill steps in order, so that at most two are unfinished after any step, and results come in
order too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pass:
    """The tokens of a sequence of its own, and for which of them results are wanted."""

    tokens: Sequence[int]
    wanted: range
    """Neighbouring indices into `tokens`."""


@dataclass(frozen=True)
class Part:
    """What a step takes of a pass."""

    number: int
    """Of the pass."""
    start: int
    """Index of the first token in the pass."""
    tokens: Sequence[int]
    wanted: range
    """Indices into `tokens`."""
    is_last: bool


def steps(passes: Sequence[Pass], max_tokens: int) -> Iterator[list[Part]]:
    """The parts of each step of at most `max_tokens` tokens."""
    parts: list[Part] = []
    room = max_tokens
    for number, each in enumerate(passes):
        start = 0
        while start < len(each.tokens):
            tokens = each.tokens[start : start + room]
            stop = start + len(tokens)
            wanted = range(
                max(each.wanted.start, start) - start,
                max(min(each.wanted.stop, stop), start) - start,
            )
            parts.append(Part(number, start, tokens, wanted, stop == len(each.tokens)))
            room -= len(tokens)
            start = stop
            if room == 0:
                yield parts
                parts, room = [], max_tokens
    if parts:
        yield parts
