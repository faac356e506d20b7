"""Reading Llama 3's `tokenizer.model`, a rank file of tiktoken.

A line is a token in base64, a space and the token's rank, which is its id; 256 control tokens
follow that are not in the file. Of two neighbours that can be joined, tiktoken joins those that
make the token of the lowest rank.
"""

from __future__ import annotations

import base64
import binascii
import re

from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError
from bitnet.tokenizers.declared_tokens import declare_tokens, usual_flags
from bitnet.tokenizers.pieces import (
    CONTROL,
    MAX_PIECES,
    NORMAL,
    Path,
    Pieces,
    byte_level_encoder,
    merges_in_order,
)
from bitnet.tokenizers.pre_tokenizers import LLAMA3_SPLIT
from bitnet.tokenizers.spelling import spell_bytes

_NAMED = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>"}
_NAMED |= {7: "<|end_header_id|>", 9: "<|eot_id|>"}
_N_CONTROLS = 256
_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) (0|[1-9][0-9]{0,8})\r?")


def is_rank_file(data: bytes) -> bool:
    """Whether the first line is one of a rank file."""
    return _LINE.fullmatch(data[:1024].partition(b"\n")[0]) is not None


def llama3_encoder(path: Path, data: bytes) -> Encoder:
    """Build the tokenizer of the rank file at `path`. Raises InvalidModelError if it is broken."""
    words = [spell_bytes(token) for token in _parse(path, data)]
    tokens = [*words, *_controls()]
    kinds = [NORMAL] * len(words) + [CONTROL] * _N_CONTROLS
    pieces = Pieces(path, tokens, kinds)
    missing = {spell_bytes(bytes([byte])) for byte in range(256)} - pieces.ids.keys()
    if missing:
        raise InvalidModelError(path, f"{len(missing)} of the 256 bytes are no tokens")
    merges = list(merges_in_order(path, words, pieces.ids))
    encoder = byte_level_encoder(pieces, merges, (LLAMA3_SPLIT,), whole_words=True)
    flags = usual_flags(pieces, spaces_spelled=False)
    declare_tokens(encoder, pieces, pieces.of_kind(CONTROL), flags)
    return encoder


def _parse(path: Path, data: bytes) -> list[bytes]:
    if data.count(b"\n") > MAX_PIECES:
        raise InvalidModelError(path, f"has more than {MAX_PIECES} lines")
    tokens = []
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n")):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InvalidModelError(path, f"line {number + 1} is not a token and its rank")
        if int(match[2]) != number:
            raise InvalidModelError(path, f"line {number + 1} has rank {int(match[2])}")
        try:
            tokens.append(base64.b64decode(match[1], validate=True))
        except binascii.Error as error:
            raise InvalidModelError(path, f"line {number + 1} is not base64: {error}") from error
    return tokens


def _controls() -> list[str]:
    reserved = iter(range(_N_CONTROLS))
    return [
        _NAMED.get(index) or f"<|reserved_special_token_{next(reserved)}|>"
        for index in range(_N_CONTROLS)
    ]
