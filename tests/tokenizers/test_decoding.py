"""Decoding token by token gives the text of decoding at once, in whole characters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError


def streamed(tokenizer: Any, ids: list[int], context: tuple[int, ...] = ()) -> list[str]:
    decoder = tokenizer.stream_decoder(context)
    return [*map(decoder.push, ids), decoder.flush()]


def bytes_as_tokens(tokenizer: Any, data: bytes) -> list[int]:
    """One token per byte, which every tokenizer with bytes has."""
    by_byte = {tokenizer.token_bytes(id): id for id in reversed(range(tokenizer.vocab_size))}
    return [by_byte[bytes([byte])] for byte in data]


@given(text=st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_only_whole_characters_come_out(byte_level: Any, text: str) -> None:
    tokenizer = byte_level.from_gguf
    pieces = streamed(tokenizer, bytes_as_tokens(tokenizer, text.encode()))
    assert "".join(pieces) == text
    assert [piece for piece in pieces if piece] == list(text)


@given(data=st.binary(max_size=24) | st.text(max_size=8).map(lambda t: t.encode()[:-1]))
@settings(max_examples=150, deadline=None)
def test_bytes_that_are_not_utf8_become_replacement_characters(
    byte_level: Any, data: bytes
) -> None:
    tokenizer = byte_level.from_gguf
    ids = bytes_as_tokens(tokenizer, data)
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)
    assert tokenizer.decode(ids) == data.decode("utf-8", errors="replace")


@given(ids=st.lists(st.integers(0, 420), max_size=20))
@settings(max_examples=150, deadline=None)
def test_streaming_equals_decoding(byte_level: Any, spm: Any, ids: list[int]) -> None:
    for tokenizer in (byte_level.from_gguf, byte_level.from_json, spm.from_gguf, spm.from_model):
        assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_replacement_comes_as_soon_as_the_character_cannot_be_completed(byte_level: Any) -> None:
    tokenizer = byte_level.from_gguf
    ids = bytes_as_tokens(tokenizer, b"\xf0\x9fx\xc3")
    assert streamed(tokenizer, ids) == [
        "",
        "",
        "\N{REPLACEMENT CHARACTER}x",
        "",
        "\N{REPLACEMENT CHARACTER}",
    ]


def test_the_space_that_sentencepiece_adds_is_taken_off_at_the_start_only(spm: Any) -> None:
    tokenizer = spm.from_gguf
    ids = tokenizer.encode("turtle")
    first = "turtle"
    assert tokenizer.decode(ids) == first
    assert "".join(streamed(tokenizer, ids)) == first
    assert "".join(streamed(tokenizer, ids, context=(1,))) == first
    within = "".join(streamed(tokenizer, ids, context=(1, *tokenizer.encode("the little"))))
    assert within == (first if spm.name == "no-space" else " turtle")


def test_the_decoder_starts_anew_after_flush(spm: Any) -> None:
    decoder = spm.from_gguf.stream_decoder()
    for _ in range(2):
        text = "".join(map(decoder.push, spm.from_gguf.encode("turtle"))) + decoder.flush()
        assert text == "turtle"


def test_arguments_that_mean_nothing_are_refused(byte_level: Any, from_metadata: Any) -> None:
    tokenizer = byte_level.from_gguf
    with pytest.raises(InvalidArgumentError, match="not negative"):
        tokenizer.decode([-1])
    with pytest.raises(InvalidArgumentError, match="not valid Unicode"):
        tokenizer.encode("\ud800")
    with pytest.raises(InvalidArgumentError, match="a text of 8388609 characters exceeds 8388608"):
        tokenizer.encode("a" * ((1 << 23) + 1))
    for id in (-1, tokenizer.vocab_size):
        with pytest.raises(InvalidArgumentError, match=f"there is no token {id}; ids are 0 to"):
            tokenizer.piece(id)
    values = {k: v for k, v in byte_level.metadata.items() if "bos" not in k}
    with pytest.raises(InvalidArgumentError, match="no begin-of-text token"):
        from_metadata(values).encode("a", add_bos=True)
