"""Small tokenizer files that would take all time or memory are refused before they do."""

from __future__ import annotations

import base64
import itertools
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers import pieces
from bitnet.tokenizers.normalisers import MAX_NORMALISED_CHARS, check_normaliser
from bitnet.tokenizers.pieces import merges_in_order

FIXED_BYTES = 1 << 28

SPIECE = {"type": "Prepend", "prepend": "▁"}
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
WIDEN = {"type": "Replace", "pattern": {"Regex": "."}, "content": "b" * 3000}
ARABIC = {"type": "Replace", "pattern": {"String": "a"}, "content": "\ufdfa"}  # 18 by NFKD
CHARSMAP = base64.b64encode(bytes(4) + b"x" * 5000 + b"\0").decode()


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def write(folder: Path, normaliser: Any = None, **changes: Any) -> Path:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    values = {"version": "1.0", "added_tokens": [], "normalizer": normaliser, **changes}
    values |= {"decoder": {**decoder, "use_regex": True}, "model": model}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(values))
    return path


def declared(content: str, id: int = 2) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
    return {"id": id, "content": content, "normalized": True, **flags}


@pytest.mark.parametrize(
    "normaliser",
    [
        sequence(*[DOUBLE] * 40),
        sequence(*[sequence(DOUBLE, DOUBLE)] * 20),
        sequence(WIDEN, WIDEN),
        sequence(*[ARABIC, {"type": "NFKD"}] * 10),
        sequence(*[{"type": "NFKC"}] * 10),
        sequence(*[{"type": "Precompiled", "precompiled_charsmap": CHARSMAP}] * 2),
        {"type": "Prepend", "prepend": "x" * MAX_NORMALISED_CHARS},
        {"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 10_000},
    ],
    ids=lambda value: json.dumps(value)[:80],
)
def test_normalisers_that_grow_text_without_end_are_refused(
    tmp_path: Path, normaliser: Any
) -> None:
    with pytest.raises(InvalidModelError, match="makes too much of 4096 characters"):
        open_tokenizer(write(tmp_path, normaliser))


def test_normalisers_that_grow_declared_tokens_without_end_are_refused(tmp_path: Path) -> None:
    normaliser = {"type": "Prepend", "prepend": "x" * 5000}
    tokens = [declared(f"q{id}", id) for id in range(2, 1002)]
    with pytest.raises(InvalidModelError, match="makes too much of its tokens"):
        open_tokenizer(write(tmp_path, normaliser, added_tokens=tokens))
    open_tokenizer(write(tmp_path, normaliser, added_tokens=tokens[:10]))


def test_usual_normalisers_are_none_of_these(tmp_path: Path) -> None:
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    for normaliser in (None, {"type": "NFC"}, {"type": "NFKC"}, sequence(SPIECE, space)):
        path = write(tmp_path, normaliser, added_tokens=[declared("q")])
        assert open_tokenizer(path).encode("ab") == [0, 1]


def test_a_text_that_could_become_too_long_is_refused(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(write(tmp_path, sequence(*[DOUBLE] * 10)))
    assert len(tokenizer.encode("a" * 10)) == 10 << 10
    with pytest.raises(InvalidArgumentError, match="can become longer than 33554432"):
        tokenizer.encode("a" * 40_000)


def test_a_normaliser_cannot_hide(tmp_path: Path) -> None:
    steps = json.dumps(sequence(*[DOUBLE] * 40))
    plain = write(tmp_path).read_text()
    for key, rule in (
        ('"normalizer"', "makes too much"),
        ('"normalizer" \n\t:', "makes too much"),
        (r'"\u006eormalizer"', "spells letters as escapes"),
        (r'"normali\u007Aer"', "spells letters as escapes"),
    ):
        hidden = plain.replace('"normalizer": null', f"{key.removesuffix(':')}: {steps}")
        assert steps in hidden
        with pytest.raises(InvalidModelError, match=rule):
            check_normaliser("tokenizer.json", hidden.encode())
    twice = plain.replace('"normalizer": null', f'"normalizer": null, "normalizer": {steps}')
    with pytest.raises(InvalidModelError, match="makes too much"):
        check_normaliser("tokenizer.json", twice.encode())
    quoted = json.dumps({"a": '"normalizer": {', "\\u0061": 1, "\\": 2})
    check_normaliser("tokenizer.json", quoted.encode())


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ('{"type": "Sorting"}', UnsupportedModelError),
        ('{"type": 5}', UnsupportedModelError),
        ('{"type": ["NFC"]}', UnsupportedModelError),
        ('{"no type": 1}', InvalidModelError),
        ('{"type": "Prepend"}', InvalidModelError),
        ('{"type": "Replace", "pattern": 5, "content": ""}', InvalidModelError),
        ('{"type": "Precompiled", "precompiled_charsmap": "%"}', InvalidModelError),
        ("[" * 100_000, InvalidModelError),
        ('{"type":"Sequence","normalizers":[' * 300, InvalidModelError),
        ('{"type": "Sequence", "normalizers": 5}', InvalidModelError),
    ],
    ids=lambda value: str(value)[:50],
)
def test_normalisers_that_are_none_are_refused(value: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"tokenizer\.json: "):
        check_normaliser("tokenizer.json", f'{{"normalizer": {value}}}'.encode())


def test_a_post_processor_repeats_no_text(tmp_path: Path) -> None:
    single = [{"Sequence": {"id": "A", "type_id": 0}}] * 1000
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    assert open_tokenizer(write(tmp_path, post_processor=template)).encode("ab") == [0, 1]


def test_vocabularies_with_too_many_merges_are_refused_in_time_and_memory(tmp_path: Path) -> None:
    every = [bytes([byte]) for byte in range(256)]
    families = [b"a" * n for n in range(2, 1025)], [b"ab" * n for n in range(1, 513)]
    tokens = [*every, *dict.fromkeys(itertools.chain(*families))]
    lines = (b"%s %d\n" % (base64.b64encode(token), id) for id, token in enumerate(tokens))
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"".join(lines))
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(InvalidModelError, match="more than 33554432 letters in the ways"):
            open_tokenizer(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + FIXED_BYTES
    assert time.thread_time() - start < 5


@pytest.mark.parametrize(
    ("name", "limit", "rule"),
    [
        ("MAX_VOCABULARY_CHARS", 9, "more than 9 letters in tokens"),
        ("MAX_MERGES", 2, "more than 2 ways to put tokens together"),
        ("MAX_MERGE_CHARS", 7, "more than 7 letters in the ways"),
    ],
)
def test_each_limit_of_merges_holds(
    monkeypatch: pytest.MonkeyPatch, name: str, limit: int, rule: str
) -> None:
    tokens = ["a", "aa", "aaa", "aaaa"]
    ids = {token: id for id, token in enumerate(tokens)}
    merges = list(merges_in_order("m", tokens, ids))
    assert merges == [
        ("a", "a"),
        ("a", "aa"),
        ("aa", "a"),
        ("a", "aaa"),
        ("aa", "aa"),
        ("aaa", "a"),
    ]
    monkeypatch.setattr(pieces, name, limit)
    with pytest.raises(InvalidModelError, match=rule):
        list(merges_in_order("m", tokens, ids))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\n\0" * (pieces.MAX_PIECES + 1), "more than 1048576 pieces"),
        (b"YQ== 0\n" + b"\n" * pieces.MAX_PIECES, "more than 1048576 lines"),
        (b"\n\x04\n\x02ab\n\x04\n\x02ab" + b"\x12\x02\x18\x02" + b"\x1a\x02 \0", "appears twice"),
        (b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "is longer than the message"),
        (b"\n\x80", "has no end"),
        (b"\n\x03\n\x02\xff\xff", "not a SentencePiece model"),
        (b"\n\x04\n\x02ab\x0b", "wire type 3"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_broken_models_are_refused(tmp_path: Path, data: bytes, rule: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match=rule):
        open_tokenizer(path)


def test_gguf_lists_of_the_wrong_length_are_not_copied(from_metadata: Any) -> None:
    values = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.token_type": np.zeros(10_000_000, np.uint8),
    }
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModelError, match="10000000 token types for 2 tokens"):
            from_metadata(values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("tokenizer_config.json", '{"bos_token": "\\ud800"}', "surrogates not allowed"),
        ("tokenizer_config.json", '{"bos_token": {"content": ["a"]}}', "is no token"),
        ("tokenizer_config.json", '{"bos_token": "a", "bos_token": "a"}', "appears twice"),
        ("tokenizer_config.json", '{"eos_token": "\\u001b[2J"}', r"\\x1b\[2J' is no token"),
        ("config.json", '{"eos_token_id": NaN}', "NaN is not a number"),
        ("config.json", '{"eos_token_id": [[0]]}', r"\[0\] is no token"),
        ("config.json", '{"eos_token_id": 0.0}', "0.0 is no token"),
    ],
)
def test_hostile_files_beside_a_tokenizer(
    tmp_path: Path, file: str, content: str, rule: str
) -> None:
    write(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(InvalidModelError, match=rule) as caught:
        open_tokenizer(tmp_path)
    assert str(caught.value).isprintable()
