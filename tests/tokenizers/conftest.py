"""Two tiny trained tokenizers, byte-level BPE and SentencePiece BPE, in every form they come in."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoder
from tokenizers.processors import TemplateProcessing

from bitnet.formats.gguf_metadata import Metadata
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers import Tokenizer
from bitnet.tokenizers.gguf_vocabulary import tokenizer_from_gguf

CORPUS = [
    "Once upon a time there was a little turtle, and it didn't like the rain.",
    "Es war einmal eine kleine Schildkröte; sie mochte 1234567 Tropfen nicht!",
    "def f(x):\n    return x ** 2  # naïve\n\n\tprint(f(12))\r\n",
    "Ёжик в тумане — 東京 は 大きい 🐢🐢 you'll WE'VE i'm  double  space   triple",
] * 4

CONTROLS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]

# Patterns of tokenizer.json files, as published; not taken from the code under test.
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
PUBLISHED_SPLITS = {"llama-bpe": _HEAD + r"\p{N}{1,3}" + _TAIL, "qwen2": _HEAD + r"\p{N}" + _TAIL}


def train_byte_level(pre: str, folder: Path) -> dict[str, Any]:
    """Write `folder`/tokenizer.json and return the same tokenizer as GGUF metadata."""
    encoder = Encoder(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "gpt-2":
        encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pattern = Regex(PUBLISHED_SPLITS[pre])
        encoder.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(pattern, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    encoder.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    encoder.train_from_iterator(CORPUS, trainer)
    encoder.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROLS])
    encoder.add_tokens([AddedToken("user defined é", normalized=False)])
    bos = encoder.token_to_id(CONTROLS[0])
    encoder.post_processor = TemplateProcessing(
        single=f"{CONTROLS[0]} $A", special_tokens=[(CONTROLS[0], bos)]
    )
    folder.mkdir(exist_ok=True)
    encoder.save(str(folder / "tokenizer.json"))
    config = {"bos_token": {"content": CONTROLS[0]}, "eos_token": CONTROLS[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))

    vocabulary = sorted(encoder.get_vocab().items(), key=lambda item: item[1])
    saved = json.loads(encoder.to_str())["model"]["merges"]
    kinds = {**dict.fromkeys(CONTROLS, 3), "user defined é": 4}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [token for token, _ in vocabulary],
        "tokenizer.ggml.token_type": np.array([kinds.get(t, 1) for t, _ in vocabulary], np.int32),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in saved],
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.eos_token_id": encoder.token_to_id(CONTROLS[1]),
        "tokenizer.ggml.add_bos_token": True,
    }


@dataclass(repr=False)
class ByteLevel:
    """One byte-level tokenizer, as the library and both readers give it."""

    folder: Path
    metadata: dict[str, Any]
    library: Encoder
    from_json: Tokenizer
    from_gguf: Tokenizer


@dataclass(repr=False)
class SentencePiece:
    """One SentencePiece tokenizer, as the library and both readers give it."""

    name: str
    folder: Path
    metadata: dict[str, Any]
    oracle: sentencepiece.SentencePieceProcessor
    from_model: Tokenizer
    from_gguf: Tokenizer


def from_metadata(values: dict[str, Any], architecture: str = "llama") -> Tokenizer:
    return tokenizer_from_gguf("m.gguf", Metadata("m.gguf", values), architecture)


@pytest.fixture(scope="session", params=["gpt-2", "llama-bpe", "qwen2"])
def byte_level(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("byte-level")
    metadata = train_byte_level(request.param, folder)
    return ByteLevel(
        folder,
        metadata,
        Encoder.from_file(str(folder / "tokenizer.json")),
        open_tokenizer(folder, "llama"),
        from_metadata(metadata),
    )


@pytest.fixture(scope="session")
def llama3_metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_byte_level("llama-bpe", tmp_path_factory.mktemp("llama3"))


def train_sentencepiece(adds_space: bool, byte_fallback: bool, **options: Any) -> bytes:
    model = io.BytesIO()
    options = {"bos_id": 1, "eos_id": 2, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=400 if byte_fallback else 160,
        byte_fallback=byte_fallback,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=adds_space,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        character_coverage=0.995,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def sentencepiece_metadata(oracle: sentencepiece.SentencePieceProcessor, adds_space: bool) -> Any:
    count = range(oracle.get_piece_size())
    kinds = [
        2 if oracle.is_unknown(i) else 3 if oracle.is_control(i) else 6 if oracle.is_byte(i) else 1
        for i in count
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [oracle.id_to_piece(i) for i in count],
        "tokenizer.ggml.scores": np.array([oracle.get_score(i) for i in count], np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": adds_space,
    }


@pytest.fixture(scope="session", params=["space", "no-space", "no-bytes"])
def spm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    adds_space = request.param != "no-space"
    data = train_sentencepiece(adds_space, byte_fallback=request.param != "no-bytes")
    oracle = sentencepiece.SentencePieceProcessor()
    oracle.load_from_serialized_proto(data)
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "tokenizer.model").write_bytes(data)
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    metadata = sentencepiece_metadata(oracle, adds_space)
    return SentencePiece(
        request.param,
        folder,
        metadata,
        oracle,
        open_tokenizer(folder, "bitnet"),
        from_metadata(metadata),
    )


@dataclass(repr=False)
class Gemma:
    """Gemma's kind of SentencePiece: no space in front, pieces for runs of blanks and for tags."""

    oracle: sentencepiece.SentencePieceProcessor
    metadata_untyped: dict[str, Any]
    from_model: Tokenizer
    from_gguf: Tokenizer
    from_untyped_gguf: Tokenizer


GEMMA_SYMBOLS = ["<start_of_turn>", "<end_of_turn>", "\n\n", "\n\n\n", "\t\t", "<b>"]
GEMMA_SYMBOLS += ["▁" * length for length in range(2, 8)]


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Gemma:
    data = train_sentencepiece(
        adds_space=False,
        byte_fallback=True,
        user_defined_symbols=GEMMA_SYMBOLS,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
    )
    oracle = sentencepiece.SentencePieceProcessor()
    oracle.load_from_serialized_proto(data)
    folder = tmp_path_factory.mktemp("gemma")
    (folder / "tokenizer.model").write_bytes(data)
    from_model = open_tokenizer(folder)

    # As llama.cpp's converter writes it: blanks of user-defined pieces are spelled as they are.
    values = sentencepiece_metadata(oracle, adds_space=False)
    values |= {"tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1}
    first = oracle.piece_to_id(GEMMA_SYMBOLS[0])
    symbols = slice(first, first + len(GEMMA_SYMBOLS))
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    tokens[symbols] = [token.replace("▁", " ") for token in tokens[symbols]]
    kinds[symbols] = 4

    # As that of BitNet's embedding models writes it: byte-level by name, bytes of no kind.
    saved = json.loads(from_model._encoder.to_str())["model"]["merges"]
    untyped = {key: value for key, value in values.items() if "score" not in key}
    del untyped["tokenizer.ggml.add_space_prefix"]
    untyped |= {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.merges": [" ".join(merge) for merge in saved],
        "tokenizer.ggml.token_type": np.where(kinds == 6, 1, kinds).astype(np.int32),
    }
    return Gemma(
        oracle,
        untyped,
        from_model,
        from_metadata(values, "gemma3"),
        from_metadata(untyped, "gemma3"),
    )


@pytest.fixture(name="from_metadata", scope="session")
def from_metadata_fixture() -> Any:
    return from_metadata
