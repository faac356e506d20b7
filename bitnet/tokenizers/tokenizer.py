"""The tokenizer of a model: one class over the `tokenizers` library.

Encoding is the library's. Decoding is done here on bytes, so that a stream of tokens cut anywhere
gives the same text as decoding all of them at once.
"""

from __future__ import annotations

import codecs
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tokenizers

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.tokenizers.normalisers import MAX_NORMALISED_CHARS, steps_of, written_chars
from bitnet.tokenizers.spelling import WORD_START, Spelling, byte_of_token, bytes_of_letters
from bitnet.tokenizers.templates import Template, choose_template

if TYPE_CHECKING:
    from bitnet.tokenizers.chat_template import ChatTemplate

FAILS = "the tokenizer fails"

# Patterns try again at each character of a run of blanks; the library gives up at ten million.
MAX_TEXT_CHARS = 1 << 23

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a reader of model files finds out about a tokenizer, besides the encoder itself."""

    path: str | os.PathLike[str]
    size: int
    """One more than the largest token id."""
    spelling: Spelling
    special_ids: frozenset[int]
    bos_id: int | None
    eos_ids: frozenset[int]
    primary_eos_id: int | None
    add_bos: bool
    add_eos: bool
    adds_space: bool
    """A space is put before the text when encoding, and taken off when decoding."""
    chat_templates: Mapping[str, str]
    """Jinja source by name; "default" is the one for chats."""


class Tokenizer:
    """Encodes text, decodes ids and renders chats; safe to use from several threads."""

    def __init__(self, encoder: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
        self._encoder = encoder
        self._encoder_lock = threading.Lock()
        self._vocabulary = vocabulary
        state = encoder.normalizer and encoder.normalizer.__getstate__()
        self._normaliser = steps_of(vocabulary.path, state and json.loads(state))
        decoder = encoder.get_added_tokens_decoder()
        self._declared = {id: token.content for id, token in decoder.items()}
        self._chat = choose_template("auto", vocabulary.chat_templates)
        self._compiled: ChatTemplate | None = None

    @property
    def path(self) -> Path:
        """The model file, the model folder or the tokenizer's own file that this came from."""
        return Path(self._vocabulary.path)

    @property
    def spelling(self) -> Spelling:
        """How `piece` spells tokens: in byte-level BPE's letters or in SentencePiece's."""
        return self._vocabulary.spelling

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id; the model's vocabulary may be padded beyond it."""
        return self._vocabulary.size

    @property
    def bos_id(self) -> int | None:
        """The token that starts a text, if there is one."""
        return self._vocabulary.bos_id

    @property
    def eos_ids(self) -> frozenset[int]:
        """All tokens that end a generation: end of text and end of turn."""
        return self._vocabulary.eos_ids

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text, the first one if the model declares several."""
        return self._vocabulary.primary_eos_id

    @property
    def add_bos(self) -> bool:
        """Whether prompts of this model start with `bos_id`."""
        return self._vocabulary.add_bos

    @property
    def add_eos(self) -> bool:
        """Whether whole texts, such as an embedding model reads, end with `eos_id`."""
        return self._vocabulary.add_eos

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the chat template in use, or None."""
        return None if self._chat is None else self._chat.source

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """The Jinja sources in the model's files by name; "default" is the one for chats."""
        return self._vocabulary.chat_templates

    @property
    def chat_stop(self) -> tuple[str, ...]:
        """Strings that end an answer in a chat, besides the tokens of `eos_ids`."""
        return () if self._chat is None else self._chat.stop

    def use_chat_template(self, choice: str | os.PathLike[str]) -> None:
        """Use another chat template, see `bitnet.load`; to be called before others use this.

        Raises InvalidArgumentError if there is no such template, InvalidModelError if it is broken.
        """
        self._chat = choose_template(choice, self._vocabulary.chat_templates)
        self._compiled = None if self._chat is None else self._compile(self._chat)

    def encode(
        self,
        text: str,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        parse_special: bool = False,
    ) -> list[int]:
        """Return the ids of `text`, after `bos_id` if `add_bos`, before `eos_id` if `add_eos`.

        With `parse_special` the spelling of a control token in the text means that token; without,
        it is ordinary text. Raises InvalidArgumentError if `text` is too long or cannot be encoded
        in UTF-8, or the model lacks the token that is to be added; InvalidModelError if the
        patterns of a tokenizer.json take too long.
        """
        start: list[int] = []
        if add_bos:
            if self.bos_id is None:
                raise InvalidArgumentError("add_bos: the model has no begin-of-text token")
            start.append(self.bos_id)
        end: list[int] = []
        if add_eos:
            if self.eos_id is None:
                raise InvalidArgumentError("add_eos: the model has no end-of-text token")
            end.append(self.eos_id)
        if len(text) > MAX_TEXT_CHARS:
            raise InvalidArgumentError(f"a text of {len(text)} characters exceeds {MAX_TEXT_CHARS}")
        if written_chars(self._normaliser, len(text)) > MAX_NORMALISED_CHARS:
            raise InvalidArgumentError(
                f"a text of {len(text)} characters can become longer than {MAX_NORMALISED_CHARS} "
                "when it is normalised"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(f"the text is not valid Unicode: {error}") from error
        with self._encoder_lock:  # the switch is a property of the encoder, not of the call
            self._encoder.encode_special_tokens = not parse_special
            ids = guarded(
                self.path,
                FAILS,
                lambda: self._encoder.encode(text, add_special_tokens=False).ids,
            )
        return start + ids + end

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Render the chat template and encode it, with exactly one `bos_id` where one belongs."""
        text = self.apply_chat_template(messages, add_generation_prompt=add_generation_prompt)
        ids = self.encode(text, parse_special=True)
        if self.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD.

        As in the libraries, one stands for each such byte of a SentencePiece model, and for each
        cut-off character of byte-level BPE.

        Control tokens are left out, or spelled out if not `skip_special`. Raises
        InvalidArgumentError for a negative id.
        """
        decoder = StreamDecoder(self, skip_special=skip_special)
        return "".join([*map(decoder.push, ids), decoder.flush()])

    def stream_decoder(self, context: Iterable[int] = ()) -> StreamDecoder:
        """Return a decoder for tokens that arrive one by one after the tokens of `context`.

        The context decides whether a SentencePiece model's first space is taken off: it is at the
        start of a text, and not in the middle of one.
        """
        decoder = StreamDecoder(self)
        decoder.at_start = not any(self.token_bytes(id) for id in context)
        return decoder

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes a token adds to the text: none for control tokens.

        None either for ids beyond the vocabulary, which padded models can produce. Raises
        InvalidArgumentError for a negative id.
        """
        if id < 0:
            raise InvalidArgumentError(f"token ids are not negative, unlike {id}")
        if id in self._vocabulary.special_ids:
            return b""
        token = self._encoder.id_to_token(id)
        if token is None:
            return b""
        declared = id in self._declared
        if self.spelling == "sentencepiece":
            byte = None if declared else byte_of_token(token)
            return token.replace(WORD_START, " ").encode() if byte is None else bytes([byte])
        data = None if declared else bytes_of_letters(token)
        return token.encode() if data is None else data

    def piece(self, id: int) -> str:
        """Return the token as the vocabulary spells it, such as "Ġthe", "▁the" or "<0x0A>".

        Raises InvalidArgumentError for an id outside the vocabulary.
        """
        piece = self._token(id) if 0 <= id < self.vocab_size else None
        if piece is None:
            raise InvalidArgumentError(
                f"there is no token {id}; ids are 0 to {self.vocab_size - 1}"
            )
        return piece

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Render `messages` (each with `role` and `content`) the way the model was trained on.

        The result holds control tokens as text; encode it with `parse_special`, or use
        `encode_chat`. Raises InvalidArgumentError if the model has no template or the template
        refuses the messages, InvalidModelError if the template itself fails.
        """
        return self._template.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            bos_token=self._spelling_of(self.bos_id),
            eos_token=self._spelling_of(self.eos_id),
        )

    def to_json(self) -> str:
        """Return the tokens, and how text is cut into them, as the text of a tokenizer.json."""
        return self._encoder.to_str()

    @property
    def _template(self) -> ChatTemplate:
        if self._chat is None:
            raise InvalidArgumentError(f"{self.path}: the model has no chat template")
        if self._compiled is None:
            self._compiled = self._compile(self._chat)
        return self._compiled

    def _compile(self, template: Template) -> ChatTemplate:
        # Imported on first use: most programs that complete text need no template engine.
        from bitnet.tokenizers.chat_template import ChatTemplate

        return ChatTemplate(template.path or self.path, template.source)

    def _spelling_of(self, id: int | None) -> str:
        return "" if id is None else self._token(id) or ""

    def _token(self, id: int) -> str | None:
        # The library gives normalised tokens as its normaliser makes them.
        return self._declared.get(id) or self._encoder.id_to_token(id)


def guarded(path: str | os.PathLike[str], rule: str, call: Callable[[], _T]) -> _T:
    """Turn whatever the tokenizers library raises on a hostile file into an InvalidModelError."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # its panics do not derive from Exception
        raise InvalidModelError(path, f"{rule}: {error}") from error


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """A U+FFFD for each byte that is not UTF-8, as SentencePiece has it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\N{REPLACEMENT CHARACTER}" * (error.end - error.start), error.end


_EACH_BYTE = "bitnet.replace-each-byte"
codecs.register_error(_EACH_BYTE, _replace_each_byte)


class StreamDecoder:
    """Turns tokens into text as they come; only whole characters come out."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        errors = "replace" if tokenizer.spelling == "byte-level" else _EACH_BYTE
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors)
        self.at_start = True
        """Whether no text has come yet, so that the space a tokenizer adds is still to come."""

    def push(self, id: int) -> str:
        """Take one token and return the characters that are now complete."""
        tokenizer = self._tokenizer
        data = tokenizer.token_bytes(id)
        if not self._skip_special and id in tokenizer._vocabulary.special_ids:
            self.at_start = False
            return self._utf8.decode(tokenizer._spelling_of(id).encode())
        if data and self.at_start:
            self.at_start = False
            if tokenizer._vocabulary.adds_space:
                data = data.removeprefix(b" ")
        return self._utf8.decode(data)

    def flush(self) -> str:
        """Return what is left, an unfinished character as U+FFFD; the decoder starts anew."""
        self.at_start = True
        return self._utf8.decode(b"", final=True)
