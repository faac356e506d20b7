"""How long a text can become by the normaliser of a tokenizer.json, which is used only if bounded.

A few steps that double the text would take all memory, and the library does not come back from
that. It normalises tokens already while it loads the file, so what it will do is looked up before.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from bitnet.errors import InvalidModelError, UnsupportedModelError

MAX_NORMALISED_CHARS = 1 << 25
# So many characters, and each declared token, must be possible to normalise.
LEAST_TEXT_CHARS = 1 << 12
MAX_TOKENS_CHARS = 1 << 22
_HARMLESS = 8

# Characters that these make of one.
_FACTORS = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3, "BertNormalizer": 36}
_FACTORS |= {"Strip": 1, "StripAccents": 1, "Nmt": 1, "ByteLevel": 4}
# Escapes of ASCII letters: where there are none, a key is found by its spelling. One after an even
# number of backslashes is none.
_ESCAPED_LETTER = re.compile(r"\\+(?=u00(?:4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a]))", re.IGNORECASE)

Step = dict[str, Any]


def check_normaliser(path: str | os.PathLike[str], data: bytes) -> None:
    """Look into the bytes of a tokenizer.json for normalisers, before it is loaded.

    Raises InvalidModelError for one that makes too much of a text or of a declared token,
    UnsupportedModelError for one of a kind not known here.
    """
    try:
        text = data.decode()
        if any(len(found[0]) % 2 for found in _ESCAPED_LETTER.finditer(text)):
            raise InvalidModelError(path, "spells letters as escapes")
        for normaliser in _values(text, "normalizer"):
            steps = steps_of(path, normaliser)
            if written_chars(steps, LEAST_TEXT_CHARS) > MAX_NORMALISED_CHARS:
                raise InvalidModelError(
                    path, f"its normaliser makes too much of {LEAST_TEXT_CHARS} characters"
                )
            if written_chars(steps, 1) > _HARMLESS and _of_tokens(steps, text) > MAX_TOKENS_CHARS:
                raise InvalidModelError(path, "its normaliser makes too much of its tokens")
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InvalidModelError(path, f"is not a tokenizer: {error}") from error


def steps_of(path: str | os.PathLike[str], normaliser: Any) -> list[Step]:
    """The steps of a normaliser, as the library writes it in JSON; none of None."""
    if not isinstance(normaliser, dict):
        return []
    if normaliser["type"] == "Sequence":
        parts = (steps_of(path, part) for part in normaliser["normalizers"])
        return [step for part in parts for step in part]
    if normaliser["type"] not in (*_FACTORS, "Prepend", "Replace", "Precompiled"):
        raise UnsupportedModelError(path, f"normalisers of type {normaliser['type']} are not known")
    return [normaliser]


def written_chars(steps: list[Step], chars: int) -> int:
    """The most characters that these steps make of a text of `chars`."""
    for step in steps:
        kind = step["type"]
        if kind == "Prepend":
            chars += len(step["prepend"])
        elif kind == "Replace":
            chars = _replaced_chars(step["pattern"], len(step["content"]), chars)
        elif kind == "Precompiled":
            chars *= _longest_mapping(step["precompiled_charsmap"])
        else:
            chars *= _FACTORS[kind]
    return chars


def _replaced_chars(pattern: dict[str, str], new: int, chars: int) -> int:
    old = len(pattern["String"]) if "String" in pattern else 0
    if old:  # else a regular expression, which may match between any two characters
        return max(chars, chars // old * new + chars % old)
    return chars + (chars + 1) * new


def _longest_mapping(charsmap: str) -> int:
    """Of a SentencePiece character map: the size of a trie, the trie, and texts ended by zeros."""
    data = base64.b64decode(charsmap, validate=True)
    texts = data[4 + int.from_bytes(data[:4], "little") :]
    return max(1, *map(len, texts.split(b"\0")))


def _of_tokens(steps: list[Step], text: str) -> int:
    """The most characters that these steps make of the tokens that the file declares."""
    tokens = [token for tokens in _values(text, "added_tokens") for token in tokens]
    return sum(written_chars(steps, len(token["content"])) for token in tokens)


def _values(text: str, key: str) -> Iterator[Any]:
    """The values that stand after a key, at whatever place in JSON text; numbers are left out."""
    decoder = json.JSONDecoder()
    for match in re.finditer(rf'"{key}"\s*:\s*(?=[\[{{])', text):
        yield decoder.raw_decode(text, match.end())[0]
