"""Building a tokenizer from the vocabulary in a GGUF file's metadata.

Two kinds: "gpt2", byte-level BPE with merges in order, and "llama", SentencePiece BPE, whose merges
follow from the scores of the pieces. Some converters write the second kind, with merges, as "gpt2".
Keys of our own say what else is in a tokenizer.json; other readers pass over them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.tokenizers.declared_tokens import (
    FLAGS,
    Flags,
    declare_tokens,
    flag_key,
    usual_flags,
)
from bitnet.tokenizers.pieces import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Path,
    Pieces,
    byte_level_encoder,
    sentencepiece_encoder,
)
from bitnet.tokenizers.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from bitnet.tokenizers.special import END_TOKENS, own_templates
from bitnet.tokenizers.spelling import WORD_START, Spelling, byte_of_token, spell_bytes
from bitnet.tokenizers.tokenizer import Tokenizer, Vocabulary

MODEL_KEY = "tokenizer.ggml.model"
METASPACE_KEY = "bitnet.tokenizer.metaspace"
"""Of our own: where a tokenizer.json has Metaspace put spaces: "first", "always" or "never"."""
NFC_KEY = "tokenizer.ggml.normalizer.nfc"
"""Whether byte-level BPE composes letters and accents first; several engines read it, llama.cpp
does not."""

_BERT_KEYS = ("tokenizer.ggml.normalizer.lowercase", "tokenizer.ggml.normalizer.strip_accents")
_CHARSMAP_KEY = "tokenizer.ggml.precompiled_charsmap"


class Metadata(Protocol):
    """The checked getters of GGUF metadata that a vocabulary needs."""

    def __contains__(self, key: object, /) -> bool: ...
    def get_int(self, key: str, minimum: int, maximum: int) -> int: ...
    def get_bool(self, key: str) -> bool: ...
    def get_str(self, key: str) -> str: ...
    def get_strings(self, key: str) -> list[str]: ...
    def get_ints(self, key: str) -> npt.NDArray[np.int64]: ...
    def get_floats(self, key: str) -> npt.NDArray[np.float64]: ...


def tokenizer_from_gguf(path: Path, metadata: Metadata, architecture: str) -> Tokenizer:
    """Build the tokenizer of the GGUF file at `path`.

    Raises UnsupportedModelError if there is none or it is of a kind not known here,
    InvalidModelError if it is inconsistent.
    """
    if MODEL_KEY not in metadata:
        raise UnsupportedModelError(path, f"holds no tokenizer (no key {MODEL_KEY!r})")
    pieces = _read_pieces(path, metadata)
    encoding = _read_encoding(path, metadata, architecture, pieces)

    last = len(pieces.tokens) - 1
    bos_id, eos_id, eot_id, eom_id = (
        metadata.get_int(key, 0, last) if key in metadata else None
        for key in (f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot", "eom"))
    )
    controls = pieces.of_kind(CONTROL, UNKNOWN)
    ends = {id for id in (eos_id, eot_id, eom_id) if id is not None}
    ends |= {id for id in controls if pieces.tokens[id] in END_TOKENS}
    special_ids = controls | ends | ({bos_id} if bos_id is not None else set())
    spaces_spelled = encoding.spelling == "sentencepiece" and not encoding.adds_space
    usual = usual_flags(encoding.pieces, spaces_spelled=spaces_spelled)
    flags = _read_flags(path, metadata, usual, special_ids | pieces.of_kind(USER_DEFINED))
    declare_tokens(encoding.encoder, encoding.pieces, special_ids, flags)

    default = encoding.adds_bos and bos_id is not None
    vocabulary = Vocabulary(
        path=path,
        size=len(pieces.tokens),
        spelling=encoding.spelling,
        special_ids=frozenset(special_ids),
        bos_id=bos_id,
        eos_ids=frozenset(ends),
        primary_eos_id=eos_id,
        add_bos=_adds(path, metadata, "bos", bos_id, default=default),
        add_eos=_adds(path, metadata, "eos", eos_id, default=False),
        adds_space=encoding.adds_space,
        chat_templates=own_templates(architecture, _read_templates(metadata)),
    )
    return Tokenizer(encoding.encoder, vocabulary)


class _Encoding(NamedTuple):
    encoder: Encoder
    pieces: Pieces
    spelling: Spelling
    adds_space: bool
    adds_bos: bool


def _read_encoding(path: Path, metadata: Metadata, architecture: str, pieces: Pieces) -> _Encoding:
    model = metadata.get_str(MODEL_KEY)
    if model not in ("gpt2", "llama"):
        raise UnsupportedModelError(path, f"tokenizer model {model!r} is not supported")
    if model == "gpt2" and not _spells_as_sentencepiece(pieces):
        pre = _pre_tokenizer(path, metadata, architecture)
        merges = _read_merges(path, metadata)
        _refuse(path, metadata, _BERT_KEYS)
        nfc = _flag(metadata, NFC_KEY, default=False)
        encoder = byte_level_encoder(pieces, merges, pre.splits, pre.whole_words, nfc)
        return _Encoding(encoder, pieces, "byte-level", adds_space=False, adds_bos=pre.add_bos)
    _refuse(path, metadata, (*_BERT_KEYS, NFC_KEY, "tokenizer.ggml.remove_extra_whitespaces"))
    if model == "gpt2":  # its token types do not tell bytes apart
        kinds = zip(pieces.tokens, pieces.kinds, strict=True)
        pieces = replace(
            pieces,
            kinds=[k if k != NORMAL or byte_of_token(t) is None else BYTE for t, k in kinds],
        )
    if flag_key("normalized") in metadata:
        pieces = _as_declared(pieces)
    key = "tokenizer.ggml.add_space_prefix"
    adds_space = _flag(metadata, key, default=model == "llama")
    has_merges = model == "gpt2" or "tokenizer.ggml.merges" in metadata
    written = _read_merges(path, metadata) if has_merges else None
    metaspace = _metaspace(path, metadata, adds_space)
    encoder = sentencepiece_encoder(pieces, written, adds_space, metaspace)
    return _Encoding(encoder, pieces, "sentencepiece", adds_space, adds_bos=model == "llama")


def _as_declared(pieces: Pieces) -> Pieces:
    """With the spaces of user-defined tokens spelled as in a tokenizer.json.

    Other readers have to find them in the text as it is, so files have them as they are there.
    """
    kinds = zip(pieces.tokens, pieces.kinds, strict=True)
    tokens = [t.replace(" ", WORD_START) if kind == USER_DEFINED else t for t, kind in kinds]
    return replace(pieces, tokens=tokens)


def _read_flags(path: Path, metadata: Metadata, usual: Flags, declared: set[int]) -> Flags:
    """What the file says of `declared` tokens, or what is usual."""
    flags = dict(usual)
    for flag in FLAGS:
        key = flag_key(flag)
        if key in metadata:
            found = metadata.get_ints(key)
            if found.size > len(declared):
                raise InvalidModelError(
                    path, f"{key!r} has {found.size} tokens, more than the {len(declared)} declared"
                )
            flags[flag] = ids = set(found.tolist())
            if not ids <= declared:
                raise InvalidModelError(
                    path, f"{key!r} has token {min(ids - declared)}, which is not declared"
                )
    return flags


def _metaspace(path: Path, metadata: Metadata, adds_space: bool) -> str | None:
    if METASPACE_KEY not in metadata:
        return None
    scheme = metadata.get_str(METASPACE_KEY)
    known = ("first", "always") if adds_space else ("never",)
    if scheme not in known:
        raise InvalidModelError(path, f"{METASPACE_KEY!r} is {scheme!r}, not {' or '.join(known)}")
    return scheme


def _spells_as_sentencepiece(pieces: Pieces) -> bool:
    return "<0x00>" in pieces.ids and spell_bytes(b" ") not in pieces.ids


def _adds(path: Path, metadata: Metadata, name: str, id: int | None, *, default: bool) -> bool:
    key = f"tokenizer.ggml.add_{name}_token"
    value = _flag(metadata, key, default=default)
    if value and id is None:
        raise InvalidModelError(path, f"{key} is set without a {name}_token_id")
    return value


def _read_templates(metadata: Metadata) -> dict[str, str]:
    """The chat templates by name."""
    templates, key = {}, "tokenizer.chat_template"
    if key in metadata:
        templates["default"] = metadata.get_str(key)
    if f"{key}s" in metadata:
        for name in metadata.get_strings(f"{key}s"):
            templates[name] = metadata.get_str(f"{key}.{name}")
    return templates


def _flag(metadata: Metadata, key: str, *, default: bool) -> bool:
    return metadata.get_bool(key) if key in metadata else default


def _read_pieces(path: Path, metadata: Metadata) -> Pieces:
    tokens = metadata.get_strings("tokenizer.ggml.tokens")
    kinds, scores = [NORMAL] * len(tokens), None
    if "tokenizer.ggml.token_type" in metadata:
        numbers = metadata.get_ints("tokenizer.ggml.token_type")
        kinds = _as_list(path, numbers, len(tokens), "token types")
    if "tokenizer.ggml.scores" in metadata:
        scores = _as_list(path, metadata.get_floats("tokenizer.ggml.scores"), len(tokens), "scores")
    return Pieces(path, tokens, kinds, scores).without_padding()


def _as_list(path: Path, values: npt.NDArray[Any], count: int, what: str) -> list[Any]:
    """The numbers of `count` tokens; a list takes much more than an array."""
    if values.size != count:
        raise InvalidModelError(path, f"{values.size} {what} for {count} tokens")
    return list(values.tolist())


def _pre_tokenizer(path: Path, metadata: Metadata, architecture: str) -> PreTokenizer:
    key = "tokenizer.ggml.pre"
    if key in metadata:
        name = metadata.get_str(key)
    elif architecture in ("bitnet-b1.58", "bitnet-25"):
        name = "llama-bpe"  # the published 2B-4T files lack the key
    else:
        raise UnsupportedModelError(
            path,
            f"holds no {key!r}, so how to cut words is not known; give the model's tokenizer.json",
        )
    if name not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            path, f"pre-tokenizer {name!r} is not supported; give the model's tokenizer.json"
        )
    return PRE_TOKENIZERS[name]


def _read_merges(path: Path, metadata: Metadata) -> list[tuple[str, str]]:
    merges = []
    for index, merge in enumerate(metadata.get_strings("tokenizer.ggml.merges")):
        left, _, right = merge.partition(" ")  # tokens spell spaces otherwise
        if not left or not right or " " in right:
            raise InvalidModelError(path, f"merge {index} is {merge!r}, not two tokens")
        merges.append((left, right))
    return merges


def _refuse(path: Path, metadata: Metadata, keys: Iterable[str]) -> None:
    """Refuse normalisation of texts that any of these keys, or a character map, asks for."""
    for key in (_CHARSMAP_KEY, *keys):
        if key in metadata and (key == _CHARSMAP_KEY or metadata.get_bool(key)):
            raise UnsupportedModelError(path, f"text normalisation ({key!r}) is not supported")
