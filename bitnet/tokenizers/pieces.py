"""Vocabularies as lists of pieces, and the encoders built from them.

A piece is a token with a kind and perhaps a score, the way SentencePiece models have it and GGUF
files took it over.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Union

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.tokenizers.spelling import WORD_START, byte_of_token

MAX_PIECES = 2**24
MAX_PIECE_CHARS = 1024

# Kinds; the numbers are those of SentencePiece and of tokenizer.ggml.token_type.
UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(7)

Path = Union[str, "os.PathLike[str]"]
Merges = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Pieces:
    """The vocabulary of the model at `path`; ids are positions.

    Raises InvalidModelError unless the lists have one length, kinds are known and no token appears
    twice.
    """

    path: Path
    tokens: list[str]
    kinds: list[int]
    scores: list[float] | None = None

    def __post_init__(self) -> None:
        count = len(self.tokens)
        if not 1 <= count <= MAX_PIECES:
            raise InvalidModelError(
                self.path, f"vocabulary of {count} tokens, not 1 to {MAX_PIECES}"
            )
        if len(self.kinds) != count:
            raise InvalidModelError(self.path, f"{len(self.kinds)} token types for {count} tokens")
        if self.scores is not None and len(self.scores) != count:
            raise InvalidModelError(self.path, f"{len(self.scores)} scores for {count} tokens")
        wrong = set(self.kinds) - set(range(7))
        if wrong:
            raise InvalidModelError(self.path, f"token types must be 0 to 6, not {min(wrong)}")
        ids = self.ids
        if len(ids) != count:
            twice = next(token for id, token in enumerate(self.tokens) if ids[token] != id)
            raise InvalidModelError(self.path, f"token {twice!r} appears twice in the vocabulary")

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token -> id."""
        return {token: id for id, token in enumerate(self.tokens)}

    def without_padding(self) -> Pieces:
        """The pieces up to the last one in use; converters pad vocabularies with unused ones."""
        end = max((n for n, kind in enumerate(self.kinds, 1) if kind != UNUSED), default=1)
        scores = None if self.scores is None else self.scores[:end]
        return Pieces(self.path, self.tokens[:end], self.kinds[:end], scores)

    def of_kind(self, *kinds: int) -> set[int]:
        """The ids of all pieces of these kinds."""
        return {id for id, kind in enumerate(self.kinds) if kind in kinds}


def byte_level_encoder(
    pieces: Pieces, merges: list[tuple[str, str]], splits: tuple[str, ...], whole_words: bool
) -> Encoder:
    """Byte-level BPE: `splits` cut the text into words, the merges, in order, build the tokens.

    Each pattern cuts what the ones before have left, around its matches. With `whole_words` a word
    that is a token is taken as it is, whatever the merges would make of it.
    """
    encoder = _bpe(pieces, merges, ignore_merges=whole_words)
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(split), "isolated") for split in splits),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    encoder.decoder = decoders.ByteLevel()
    return encoder


def sentencepiece_encoder(
    pieces: Pieces,
    merges: list[tuple[str, str]] | None,
    adds_space: bool,
    metaspace: str | None = None,
) -> Encoder:
    """SentencePiece BPE; without `merges` they follow from the scores of the pieces.

    adds_space: a space is put before the text, and before what follows a declared token.
    metaspace: it is put only where none is yet; "first" before the text alone, or "always".
    """
    unknown = min(pieces.of_kind(UNKNOWN), default=None)
    encoder = _bpe(
        pieces,
        list(_merges_by_score(pieces)) if merges is None else merges,
        unk_token=None if unknown is None else pieces.tokens[unknown],
        fuse_unk=True,
        byte_fallback=_has_bytes(pieces),
    )
    if adds_space and metaspace is not None:
        encoder.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace, split=False)
    else:
        prefix = [normalizers.Prepend(WORD_START)] if adds_space else []
        encoder.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", WORD_START)])
    encoder.decoder = decoders.Sequence(
        [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return encoder


def add_tokens(
    encoder: Encoder, pieces: Pieces, special_ids: set[int], *, spaces_spelled: bool = False
) -> None:
    """Declare the tokens that are looked for in the text before it is cut into words.

    spaces_spelled: those that are not special are looked for once spaces are spelled as
        SentencePiece does, which it does too.
    """
    encoder.add_special_tokens(
        [
            AddedToken(pieces.tokens[id], special=True, normalized=False)
            for id in sorted(special_ids)
        ]
    )
    encoder.add_tokens(
        [
            AddedToken(pieces.tokens[id], special=False, normalized=spaces_spelled)
            for id in sorted(pieces.of_kind(USER_DEFINED) - special_ids)
        ]
    )


def merges_in_order(path: Path, tokens: Iterable[str], ids: dict[str, int]) -> Merges:
    """Every way to put each of `tokens` together from two tokens of `ids`, in their order.

    Joining first what makes the first of `tokens`, as SentencePiece (by score) and tiktoken (by
    rank) do, is BPE with these merges.
    """
    for token in tokens:
        if len(token) > MAX_PIECE_CHARS:
            raise InvalidModelError(
                path, f"token {ids[token]} has more than {MAX_PIECE_CHARS} letters"
            )
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        yield from sorted(
            (pair for pair in halves if pair[0] in ids and pair[1] in ids),
            key=lambda pair: (ids[pair[0]], ids[pair[1]]),
        )


def _merges_by_score(pieces: Pieces) -> Merges:
    if pieces.scores is None:
        raise InvalidModelError(pieces.path, "the vocabulary has neither merges nor scores")
    normal = {pieces.tokens[id]: id for id in sorted(pieces.of_kind(NORMAL))}
    scores = {token: pieces.scores[id] for token, id in normal.items()}
    if any(math.isnan(score) for score in scores.values()):
        raise InvalidModelError(pieces.path, "the score of a token is not a number")
    if len(set(scores.values())) == 1 < max(map(len, scores)):
        raise UnsupportedModelError(
            pieces.path, "all tokens have the same score and there are no merges"
        )
    by_score = sorted(normal, key=lambda token: (-scores[token], normal[token]))
    return merges_in_order(pieces.path, by_score, normal)


def _bpe(pieces: Pieces, merges: list[tuple[str, str]], **options: Any) -> Encoder:
    try:
        return Encoder(models.BPE(vocab=pieces.ids, merges=merges, **options))
    except Exception as error:  # the library raises nothing more precise
        raise InvalidModelError(
            pieces.path, f"the merges do not fit the vocabulary: {error}"
        ) from error


def _has_bytes(pieces: Pieces) -> bool:
    return any(byte_of_token(pieces.tokens[id]) is not None for id in pieces.of_kind(BYTE))
