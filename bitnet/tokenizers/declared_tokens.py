"""The tokens that are declared: looked for in a text before it is cut into words.

Each has flags in the `tokenizers` library. Those that do not follow from its kind are in GGUF files
as keys of our own, which other readers pass over: `bitnet.tokenizer.` and the flag, an array of the
ids that have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from tokenizers import AddedToken
from tokenizers import Tokenizer as Encoder

from bitnet.tokenizers.pieces import USER_DEFINED, Pieces

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
"""Only between other characters than letters, with the blanks before it, with those after it, and
in the text as the normaliser has it."""

Flags = Mapping[str, AbstractSet[int]]
"""The ids with each of the flags."""


def flag_key(flag: str) -> str:
    """The metadata key of a flag."""
    return f"bitnet.tokenizer.{flag}"


def usual_flags(pieces: Pieces, *, spaces_spelled: bool) -> Flags:
    """The flags of tokens of which nothing else is known.

    spaces_spelled: user-defined ones are looked for once spaces are spelled as SentencePiece does,
        which it does too.
    """
    normalized = pieces.of_kind(USER_DEFINED) if spaces_spelled else set[int]()
    return {flag: normalized if flag == "normalized" else set() for flag in FLAGS}


def declare_tokens(encoder: Encoder, pieces: Pieces, special_ids: set[int], flags: Flags) -> None:
    """Declare the special tokens and those that are user-defined."""

    def declared(ids: set[int], *, special: bool) -> list[AddedToken]:
        return [
            AddedToken(
                pieces.tokens[id],
                special=special,
                **{flag: id in having for flag, having in flags.items()},
            )
            for id in sorted(ids)
        ]

    encoder.add_special_tokens(declared(special_ids, special=True))
    encoder.add_tokens(declared(pieces.of_kind(USER_DEFINED) - special_ids, special=False))
