"""Llama 3's tokenizer.model gives the ids that tiktoken gives with Llama 3's settings."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given

from bitnet.errors import InvalidModelError
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers import Tokenizer
from tests.tokenizers.test_vocabularies import TEXTS
from tests.tokenizers.torture import ALL, every_character

# As published with Llama 3.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROLS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
]


def write_ranks(path: Path, tokens: list[bytes]) -> Path:
    lines = (b"%s %d\n" % (base64.b64encode(t), rank) for rank, t in enumerate(tokens))
    path.write_bytes(b"".join(lines))
    return path


def library(tokens: list[bytes]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        name="llama3",
        pat_str=PATTERN,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={name: len(tokens) + i for i, name in enumerate(CONTROLS)},
    )


@pytest.fixture(scope="module")
def ranks(llama3_metadata: dict[str, Any], from_metadata: Any) -> list[bytes]:
    """The trained tokens in the order of their merges, after the bytes in tiktoken's order."""
    trained = from_metadata(llama3_metadata)
    tokens = [trained.token_bytes(id) for id in range(400)]
    return sorted(tokens[:256], key=lambda t: not 0x21 <= t[0] <= 0x7E) + tokens[256:]


@pytest.fixture(scope="module")
def llama3(ranks: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("llama3")
    return open_tokenizer(write_ranks(folder / "tokenizer.model", ranks))


def check(ours: Tokenizer, theirs: tiktoken.Encoding, text: str) -> None:
    plain = theirs.encode(text, disallowed_special=())
    assert ours.encode(text) == plain
    assert ours.encode(text, parse_special=True) == theirs.encode(text, allowed_special="all")
    assert ours.decode(plain) == theirs.decode(plain) == text


def test_hard_texts(llama3: Tokenizer, ranks: list[bytes]) -> None:
    theirs = library(ranks)
    for text in ALL:
        check(llama3, theirs, text)


def test_all_of_unicode(llama3: Tokenizer, ranks: list[bytes]) -> None:
    theirs = library(ranks)
    for text in every_character():
        assert llama3.encode(text) == theirs.encode(text, disallowed_special=())


@given(text=TEXTS)
def test_any_text(llama3: Tokenizer, ranks: list[bytes], text: str) -> None:
    check(llama3, library(ranks), text)


def test_random_ids_decode_to_the_same_bytes(llama3: Tokenizer, ranks: list[bytes]) -> None:
    theirs, rng = library(ranks), random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(400) for _ in range(10)]
        assert b"".join(map(llama3.token_bytes, ids)) == theirs.decode_bytes(ids)
        assert llama3.decode(ids) == theirs.decode(ids)


def test_tokens_are_joined_in_the_same_order_whatever_the_ranks(tmp_path: Path) -> None:
    """Few letters, many ways to build a token, ranks in any order: ties and overlaps."""
    for seed in range(40):
        rng = random.Random(seed)
        made = [b"a", b"b", b"c"]
        for _ in range(rng.randrange(2, 14)):
            token = rng.choice(made) + rng.choice(made)
            if token not in made and len(token) < 9:
                made.append(token)
        extra = made[3:]
        if seed % 2:
            rng.shuffle(extra)
        tokens = [*(bytes([byte]) for byte in range(256)), *extra]
        theirs, ours = library(tokens), open_tokenizer(write_ranks(tmp_path / "m", tokens))
        for _ in range(20):
            text = "".join(rng.choices("abc" if seed % 3 else "aab ", k=rng.randrange(30)))
            assert ours.encode(text) == theirs.encode(text)


def test_its_special_tokens(llama3: Tokenizer, ranks: list[bytes]) -> None:
    assert llama3.vocab_size == len(ranks) + 256
    assert (llama3.bos_id, llama3.eos_id, llama3.add_bos) == (400, 401, True)
    assert llama3.eos_ids == {401, 409}  # end of text and end of turn
    assert [llama3.piece(400 + i) for i in range(256)] == CONTROLS
    assert llama3.encode("a", add_bos=True)[0] == 400
    assert llama3.decode([400, *llama3.encode("a"), 409]) == "a"


def test_settings_beside_it_count(ranks: list[bytes], tmp_path: Path) -> None:
    write_ranks(tmp_path / "tokenizer.model", ranks)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [401, 408, 409]}')
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}")
    tokenizer = open_tokenizer(tmp_path)
    assert tokenizer.eos_ids == {401, 408, 409}
    assert not tokenizer.add_bos
    assert tokenizer.apply_chat_template([{"role": "user", "content": ""}]) == "<|end_of_text|>"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"AA== 0\n", "255 of the 256 bytes are no tokens"),
        (b"AA== 0\nAQ== 2\n", "line 2 has rank 2"),
        (b"AA== 0\nAA== 1\n", "appears twice"),
        (b"AA== 0\n\nAQ== 1\n", "line 2 is not a token and its rank"),
        (b"AA== 0\nAQ==1\n", "line 2 is not a token and its rank"),
        (b"AA== 0\nA 1\n", "line 2 is not base64"),
        (b"AA== 0\n\xff 1\n", "line 2 is not a token"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, data: bytes, rule: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(InvalidModelError, match=rule) as caught:
        open_tokenizer(tmp_path)
    assert caught.value.path == str(tmp_path / "tokenizer.model")
