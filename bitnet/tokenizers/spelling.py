"""How vocabularies spell bytes: byte-level BPE's letters, and SentencePiece's spaces and bytes."""

from __future__ import annotations

from typing import Literal

Spelling = Literal["byte-level", "sentencepiece"]

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece spells a space


def _byte_letters() -> dict[str, int]:
    """The printable letter that byte-level BPE writes for each byte, turned round."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_LETTERS = _byte_letters()
_LETTERS = {byte: letter for letter, byte in _BYTE_LETTERS.items()}


def spell_bytes(data: bytes) -> str:
    """Return "Ġa" for b" a": one letter a byte."""
    return "".join(_LETTERS[byte] for byte in data)


def bytes_of_letters(token: str) -> bytes | None:
    """Return b" a" for "Ġa", and None for what holds other characters than these letters."""
    if not all(letter in _BYTE_LETTERS for letter in token):
        return None
    return bytes(_BYTE_LETTERS[letter] for letter in token)


def byte_of_token(token: str) -> int | None:
    """Return 10 for ``<0x0A>``, the way SentencePiece spells a byte, and None for other tokens."""
    if len(token) != 6 or not token.startswith("<0x") or token[5] != ">":
        return None
    digits = token[3:5]
    return int(digits, 16) if all(digit in "0123456789ABCDEFabcdef" for digit in digits) else None
