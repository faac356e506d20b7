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

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.tokenizers.spelling import WORD_START, byte_of_token

MAX_PIECES = 2**20
MAX_PIECE_CHARS = 1024
# Of all tokens together, and of the merges that follow from them: Gemma has 600 000.
MAX_VOCABULARY_CHARS = 2**22
MAX_MERGES = 2**20
MAX_MERGE_CHARS = 2**25

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
    pieces: Pieces,
    merges: list[tuple[str, str]],
    splits: tuple[str, ...],
    whole_words: bool,
    nfc: bool = False,
) -> Encoder:
    """Byte-level BPE: `splits` cut the text into words, the merges, in order, build the tokens.

    Each pattern cuts what the ones before have left, around its matches. With `whole_words` a word
    that is a token is taken as it is, whatever the merges would make of it.
    nfc: letters and their accents are composed before.
    """
    encoder = _bpe(pieces, merges, ignore_merges=whole_words)
    if nfc:
        encoder.normalizer = normalizers.NFC()
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
    metaspace: it is put only where none is yet, "first" before the text alone, "always" or "never",
        and declared tokens are looked for before spaces are spelled.
    """
    unknown = min(pieces.of_kind(UNKNOWN), default=None)
    encoder = _bpe(
        pieces,
        list(_merges_by_score(pieces)) if merges is None else merges,
        unk_token=None if unknown is None else pieces.tokens[unknown],
        fuse_unk=True,
        byte_fallback=_has_bytes(pieces),
    )
    if metaspace is not None:
        encoder.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace, split=False)
    else:
        prefix = [normalizers.Prepend(WORD_START)] if adds_space else []
        encoder.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", WORD_START)])
    encoder.decoder = decoders.Sequence(
        [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return encoder


def merges_in_order(path: Path, tokens: Iterable[str], ids: dict[str, int]) -> Merges:
    """Every way to put each of `tokens` together from two tokens of `ids`, in their order.

    Joining first what makes the first of `tokens`, as SentencePiece (by score) and tiktoken (by
    rank) do, is BPE with these merges.
    """
    letters = merges = merge_letters = 0
    for token in tokens:
        if len(token) > MAX_PIECE_CHARS:
            raise InvalidModelError(
                path, f"token {ids[token]} has more than {MAX_PIECE_CHARS} letters"
            )
        cuts = (cut for cut in range(1, len(token)) if token[:cut] in ids)
        halves = ((token[:cut], token[cut:]) for cut in cuts if token[cut:] in ids)
        pairs = sorted(halves, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        letters += len(token)
        merges += len(pairs)
        merge_letters += len(pairs) * len(token)
        for count, limit, what in (
            (letters, MAX_VOCABULARY_CHARS, "letters in tokens"),
            (merges, MAX_MERGES, "ways to put tokens together"),
            (merge_letters, MAX_MERGE_CHARS, "letters in the ways to put tokens together"),
        ):
            if count > limit:
                raise InvalidModelError(path, f"the vocabulary has more than {limit} {what}")
        yield from pairs


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
