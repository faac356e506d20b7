"""Simple children's stories and short talks about them, made by rules from a seed.

A story is first simulated (who, where, the wish, what is in the way, who can help and how) and
then told with varied sentences, so that what is told hangs together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from .talk import Message, held_out_talk, talk
from .telling import simulate, tell

__all__ = ["Message", "conversation", "documents", "story"]

_STORY_SHARE = 0.7


def story(rng: random.Random) -> str:
    """One story of about 80 to 200 words."""
    return tell(simulate(rng), rng)


def conversation(rng: random.Random) -> list[Message]:
    """One to three turns of a user and the story model."""
    return talk(rng)[0]


def documents(seed: int, count: int, split: str = "train") -> Iterator[str | list[Message]]:
    """``count`` stories and conversations, the same for the same arguments.

    ``split`` is "train" or "heldout"; a combination of hero, place and plot belongs to one of
    them only. Raises ValueError for another split.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"split must be 'train' or 'heldout', not {split!r}")
    rng = random.Random(f"{split}-{seed}")
    held_out = split == "heldout"
    for _ in range(count):
        is_story = rng.random() < _STORY_SHARE
        while True:
            if is_story:
                tale = simulate(rng)
                if tale.held_out == held_out:
                    yield tell(tale, rng)
                    break
            else:
                messages, talk_tale = talk(rng)
                if held_out_talk(messages, talk_tale) == held_out:
                    yield messages
                    break
