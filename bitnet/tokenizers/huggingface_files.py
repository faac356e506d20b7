"""Building a tokenizer from the files in a Hugging Face model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.tokenizers.pieces import CONTROL, MAX_PIECES, UNKNOWN, add_tokens, sentencepiece_encoder
from bitnet.tokenizers.sentencepiece_model import parse_sentencepiece_model
from bitnet.tokenizers.special import END_TOKENS, chat_template_for
from bitnet.tokenizers.tokenizer import WORD_START, Spelling, Tokenizer, Vocabulary

MAX_TOKENIZER_BYTES = 2**28
MAX_CONFIG_BYTES = 2**24

_T = TypeVar("_T")


def tokenizer_from_folder(folder: Path, architecture: str) -> Tokenizer:
    """Build the tokenizer of the model in `folder`, from tokenizer.json or else tokenizer.model.

    Special tokens and the chat template come from tokenizer_config.json, generation_config.json,
    config.json and chat_template.jinja, as far as they exist. Raises UnsupportedModelError if there
    is no tokenizer or it is of a kind not known here, InvalidModelError if a file is broken.
    """
    settings = _Settings(folder)
    if (folder / "tokenizer.json").is_file():
        encoder = _load_encoder(folder / "tokenizer.json")
        spelling, adds_space = _spelling(folder / "tokenizer.json", encoder)
    elif (folder / "tokenizer.model").is_file():
        encoder, adds_space = _load_sentencepiece(folder / "tokenizer.model")
        spelling = "sentencepiece"
    else:
        raise UnsupportedModelError(
            folder, "holds no tokenizer (neither tokenizer.json nor tokenizer.model)"
        )
    added = encoder.get_added_tokens_decoder()
    special_ids = {id for id, token in added.items() if token.special}
    named_ends = {id for id in special_ids if added[id].content in END_TOKENS}
    bos_id = next(iter(settings.token_ids(encoder, "bos")), None)
    ends = settings.token_ids(encoder, "eos")
    special_ids |= {*ends, *([] if bos_id is None else [bos_id])}
    vocabulary = Vocabulary(
        path=folder,
        size=max(encoder.get_vocab().values(), default=-1) + 1,
        spelling=spelling,
        special_ids=frozenset(special_ids),
        bos_id=bos_id,
        eos_ids=frozenset(ends) | named_ends,
        primary_eos_id=ends[0] if ends else None,
        add_bos=bos_id is not None and settings.add_bos(encoder, bos_id),
        adds_space=adds_space,
        chat_template=chat_template_for(architecture, settings.chat_template()),
    )
    return Tokenizer(encoder, vocabulary)


def _load_encoder(path: Path) -> Encoder:
    data = _read(path, MAX_TOKENIZER_BYTES)
    return _guarded(path, lambda: Encoder.from_buffer(data))


def _load_sentencepiece(path: Path) -> tuple[Encoder, bool]:
    model = parse_sentencepiece_model(path, _read(path, MAX_TOKENIZER_BYTES))
    encoder = sentencepiece_encoder(model.pieces, None, model.adds_space)
    add_tokens(encoder, model.pieces, model.pieces.of_kind(CONTROL, UNKNOWN))
    return encoder, model.adds_space


def _guarded(path: Path, call: Callable[[], _T]) -> _T:
    """Turn whatever the tokenizers library raises on a hostile file into an InvalidModelError."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # its panics do not derive from Exception
        raise InvalidModelError(path, f"is not a tokenizer: {error}") from error


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

    def add_bos(self, encoder: Encoder, bos_id: int) -> bool:
        """What tokenizer_config.json says, or else what the encoder does."""
        value = self.tokenizer.get("add_bos_token")
        if value is None:
            return encoder.encode("", add_special_tokens=True).ids[:1] == [bos_id]
        if not isinstance(value, bool):
            raise self._error("tokenizer_config.json", "add_bos_token must be true or false")
        return value

    def chat_template(self) -> str | None:
        """From chat_template.jinja, or else tokenizer_config.json."""
        if (self.folder / "chat_template.jinja").is_file():
            return self._read_text("chat_template.jinja")
        template = self.tokenizer.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = [entry for entry in template if isinstance(entry, dict)]
            template = next((e.get("template") for e in named if e.get("name") == "default"), None)
        if template is not None and not isinstance(template, str):
            raise self._error("tokenizer_config.json", "chat_template must be text")
        return template

    def _read_object(self, name: str) -> dict[str, Any]:
        if not (self.folder / name).is_file():
            return {}
        try:
            value = json.loads(self._read_text(name))
        except (ValueError, RecursionError) as error:
            raise self._error(name, f"is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise self._error(name, "is not a JSON object")
        return value

    def _read_text(self, name: str) -> str:
        try:
            return _read(self.folder / name, MAX_CONFIG_BYTES).decode()
        except UnicodeDecodeError as error:
            raise self._error(name, "is not UTF-8") from error

    def _error(self, name: str, rule: str) -> InvalidModelError:
        return InvalidModelError(self.folder / name, rule)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidModelError(path, f"cannot be read: {error}") from error
    if len(data) > limit:
        raise InvalidModelError(path, f"has more than {limit} bytes")
    return data
