"""Vocabularies that are broken or of an unknown kind are refused by name."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import InvalidModelError, ModelFileError, UnsupportedModelError
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers.sentencepiece_model import parse_sentencepiece_model

G = "tokenizer.ggml."


@pytest.mark.parametrize(
    ("changes", "error", "rule"),
    [
        ({f"{G}model": None}, UnsupportedModelError, "holds no tokenizer"),
        ({f"{G}model": "rwkv"}, UnsupportedModelError, "tokenizer model 'rwkv'"),
        ({f"{G}model": 3}, InvalidModelError, "must be a string"),
        ({f"{G}pre": "tekken"}, UnsupportedModelError, "pre-tokenizer 'tekken' is not supported"),
        ({f"{G}pre": None}, UnsupportedModelError, "holds no 'tokenizer.ggml.pre'"),
        ({f"{G}tokens": None}, InvalidModelError, "'tokenizer.ggml.tokens' is missing"),
        (
            {f"{G}tokens": [], f"{G}token_type": None},
            InvalidModelError,
            "vocabulary of 0 tokens",
        ),
        ({f"{G}tokens": ["a", "b", "a"]}, InvalidModelError, "token types for 3 tokens"),
        (
            {f"{G}tokens": ["a", "b", "a"], f"{G}token_type": None},
            InvalidModelError,
            "'a' appears twice",
        ),
        ({f"{G}token_type": np.full(404, 7, np.int32)}, InvalidModelError, "must be 0 to 6, not 7"),
        (
            {f"{G}token_type": np.full(404, -1, np.int32)},
            InvalidModelError,
            "must be 0 to 6, not -1",
        ),
        ({f"{G}scores": np.zeros(3, np.float32)}, InvalidModelError, "3 scores for 404 tokens"),
        ({f"{G}merges": None}, InvalidModelError, "merges' is missing"),
        ({f"{G}merges": ["ab"]}, InvalidModelError, "merge 0 is 'ab', not two tokens"),
        ({f"{G}merges": [""]}, InvalidModelError, "merge 0 is ''"),
        ({f"{G}merges": ["a zzzz"]}, InvalidModelError, "merges do not fit the vocabulary"),
        ({f"{G}bos_token_id": 404}, InvalidModelError, "bos_token_id' is 404, outside 0 to 403"),
        ({f"{G}eos_token_id": -1}, InvalidModelError, "eos_token_id"),
        ({f"{G}eot_token_id": "x"}, InvalidModelError, "eot_token_id"),
        ({f"{G}bos_token_id": None}, InvalidModelError, "without a bos_token_id"),
        ({f"{G}add_bos_token": 1}, InvalidModelError, "must be a boolean"),
        ({"tokenizer.chat_template": 1}, InvalidModelError, "must be a string"),
    ],
)
def test_gguf_vocabularies(
    llama3_metadata: dict[str, Any],
    from_metadata: Any,
    changes: dict[str, Any],
    error: type,
    rule: str,
) -> None:
    assert len(llama3_metadata[f"{G}tokens"]) == 404
    values = {k: v for k, v in {**llama3_metadata, **changes}.items() if v is not None}
    with pytest.raises(error, match=rule) as caught:
        from_metadata(values)
    assert caught.value.path == "m.gguf"


@pytest.mark.parametrize(
    ("changes", "error", "rule"),
    [
        ({f"{G}scores": None}, InvalidModelError, "neither merges nor scores"),
        ({f"{G}scores": np.full(5, -1000, np.float32)}, UnsupportedModelError, "the same score"),
        ({f"{G}scores": np.full(5, np.nan, np.float32)}, InvalidModelError, "is not a number"),
        (
            {f"{G}tokens": ["<unk>", "a", "b", "ab", "c" * 2000]},
            InvalidModelError,
            "more than 1024",
        ),
        (
            {f"{G}precompiled_charsmap": np.zeros(4, np.uint8)},
            UnsupportedModelError,
            "normalisation",
        ),
        ({f"{G}remove_extra_whitespaces": True}, UnsupportedModelError, "normalisation"),
    ],
)
def test_gguf_sentencepiece_vocabularies(
    from_metadata: Any, changes: dict[str, Any], error: type, rule: str
) -> None:
    values = {
        f"{G}model": "llama",
        f"{G}tokens": ["<unk>", "a", "b", "ab", "▁"],
        f"{G}token_type": np.array([2, 1, 1, 1, 1], np.int32),
        f"{G}scores": np.array([0, -2, -3, -1, -4], np.float32),
        f"{G}remove_extra_whitespaces": False,
    }
    assert from_metadata(values).encode("ab", parse_special=False) == [4, 3]
    values = {k: v for k, v in {**values, **changes}.items() if v is not None}
    with pytest.raises(error, match=rule):
        from_metadata(values)


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("tokenizer.json", b"", "is not a tokenizer"),
        ("tokenizer.json", b"[1]", "is not a tokenizer"),
        ("tokenizer.json", b"\xff", "is not a tokenizer"),
        ("tokenizer_config.json", b"{", "is not valid JSON"),
        ("tokenizer_config.json", b"[" * 100000, "is not valid JSON"),
        ("tokenizer_config.json", b"[]", "is not a JSON object"),
        ("tokenizer_config.json", b"\xff{}", "is not valid JSON"),
        ("tokenizer_config.json", b'{"bos_token": "nope"}', "bos_token 'nope' is no token"),
        ("tokenizer_config.json", b'{"eos_token": 5}', "eos_token 5 is no token"),
        ("tokenizer_config.json", b'{"bos_token": "a", "add_bos_token": 1}', "add_bos_token must"),
        ("tokenizer_config.json", b'{"chat_template": 5}', "chat_template must be"),
        ("config.json", b'{"eos_token_id": 9999}', "eos_token_id 9999 is no token"),
        ("config.json", b'{"eos_token_id": [1, -1]}', "eos_token_id -1 is no token"),
        ("generation_config.json", b'{"bos_token_id": true}', "bos_token_id True is no token"),
        ("generation_config.json", b'{"eos_token_id": 9999999999999999999}', "is no token"),
        ("chat_template.jinja", b"\xff", "is not UTF-8"),
    ],
)
def test_hugging_face_files(
    byte_level: Any, tmp_path: Path, file: str, content: bytes, rule: str
) -> None:
    shutil.copytree(byte_level.folder, tmp_path / "m")
    (tmp_path / "m" / file).write_bytes(content)
    with pytest.raises(InvalidModelError, match=rule) as caught:
        open_tokenizer(tmp_path / "m", "llama")
    assert caught.value.path == str(tmp_path / "m" / file)


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="holds no tokenizer"):
        open_tokenizer(tmp_path, "llama")


def test_a_decoder_of_an_unknown_kind(byte_level: Any, tmp_path: Path) -> None:
    tokenizer = json.loads((byte_level.folder / "tokenizer.json").read_text())
    for decoder, name in (
        (None, "none"),
        ({"type": "WordPiece", "prefix": "#", "cleanup": False}, "WordPiece"),
    ):
        tokenizer["decoder"] = decoder
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
        with pytest.raises(UnsupportedModelError, match=f"type {name} are not supported"):
            open_tokenizer(tmp_path, "llama")


def test_a_pattern_that_takes_too_long(byte_level: Any, tmp_path: Path) -> None:
    tokenizer = json.loads((byte_level.folder / "tokenizer.json").read_text())
    pattern = {"Regex": "(?:a|aa)*[bx]c"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = split
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    opened = open_tokenizer(tmp_path, "llama")
    assert opened.encode("ab") == [byte_level.library.token_to_id(letter) for letter in "ab"]
    with pytest.raises(InvalidModelError, match=r"the tokenizer fails: .*limit") as caught:
        opened.encode("a" * 60 + "b c")
    assert caught.value.path == str(tmp_path / "tokenizer.json")


def test_ids_come_from_any_of_the_files(byte_level: Any, tmp_path: Path) -> None:
    shutil.copy(byte_level.folder / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text('{"bos_token_id": 400, "eos_token_id": 5}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [6, 7]}')
    tokenizer = open_tokenizer(tmp_path, "llama")
    named = {401, 402}  # <|end_of_text|> and <|eot_id|>
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (400, {5, 6, 7, *named})
    assert tokenizer.add_bos  # from the post-processor


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_of_tokenizer_model_do_anything_but_parse_or_be_refused(
    spm: Any, data: st.DataObject
) -> None:
    model = bytearray((spm.folder / "tokenizer.model").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(model)) | st.just(len(model)))
    with suppress(ModelFileError):
        parse_sentencepiece_model("m", bytes(model[:cut]))


@pytest.mark.parametrize(
    ("data", "error", "rule"),
    [
        (b"", UnsupportedModelError, "type BPE"),
        (b"\x0a\xff", InvalidModelError, "has no end"),
        (b"\x0a\x05abc", InvalidModelError, "longer than the message"),
        (b"\x0b", InvalidModelError, "wire type 3"),
        (b"\x08\x01", InvalidModelError, "a number instead of bytes"),
        (b"\x1a\x02\x20\x01", UnsupportedModelError, "normalisation"),
        (b"\x12\x02\x18\x02", InvalidModelError, "vocabulary of 0 tokens"),
    ],
)
def test_sentencepiece_models(data: bytes, error: type, rule: str) -> None:
    with pytest.raises(error, match=rule):
        parse_sentencepiece_model("tokenizer.model", data)
