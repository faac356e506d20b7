"""Reading `tokenizer.model`, a SentencePiece model: a protocol buffer, of which some fields matter.

ModelProto: 1 = pieces, each 1 = text, 2 = float32 score, 3 = kind; 2 = trainer, with 3 = model
type, 41 = bos, 42 = eos; 3 = normaliser, with 2 = character map, 3 = add a space in front, 4 =
remove extra spaces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.tokenizers.pieces import CONTROL, MAX_PIECES, NORMAL, Path, Pieces

_UNIGRAM, _BPE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """The parts of a model that encoding needs."""

    pieces: Pieces
    adds_space: bool
    bos_id: int | None
    eos_id: int | None


def parse_sentencepiece_model(path: Path, data: bytes) -> SentencePieceModel:
    """Parse the bytes of the model at `path`.

    Raises InvalidModelError if they are broken, UnsupportedModelError for models that are not BPE
    or that normalise text beyond spaces.
    """
    tokens: list[str] = []
    kinds: list[int] = []
    scores: list[float] = []
    trainer: dict[int, int | bytes] = {}
    adds_space = True
    try:
        for field, value in _fields(data):
            if field == 1:
                if len(tokens) >= MAX_PIECES:
                    raise InvalidModelError(path, f"has more than {MAX_PIECES} pieces")
                parts = _message(value, 1, 2, 3)
                tokens.append(_bytes(parts.get(1, b"")).decode())
                scores.append(struct.unpack("<f", _bytes(parts.get(2, bytes(4))))[0])
                kinds.append(_int(parts.get(3, NORMAL)))
            elif field == 2:
                trainer = _message(value, 3, 41, 42)
            elif field == 3:
                normaliser = _message(value, 2, 3, 4)
                adds_space = bool(normaliser.get(3, 1))
                if normaliser.get(2) or normaliser.get(4, 1):
                    raise UnsupportedModelError(
                        path, "SentencePiece text normalisation is not supported"
                    )
        model_type = _int(trainer.get(3, _UNIGRAM))
        bos_id, eos_id = _int(trainer.get(41, 1)), _int(trainer.get(42, 2))
    except (TypeError, ValueError, struct.error) as error:
        raise InvalidModelError(path, f"is not a SentencePiece model: {error}") from error
    if model_type != _BPE:
        raise UnsupportedModelError(path, "only SentencePiece models of type BPE are supported")
    controls = {id for id, kind in enumerate(kinds) if kind == CONTROL}  # -1 is a huge number here
    return SentencePieceModel(
        Pieces(path, tokens, kinds, scores),
        adds_space,
        bos_id if bos_id in controls else None,
        eos_id if eos_id in controls else None,
    )


def _message(value: int | bytes, *wanted: int) -> dict[int, int | bytes]:
    """Those fields of an inner message that are wanted."""
    return {field: inner for field, inner in _fields(_bytes(value)) if field in wanted}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; fixed-size values as bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"field of wire type {wire} at byte {position}")
        if size > len(data) - position:
            raise ValueError(f"a field at byte {position} is longer than the message")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number that ends at byte {position} has no end")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a field holds a number instead of bytes")
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TypeError("a field holds bytes instead of a number")
    return value
