"""Building a tokenizer from its own file and the small files beside it in a model's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.strict_json import MAX_CONFIG_BYTES, parse_object, read_bounded
from bitnet.tokenizers.declared_tokens import declare_tokens, usual_flags
from bitnet.tokenizers.normalisers import check_normaliser
from bitnet.tokenizers.pieces import (
    CONTROL,
    MAX_PIECES,
    UNKNOWN,
    USER_DEFINED,
    sentencepiece_encoder,
)
from bitnet.tokenizers.sentencepiece_model import parse_sentencepiece_model
from bitnet.tokenizers.special import END_TOKENS, own_templates
from bitnet.tokenizers.spelling import WORD_START, Spelling
from bitnet.tokenizers.tiktoken_ranks import is_rank_file, llama3_encoder
from bitnet.tokenizers.tokenizer import FAILS, Tokenizer, Vocabulary, guarded

MAX_TOKENIZER_BYTES = 2**26
MAX_TEMPLATES = 64
MAX_BLANK = 64


def find_tokenizer(folder: Path) -> Path | None:
    """Return the file in `folder` that is a tokenizer, if there is one."""
    files = (folder / name for name in ("tokenizer.json", "tokenizer.model"))
    return next((file for file in files if file.is_file()), None)


def tokenizer_from_file(path: Path, architecture: str) -> Tokenizer:
    """Build the tokenizer in `path`: a tokenizer.json or tokenizer.model by whatever name.

    tokenizer.model is SentencePiece's, or Llama 3's rank file. Special tokens and the chat template
    come from tokenizer_config.json, generation_config.json, config.json, chat_template.jinja and
    additional_chat_templates beside it, as far as they exist. Raises UnsupportedModelError if it is
    of a kind not known here, InvalidModelError if a file is broken.
    """
    encoding = _read_encoding(path)
    encoder, settings = encoding.encoder, _Settings(path.parent)
    added = encoder.get_added_tokens_decoder()
    special_ids = {id for id, token in added.items() if token.special}
    named_ends = {id for id in special_ids if added[id].content in END_TOKENS}
    bos_ids = _known(encoding.bos_id) + settings.token_ids(encoder, "bos")
    ends = _known(encoding.eos_id) + settings.token_ids(encoder, "eos")
    ends += sorted(named_ends.difference(ends))
    bos_id, eos_id = (next(iter(ids), None) for ids in (bos_ids, ends))
    vocabulary = Vocabulary(
        path=path,
        size=max(encoder.get_vocab().values(), default=-1) + 1,
        spelling=encoding.spelling,
        special_ids=frozenset(special_ids.union(bos_ids[:1], ends)),
        bos_id=bos_id,
        eos_ids=frozenset(ends),
        primary_eos_id=eos_id,
        add_bos=settings.adds("bos", bos_id, default=encoding.adds_bos),
        add_eos=settings.adds("eos", eos_id, default=encoding.adds_eos),
        adds_space=encoding.adds_space,
        chat_templates=own_templates(architecture, settings.chat_templates()),
    )
    return Tokenizer(encoder, vocabulary)


class _Encoding(NamedTuple):
    """What a tokenizer's own file says."""

    encoder: Encoder
    spelling: Spelling
    bos_id: int | None
    eos_id: int | None
    adds_space: bool = False
    adds_bos: bool = False
    adds_eos: bool = False


def _read_encoding(path: Path) -> _Encoding:
    data = read_bounded(path, MAX_TOKENIZER_BYTES)
    if is_rank_file(data):
        encoder = llama3_encoder(path, data)
        bos_id, eos_id = map(encoder.token_to_id, ("<|begin_of_text|>", "<|end_of_text|>"))
        return _Encoding(encoder, "byte-level", bos_id, eos_id, adds_bos=True)
    # A SentencePiece model starts with a line feed: the number of its first field.
    if data[:1] == b"\n" and data[:MAX_BLANK].lstrip(b" \t\r\n")[:1] != b"{":
        return _read_sentencepiece(path, data)
    return _read_json(path, data)


def _read_sentencepiece(path: Path, data: bytes) -> _Encoding:
    model = parse_sentencepiece_model(path, data)
    pieces, adds_space = model.pieces, model.adds_space
    if adds_space and pieces.of_kind(USER_DEFINED):
        raise UnsupportedModelError(
            path, "user-defined pieces together with a space before the text are not supported"
        )
    encoder = sentencepiece_encoder(pieces, None, adds_space)
    special_ids = pieces.of_kind(CONTROL, UNKNOWN)
    flags = usual_flags(pieces, spaces_spelled=not adds_space)
    declare_tokens(encoder, pieces, special_ids, flags)
    bos_id, eos_id = model.bos_id, model.eos_id
    return _Encoding(
        encoder, "sentencepiece", bos_id, eos_id, adds_space, adds_bos=bos_id is not None
    )


def _read_json(path: Path, data: bytes) -> _Encoding:
    check_normaliser(path, data)
    encoder = guarded(path, "is not a tokenizer", lambda: Encoder.from_buffer(data))
    encoder.no_truncation()
    encoder.no_padding()
    spelling, adds_space = _spelling(path, encoder)
    bos_id, eos_id = guarded(path, FAILS, lambda: _ends_of_texts(encoder))
    encoder.post_processor = None  # it could repeat any text, even where it is to add no tokens
    return _Encoding(
        encoder,
        spelling,
        bos_id,
        eos_id,
        adds_space,
        adds_bos=bos_id is not None,
        adds_eos=eos_id is not None,
    )


def _known(id: int | None) -> list[int]:
    return [] if id is None else [id]


def _ends_of_texts(encoder: Encoder) -> tuple[int | None, int | None]:
    """The special tokens that the encoder's post-processor puts before and after a text."""
    text = encoder.encode("a", add_special_tokens=False).ids
    whole = encoder.encode("a").ids
    extra = len(whole) - len(text)
    before = next((n for n in range(extra + 1) if whole[n : n + len(text)] == text), 0)
    first = whole[0] if before == 1 else None
    last = whole[-1] if extra - before == 1 else None
    return first, last


def _spelling(path: Path, encoder: Encoder) -> tuple[Spelling, bool]:
    """How tokens spell bytes, and whether a space in front is added and taken off."""
    steps = list(_decoder_steps(encoder))
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return "byte-level", False
    if "Metaspace" in kinds or any(
        step["type"] == "Replace" and step.get("pattern") == {"String": WORD_START}
        for step in steps
    ):
        strips = any(step["type"] == "Strip" and step.get("start", 0) > 0 for step in steps)
        prepends = any(step.get("prepend_scheme", "never") != "never" for step in steps)
        return "sentencepiece", strips or prepends
    raise UnsupportedModelError(
        path, f"decoders of type {', '.join(sorted(kinds)) or 'none'} are not supported"
    )


def _decoder_steps(encoder: Encoder) -> Iterator[dict[str, Any]]:
    if encoder.decoder is None:
        return
    decoder = json.loads(encoder.decoder.__getstate__())  # the library's own JSON
    yield from decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]


_TEMPLATES_RULE = "chat_template must be text, or a list of names and templates"


class _Settings:
    """The small files beside a tokenizer; each may be absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = self._read_object("tokenizer_config.json")
        self.generation = self._read_object("generation_config.json")
        self.model = self._read_object("config.json")

    def token_ids(self, encoder: Encoder, name: str) -> list[int]:
        """The ids that the files give for "bos" or "eos", the tokenizer's own first."""
        found: list[int] = []
        token = self.tokenizer.get(f"{name}_token")
        if isinstance(token, dict):
            token = token.get("content")
        if token is not None:
            id = encoder.token_to_id(token) if isinstance(token, str) else None
            if id is None:
                raise self._error("tokenizer_config.json", f"{name}_token {token!r} is no token")
            found.append(id)
        for file, values in (("generation_config", self.generation), ("config", self.model)):
            ids = values.get(f"{name}_token_id")
            for id in ids if isinstance(ids, list) else [] if ids is None else [ids]:
                known = type(id) is int and 0 <= id < MAX_PIECES
                if not known or encoder.id_to_token(id) is None:
                    raise self._error(f"{file}.json", f"{name}_token_id {id!r} is no token")
                found.append(id)
        return found

    def adds(self, name: str, id: int | None, *, default: bool) -> bool:
        """Whether the token "bos" or "eos" is added: what the file says, else the default."""
        value = self.tokenizer.get(f"add_{name}_token")
        if value is not None and not isinstance(value, bool):
            raise self._error("tokenizer_config.json", f"add_{name}_token must be true or false")
        return id is not None and (default if value is None else value)

    def chat_templates(self) -> dict[str, str]:
        """By name, from the files of their own, or else tokenizer_config.json."""
        folder = self.folder / "additional_chat_templates"
        templates = {
            path.stem: self._read_text(f"{folder.name}/{path.name}")
            for path in islice(sorted(folder.glob("*.jinja")), MAX_TEMPLATES)
        }
        if (self.folder / "chat_template.jinja").is_file():
            return {"default": self._read_text("chat_template.jinja"), **templates}
        value = self.tokenizer.get("chat_template")
        if value is None:
            return templates
        # One, or a list of several with their names.
        entries = [{"name": "default", "template": value}] if isinstance(value, str) else value
        try:
            written = {entry["name"]: entry["template"] for entry in entries}
        except (TypeError, KeyError, IndexError) as error:
            raise self._error("tokenizer_config.json", _TEMPLATES_RULE) from error
        if not all(isinstance(text, str) for pair in written.items() for text in pair):
            raise self._error("tokenizer_config.json", _TEMPLATES_RULE)
        return {**written, **templates}

    def _read_object(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            return {}
        # config.json is taken as for the model; that of Llama3-8B-1.58 has a key twice.
        unique = name != "config.json"
        return parse_object(path, read_bounded(path, MAX_CONFIG_BYTES), "this", unique=unique)

    def _read_text(self, name: str) -> str:
        try:
            return read_bounded(self.folder / name, MAX_CONFIG_BYTES).decode()
        except UnicodeDecodeError as error:
            raise self._error(name, "is not UTF-8") from error

    def _error(self, name: str, rule: str) -> InvalidModelError:
        return InvalidModelError(self.folder / name, rule)
