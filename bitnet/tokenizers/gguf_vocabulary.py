"""Building a tokenizer from the vocabulary in a GGUF file's metadata.

Two kinds: "gpt2", byte-level BPE with merges in order, and "llama", SentencePiece BPE, whose merges
follow from the scores of the pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.tokenizers.pieces import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    Path,
    Pieces,
    add_tokens,
    byte_level_encoder,
    sentencepiece_encoder,
)
from bitnet.tokenizers.special import END_TOKENS, chat_template_for
from bitnet.tokenizers.tokenizer import Tokenizer, Vocabulary


class Metadata(Protocol):
    """The checked getters of GGUF metadata that a vocabulary needs."""

    def __contains__(self, key: object, /) -> bool: ...
    def get_int(self, key: str, minimum: int, maximum: int) -> int: ...
    def get_bool(self, key: str) -> bool: ...
    def get_str(self, key: str) -> str: ...
    def get_strings(self, key: str) -> list[str]: ...
    def get_ints(self, key: str) -> npt.NDArray[np.int64]: ...
    def get_floats(self, key: str) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """What a name in `tokenizer.ggml.pre` stands for; see `byte_level_encoder`."""

    splits: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = PreTokenizer((_CL100K.format(digits="{1,3}"),), whole_words=True, add_bos=True)

# The names come from llama.cpp; these are its patterns, or those of the models it took them from.
PRE_TOKENIZERS = {
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "falcon3": _LLAMA3,
    "falcon_e": _LLAMA3,
    "gpt-2": PreTokenizer((_GPT2,)),
    "qwen2": PreTokenizer((_CL100K.format(digits=""),)),
    "default": PreTokenizer((r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
}


def tokenizer_from_gguf(path: Path, metadata: Metadata, architecture: str) -> Tokenizer:
    """Build the tokenizer of the GGUF file at `path`.

    Raises UnsupportedModelError if there is none or it is of a kind not known here,
    InvalidModelError if it is inconsistent.
    """
    if "tokenizer.ggml.model" not in metadata:
        raise UnsupportedModelError(path, "holds no tokenizer (no key 'tokenizer.ggml.model')")
    model = metadata.get_str("tokenizer.ggml.model")
    pieces = _read_pieces(path, metadata)
    if model == "gpt2":
        pre = _pre_tokenizer(path, metadata, architecture)
        merges = _read_merges(path, metadata)
        encoder = byte_level_encoder(pieces, merges, pre.splits, pre.whole_words)
        adds_space, adds_bos = False, pre.add_bos
    elif model == "llama":
        _refuse_normalisation(path, metadata)
        adds_space = _flag(metadata, "tokenizer.ggml.add_space_prefix", default=True)
        has_merges = "tokenizer.ggml.merges" in metadata
        written = _read_merges(path, metadata) if has_merges else None
        encoder, adds_bos = sentencepiece_encoder(pieces, written, adds_space), True
    else:
        raise UnsupportedModelError(path, f"tokenizer model {model!r} is not supported")

    last = len(pieces.tokens) - 1
    bos_id, eos_id, eot_id, eom_id = (
        metadata.get_int(key, 0, last) if key in metadata else None
        for key in (f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot", "eom"))
    )
    controls = pieces.of_kind(CONTROL, UNKNOWN)
    ends = {id for id in (eos_id, eot_id, eom_id) if id is not None}
    ends |= {id for id in controls if pieces.tokens[id] in END_TOKENS}
    special_ids = controls | ends | ({bos_id} if bos_id is not None else set())
    add_tokens(encoder, pieces, special_ids)

    add_bos = _flag(
        metadata, "tokenizer.ggml.add_bos_token", default=adds_bos and bos_id is not None
    )
    if add_bos and bos_id is None:
        raise InvalidModelError(path, "tokenizer.ggml.add_bos_token is set without a bos_token_id")
    key = "tokenizer.chat_template"
    template = metadata.get_str(key) if key in metadata else None
    vocabulary = Vocabulary(
        path=path,
        size=len(pieces.tokens),
        spelling="byte-level" if model == "gpt2" else "sentencepiece",
        special_ids=frozenset(special_ids),
        bos_id=bos_id,
        eos_ids=frozenset(ends),
        primary_eos_id=eos_id,
        add_bos=add_bos,
        adds_space=adds_space,
        chat_template=chat_template_for(architecture, template),
    )
    return Tokenizer(encoder, vocabulary)


def _flag(metadata: Metadata, key: str, *, default: bool) -> bool:
    return metadata.get_bool(key) if key in metadata else default


def _read_pieces(path: Path, metadata: Metadata) -> Pieces:
    tokens = metadata.get_strings("tokenizer.ggml.tokens")
    kinds, scores = [NORMAL] * len(tokens), None
    if "tokenizer.ggml.token_type" in metadata:
        kinds = metadata.get_ints("tokenizer.ggml.token_type").tolist()
    if "tokenizer.ggml.scores" in metadata:
        scores = metadata.get_floats("tokenizer.ggml.scores").tolist()
    return Pieces(path, tokens, kinds, scores)


def _pre_tokenizer(path: Path, metadata: Metadata, architecture: str) -> PreTokenizer:
    key = "tokenizer.ggml.pre"
    if key in metadata:
        name = metadata.get_str(key)
    elif architecture in ("bitnet-b1.58", "bitnet-25"):
        name = "llama-bpe"  # the published 2B-4T files lack the key
    else:
        raise UnsupportedModelError(path, f"holds no {key!r}, so how to cut words is not known")
    if name not in PRE_TOKENIZERS:
        raise UnsupportedModelError(path, f"pre-tokenizer {name!r} is not supported")
    return PRE_TOKENIZERS[name]


def _read_merges(path: Path, metadata: Metadata) -> list[tuple[str, str]]:
    merges = []
    for index, merge in enumerate(metadata.get_strings("tokenizer.ggml.merges")):
        left, _, right = merge.partition(" ")  # tokens spell spaces otherwise
        if not left or not right or " " in right:
            raise InvalidModelError(path, f"merge {index} is {merge!r}, not two tokens")
        merges.append((left, right))
    return merges


def _refuse_normalisation(path: Path, metadata: Metadata) -> None:
    charsmap = "tokenizer.ggml.precompiled_charsmap"
    spaces = "tokenizer.ggml.remove_extra_whitespaces"
    if charsmap in metadata or _flag(metadata, spaces, default=False):
        raise UnsupportedModelError(
            path, f"text normalisation ({charsmap!r} or {spaces!r}) is not supported"
        )
