"""What a GGUF file says of the tokenizer in a Hugging Face folder.

The tokenizer is taken as the `tokenizers` library has it, so that all files it can come from are
one here. What has no key in GGUF files is in keys of our own, as far as readers that pass over them
make the same tokens of usual text; the rest is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bitnet.conversion.scores import scores_of_merges
from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf_writer import WritableValue
from bitnet.models.spec import ModelSpec
from bitnet.tokenizers.declared_tokens import FLAGS, flag_key
from bitnet.tokenizers.gguf_vocabulary import METASPACE_KEY, MODEL_KEY, NFC_KEY
from bitnet.tokenizers.huggingface_files import find_tokenizer, tokenizer_from_file
from bitnet.tokenizers.pieces import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Pieces,
)
from bitnet.tokenizers.pre_tokenizers import PRE_TOKENIZERS, name_of_steps
from bitnet.tokenizers.special import END_TOKENS
from bitnet.tokenizers.spelling import WORD_START, byte_of_token, spell_bytes
from bitnet.tokenizers.tokenizer import Tokenizer

_KEY = "tokenizer.ggml."
_TEMPLATE_KEY = "tokenizer.chat_template"
_END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")

# How SentencePiece's handling of spaces is said in a tokenizer.json.
_PREPENDS = {"type": "Prepend", "prepend": WORD_START}
_SPELLS = {"type": "Replace", "pattern": {"String": " "}, "content": WORD_START}
_NFC = {"type": "NFC"}
_METASPACE = {"type": "Metaspace", "replacement": WORD_START, "split": False}
# Gemma's; no space is left to split at.
_IDLE = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}


def gguf_vocabulary(folder: Path, spec: ModelSpec) -> dict[str, WritableValue]:
    """The ``tokenizer.`` keys of a GGUF file for the model in `folder`; none without a tokenizer.

    Raises UnsupportedModelError for what such a file cannot say, InvalidModelError if a file is
    broken or there are more tokens than the model has.
    """
    file = find_tokenizer(folder)
    if file is None:
        return {}
    tokenizer = tokenizer_from_file(file, spec.architecture)
    if tokenizer.vocab_size > spec.vocab_size:
        raise InvalidModelError(
            file,
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {spec.vocab_size}",
        )
    source = _Source(file, json.loads(tokenizer.to_json()), spec.vocab_size)
    byte_level = tokenizer.spelling == "byte-level"
    values = source.byte_level() if byte_level else source.sentencepiece()
    return values | _ends_of_texts(tokenizer, file) | _chat_templates(tokenizer)


class _Source:
    """A tokenizer.json, as the library writes it; `size` is that of the model's vocabulary."""

    def __init__(self, path: Path, values: Mapping[str, Any], size: int) -> None:
        self.path = path
        self._normalizer = _steps(values["normalizer"], "normalizers")
        self._pre_tokenizer = _steps(values["pre_tokenizer"], "pretokenizers")
        self._model = values["model"]
        self._added: list[dict[str, Any]] = values["added_tokens"]
        self._check_model()
        self._pieces = self._read_pieces(size)

    def byte_level(self) -> dict[str, WritableValue]:
        """Model, pre-tokenizer, tokens, types and merges of byte-level BPE."""
        nfc = self._normalizer == [_NFC]
        if self._normalizer and not nfc:
            kinds = ", ".join(step["type"] for step in self._normalizer)
            raise self._unsupported(f"text normalisation ({kinds})")
        pre = name_of_steps(self._pre_tokenizer, whole_words=self._model["ignore_merges"])
        if pre is None:
            raise UnsupportedModelError(
                self.path,
                "cuts text into words in none of the ways that have a name in GGUF files: "
                f"{', '.join(PRE_TOKENIZERS)}",
            )
        missing = {spell_bytes(bytes([byte])) for byte in range(256)} - self._pieces.ids.keys()
        if missing:
            raise self._unsupported(f"a vocabulary without {len(missing)} of the 256 bytes")
        values: dict[str, WritableValue] = {
            MODEL_KEY: "gpt2",
            f"{_KEY}pre": pre,
            **self._tokens(),
            **self._flags(set()),
            **self._written_merges(),
        }
        return values | {NFC_KEY: True} if nfc else values

    def sentencepiece(self) -> dict[str, WritableValue]:
        """Model, tokens, types and scores of SentencePiece BPE."""
        adds_space, metaspace = self._spaces()
        if self._model["ignore_merges"]:
            raise self._unsupported("ignore_merges in a SentencePiece model")
        unknown = self._model["unk_token"]
        if unknown is not None and not self._model["fuse_unk"]:
            raise self._unsupported("unknown letters that are tokens one by one")
        scores, scores_tell = scores_of_merges(self.path, self._pieces, self._merges())
        declared = self._declared(adds_space, has_merges=not scores_tell)
        values: dict[str, WritableValue] = {
            MODEL_KEY: "llama",
            **self._tokens(),
            # Readers look for user-defined ones in the text as it is.
            f"{_KEY}tokens": [
                token.replace(WORD_START, " ") if kind == USER_DEFINED else token
                for token, kind in zip(self._pieces.tokens, self._pieces.kinds, strict=True)
            ],
            f"{_KEY}scores": scores,
            f"{_KEY}add_space_prefix": adds_space,
            **declared,
        }
        if metaspace is not None:
            values[METASPACE_KEY] = metaspace
        if unknown is not None:
            values[f"{_KEY}unknown_token_id"] = self._pieces.ids[unknown]
        return values

    def _merges(self) -> list[tuple[str, str]]:
        return [(left, right) for left, right in self._model["merges"]]

    def _written_merges(self) -> dict[str, WritableValue]:
        merges = self._merges()
        if any(" " in part for merge in merges for part in merge):
            raise self._unsupported("merges of tokens with spaces")
        return {f"{_KEY}merges": [" ".join(merge) for merge in merges]}

    def _tokens(self) -> dict[str, WritableValue]:
        return {
            f"{_KEY}tokens": self._pieces.tokens,
            f"{_KEY}token_type": np.array(self._pieces.kinds, np.int32),
        }

    def _check_model(self) -> None:
        model = self._model
        if model["type"] != "BPE":
            raise self._unsupported(f"a tokenizer of type {model['type']}")
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if model[key]:
                raise self._unsupported(key)

    def _read_pieces(self, size: int) -> Pieces:
        """All tokens by id, padded to `size`."""
        ids = self._model["vocab"] | {token["content"]: token["id"] for token in self._added}
        tokens: list[str | None] = [None] * size
        for token, id in ids.items():
            if tokens[id] is not None:
                raise InvalidModelError(self.path, f"{token!r} and {tokens[id]!r} are token {id}")
            tokens[id] = token
        kinds = [UNUSED if token is None else self._kind(token) for token in tokens]
        for added in self._added:
            kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
        unknown = self._model["unk_token"]
        if unknown is not None:
            kinds[ids[unknown]] = UNKNOWN
        padded = [f"[PAD{id}]" if token is None else token for id, token in enumerate(tokens)]
        return Pieces(self.path, padded, kinds)

    def _kind(self, token: str) -> int:
        is_byte = self._model["byte_fallback"] and byte_of_token(token) is not None
        return BYTE if is_byte else NORMAL

    def _spaces(self) -> tuple[bool, str | None]:
        """Whether a space is put before the text, and where by a Metaspace step that puts some."""
        steps = [step for step in self._pre_tokenizer if step != _IDLE]
        if not steps and self._normalizer in ([_PREPENDS, _SPELLS], [_SPELLS]):
            return len(self._normalizer) > 1, None
        if not self._normalizer and len(steps) == 1:
            scheme = steps[0].get("prepend_scheme")
            if steps[0] == {**_METASPACE, "prepend_scheme": scheme}:
                return scheme != "never", scheme
        raise self._unsupported("this handling of spaces in a SentencePiece model")

    def _declared(self, adds_space: bool, *, has_merges: bool) -> dict[str, WritableValue]:
        """The flags of declared tokens of SentencePiece, and merges if any are to be written."""
        plain = [token for token in self._added if not token["special"]]
        raw = [
            token["content"]
            for token in plain
            if not (token["normalized"] and bool(self._normalizer))
        ]
        # All others are cut out of the text before anything is merged.
        has_merges |= any(WORD_START in token for token in raw)
        has_merges |= any(token["single_word"] for token in plain)
        spelled = has_merges and any(WORD_START in token["content"] for token in plain)
        usual = set() if adds_space else self._pieces.of_kind(USER_DEFINED)
        values = self._flags(None if spelled else usual)
        if flag_key("normalized") in values:  # with which spaces are read as SentencePiece's
            spaces = [token for token in raw if " " in token]
            if spaces:
                raise self._unsupported(f"the space in {spaces[0]!r}, which is not normalised")
        return values | self._written_merges() if has_merges else values

    def _flags(self, usual: set[int] | None) -> dict[str, WritableValue]:
        """The flags of declared tokens; `usual` are those that are normalised without a key."""
        having = {flag: {t["id"] for t in self._added if t[flag]} for flag in FLAGS}
        return {
            flag_key(flag): np.array(sorted(ids), np.int32)
            for flag, ids in having.items()
            if ids != (usual if flag == "normalized" else set())
        }

    def _unsupported(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(self.path, f"{what}: not what a GGUF file can say")


def _steps(part: Mapping[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The steps of a normaliser or pre-tokenizer."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [step for inner in part[key] for step in _steps(inner, key)]
    return [dict(part)]


def _ends_of_texts(tokenizer: Tokenizer, path: Path) -> dict[str, WritableValue]:
    """The ids of the tokens before and after texts and turns, and which of them are added."""
    values: dict[str, WritableValue] = {}
    if tokenizer.bos_id is not None:
        values[f"{_KEY}bos_token_id"] = tokenizer.bos_id
    if tokenizer.eos_id is not None:
        values[f"{_KEY}eos_token_id"] = tokenizer.eos_id
    names = {id: tokenizer.piece(id) for id in sorted(tokenizer.eos_ids - {tokenizer.eos_id})}
    keys = {"eot": _END_OF_TURN, "eom": ("<|eom_id|>",)}
    for key, usual in keys.items():
        # Readers know the others by name.
        unknown = (id for id, name in names.items() if name not in END_TOKENS)
        named = (id for id, name in names.items() if name in usual)
        id = next(unknown, next(named, None))
        if id is not None:
            values[f"{_KEY}{key}_token_id"] = id
            del names[id]
    lost = [name for name in names.values() if name not in END_TOKENS]
    if lost:
        raise UnsupportedModelError(
            path, f"{len(lost)} more ends of texts than a GGUF file can name, such as {lost[0]!r}"
        )
    values[f"{_KEY}add_bos_token"] = tokenizer.add_bos
    values[f"{_KEY}add_eos_token"] = tokenizer.add_eos
    return values


def _chat_templates(tokenizer: Tokenizer) -> dict[str, WritableValue]:
    templates = dict(tokenizer.chat_templates)
    default = templates.pop("default", None)
    values: dict[str, WritableValue] = {} if default is None else {_TEMPLATE_KEY: default}
    if templates:
        values[f"{_TEMPLATE_KEY}s"] = list(templates)
        values |= {f"{_TEMPLATE_KEY}.{name}": source for name, source in templates.items()}
    return values
