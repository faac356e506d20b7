"""Turning templates into sentences.

A template may hold choices, ``[glad|happy]`` (one is drawn; they nest), and slots, ``{hero}``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa])n? (?=([A-Za-z]+))")
_SENTENCE_START = re.compile(r'(^"?|[.!?] "?|\." "?|\n"?)([a-z])')
_CONSONANT_SOUND = ("one", "once", "unicorn", "useful", "uni", "use")


def words(text: str) -> tuple[str, ...]:
    """A list written as one line of words."""
    return tuple(text.split())


def _article(match: re.Match[str]) -> str:
    word = match[2].lower()
    vowel = word[0] in "aeiou" and not word.startswith(_CONSONANT_SOUND)
    vowel = vowel or word.startswith(("hour", "honest"))
    return f"{match[1]}{'n' if vowel else ''} "


def fill(template: str, slots: Mapping[str, str], rng: random.Random) -> str:
    """Draw every choice, then fill every slot (slot values may hold choices and slots too)."""
    text = template
    for _ in range(6):
        while match := _CHOICE.search(text):
            options = match[1].split("|")
            text = text[: match.start()] + rng.choice(options) + text[match.end() :]
        if "{" not in text:
            break
        text = text.format_map(slots)
    return " ".join(text.split()).replace("so very ", "so ")


def polish(text: str) -> str:
    """Put the right article before each noun and a capital at the start of each sentence."""
    text = _ARTICLE.sub(_article, text)
    return _SENTENCE_START.sub(lambda m: m[1] + m[2].upper(), text)


def sentence(options: str | Sequence[str], slots: Mapping[str, str], rng: random.Random) -> str:
    """One finished sentence (or several) from a template or from one of several templates."""
    template = options if isinstance(options, str) else rng.choice(options)
    return polish(fill(template, slots, rng))
