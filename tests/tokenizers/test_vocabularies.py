"""A tokenizer read from GGUF metadata is the one in tokenizer.json or tokenizer.model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, pre_tokenizers

from bitnet.models.tokenizer_files import open_tokenizer

# Text that meets the merges, not only random characters.
WORDS = ["turtle", " Once upon", "didn't", "WE'VE", "'\N{LATIN SMALL LETTER LONG S}", "1234567"]
SPACES = ["  ", "\n", "\r\n\r\n", "\t", "\x00", "▁"]
LETTERS = ["ß", "ö", "🐢", "大きい", "ﬁ", "<|eot_id|>", "<s>", "<0x41>", "user defined é"]
FRAGMENTS = st.sampled_from([*WORDS, *SPACES, *LETTERS])
TEXTS = st.lists(FRAGMENTS | st.text(max_size=6), max_size=12).map("".join)


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_byte_level_from_gguf_equals_tokenizer_json(byte_level: Any, text: str) -> None:
    library, from_json, from_gguf = byte_level.library, byte_level.from_json, byte_level.from_gguf
    special = from_gguf.encode(text, parse_special=True)
    assert special == from_json.encode(text, parse_special=True)
    assert special == library.encode(text, add_special_tokens=False).ids
    ids = from_gguf.encode(text)
    assert ids == from_json.encode(text)
    assert from_gguf.decode(ids) == from_json.decode(ids) == text


@given(text=TEXTS)
@settings(max_examples=200, deadline=None)
def test_sentencepiece_from_gguf_equals_sentencepiece(spm: Any, text: str) -> None:
    ids = spm.from_gguf.encode(text)
    assert ids == spm.from_model.encode(text)
    assert ids == spm.oracle.encode(text)
    if spm.name != "no-bytes":  # without bytes, unknown letters are lost
        spelled = text.replace("▁", " ")  # not told apart by SentencePiece
        assert spm.from_gguf.decode(ids) == spm.from_model.decode(ids) == spelled


@pytest.mark.parametrize("source", ["from_json", "from_gguf"])
def test_byte_level_control_tokens(byte_level: Any, source: str) -> None:
    tokenizer = getattr(byte_level, source)
    bos, eos, eot = (tokenizer.vocab_size - 4 + n for n in range(3))
    assert tokenizer.bos_id == bos
    assert tokenizer.eos_ids == {eos, eot}
    assert tokenizer.add_bos
    ids = tokenizer.encode("a<|eot_id|>", add_bos=True, parse_special=True)
    assert (ids[0], ids[-1]) == (bos, eot)
    assert eot not in tokenizer.encode("a<|eot_id|>")
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, skip_special=False) == "<|begin_of_text|>a<|eot_id|>"
    assert tokenizer.token_bytes(eot) == b""
    assert tokenizer.token_bytes(tokenizer.vocab_size - 1) == "user defined é".encode()
    assert tokenizer.token_bytes(tokenizer.vocab_size + 5) == b""


@pytest.mark.parametrize("source", ["from_model", "from_gguf"])
def test_sentencepiece_control_tokens(spm: Any, source: str) -> None:
    tokenizer = getattr(spm, source)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.add_bos) == (1, {2}, True)
    assert tokenizer.vocab_size == spm.oracle.get_piece_size()
    assert tokenizer.encode("</s>", parse_special=True) == [2]
    assert 2 not in tokenizer.encode("</s>")
    assert tokenizer.decode([1, *tokenizer.encode("the turtle"), 2]) == "the turtle"


def test_whole_words_are_tokens_whatever_the_merges_say(
    llama3_metadata: dict[str, Any], from_metadata: Any
) -> None:
    """Llama 3's ignore_merges: a token that no merges lead to is found if it is a whole word."""
    values = dict(llama3_metadata)
    values["tokenizer.ggml.tokens"] = [*values["tokenizer.ggml.tokens"], "Ġqzxv"]
    values["tokenizer.ggml.token_type"] = np.append(values["tokenizer.ggml.token_type"], 1)
    last = len(values["tokenizer.ggml.tokens"]) - 1
    assert from_metadata(values).encode("a qzxv")[-1] == last
    assert last not in from_metadata({**values, "tokenizer.ggml.pre": "gpt-2"}).encode("a qzxv")


def test_the_default_pre_tokenizer_cuts_as_llama_cpp_does(
    llama3_metadata: dict[str, Any], from_metadata: Any
) -> None:
    tokenizer = from_metadata({**llama3_metadata, "tokenizer.ggml.pre": "default"})
    words = tokenizer._encoder.pre_tokenizer.pre_tokenize_str("it's (12345) x")
    assert [word for word, _ in words] == ["it", "'", "s", "Ġ", "(", "123", "45", ")", "Ġx"]


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet-25"])
def test_2b_files_without_a_pre_tokenizer_are_cut_like_llama_3(
    llama3_metadata: dict[str, Any], from_metadata: Any, architecture: str
) -> None:
    values = {k: v for k, v in llama3_metadata.items() if k != "tokenizer.ggml.pre"}
    text = "It's 1234567 o'clock\n\n  x"
    assert from_metadata(values, architecture).encode(text) == from_metadata(
        llama3_metadata
    ).encode(text)


def test_merges_in_the_file_win_over_scores(spm: Any, from_metadata: Any) -> None:
    tokenizer = from_metadata({**spm.metadata, "tokenizer.ggml.merges": ["i n"]})
    assert len(spm.from_gguf.encode("little")) < 6
    ids = tokenizer.encode("little in")[-8:]
    assert [spm.oracle.id_to_piece(id) for id in ids] == [*"little▁", "in"]


@pytest.mark.parametrize("style", ["replace", "metaspace"])
def test_sentencepiece_models_converted_to_tokenizer_json(
    spm: Any, tmp_path: Path, style: str
) -> None:
    """Both ways in which transformers writes them."""
    encoder = Encoder.from_str(spm.from_gguf._encoder.to_str())
    adds_space = spm.name != "no-space"
    if style == "metaspace":
        scheme = "first" if adds_space else "never"
        encoder.normalizer = None
        encoder.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if adds_space else []
    encoder.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    encoder.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(tmp_path, "bitnet")
    text = "the turtle\nin the  rain"
    ids = tokenizer.encode(text)
    assert ids == spm.oracle.encode(text)
    assert tokenizer.decode(ids) == encoder.decode(ids) == text
    assert b"\n" in [tokenizer.token_bytes(id) for id in ids]
    if spm.name != "no-bytes":
        assert tokenizer.token_bytes(spm.oracle.piece_to_id("<0x0A>")) == b"\n"


def test_an_end_of_turn_key_ends_generation(
    llama3_metadata: dict[str, Any], from_metadata: Any
) -> None:
    tokenizer = from_metadata({**llama3_metadata, "tokenizer.ggml.eot_token_id": 65})
    assert 65 in tokenizer.eos_ids
    assert tokenizer.token_bytes(65) == b""
