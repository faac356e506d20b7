"""Every reader gives the ids and texts of the library that made the vocabulary, on hard texts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Encoder
from tokenizers.models import BPE

from bitnet.tokenizers.pre_tokenizers import PRE_TOKENIZERS
from tests.tokenizers.torture import ALL, every_character


def streamed(tokenizer: Any, ids: list[int]) -> str:
    """The decoder's pieces put together; none of them is, or ends in, half a character."""
    decoder = tokenizer.stream_decoder()
    return "".join([*map(decoder.push, ids), decoder.flush()])


def check_decoding(tokenizer: Any, ids: list[int], text: str) -> None:
    assert tokenizer.decode(ids) == streamed(tokenizer, ids) == text


def test_byte_level(byte_level: Any) -> None:
    library = byte_level.library
    for text in ALL:
        ids = library.encode(text, add_special_tokens=False).ids
        whole = library.encode(text).ids
        library.encode_special_tokens = True
        plain = library.encode(text, add_special_tokens=False).ids
        library.encode_special_tokens = False
        for tokenizer in (byte_level.from_json, byte_level.from_gguf):
            assert tokenizer.encode(text, parse_special=True) == ids
            assert tokenizer.encode(text, add_bos=True, parse_special=True) == whole
            assert tokenizer.encode(text) == plain
            check_decoding(tokenizer, plain, text)
            check_decoding(tokenizer, whole, library.decode(whole))


def test_sentencepiece(spm: Any) -> None:
    for text in ALL:
        ids = spm.oracle.encode(text)
        for tokenizer in (spm.from_model, spm.from_gguf):
            assert tokenizer.encode(text) == ids
            if spm.name != "no-bytes":  # without them, unknown letters are lost
                check_decoding(tokenizer, ids, spm.oracle.decode(ids))


@pytest.mark.parametrize("source", ["from_model", "from_gguf", "from_untyped_gguf"])
def test_gemma(gemma: Any, source: str) -> None:
    tokenizer = getattr(gemma, source)
    for text in ALL:
        ids = gemma.oracle.encode(text)
        assert tokenizer.encode(text) == ids
        check_decoding(tokenizer, ids, gemma.oracle.decode(ids))


def test_random_ids_decode_as_in_sentencepiece(spm: Any, gemma: Any) -> None:
    rng = random.Random(1)
    for model in (spm, gemma):
        for _ in range(300):
            ids = [rng.randrange(3, model.oracle.get_piece_size()) for _ in range(12)]
            unknown = model.oracle.unk_id()
            ids = [id for id in ids if id != unknown and not model.oracle.is_control(id)]
            check_decoding(model.from_gguf, ids, model.oracle.decode(ids))


def test_random_ids_decode_as_in_tokenizers(byte_level: Any) -> None:
    rng = random.Random(1)
    size = byte_level.from_gguf.vocab_size - 1  # the last one is user-defined
    for _ in range(300):
        ids = [rng.randrange(size) for _ in range(12)]
        check_decoding(byte_level.from_gguf, ids, byte_level.library.decode(ids))


def test_all_of_unicode(byte_level: Any, gemma: Any) -> None:
    library, ours = byte_level.library, byte_level.from_gguf
    for text in every_character():
        ids = library.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, parse_special=True) == ids
        assert gemma.from_gguf.encode(text) == gemma.oracle.encode(text)


CJK = "[一-龥ࠀ-一가-퟿]+"  # as published, with its overlap
DIGITS = pre_tokenizers.Digits
CONTIGUOUS = pre_tokenizers.Punctuation("contiguous")


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)
LETTERS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
# As in the tokenizer.json of models that have them.
PUBLISHED = {
    "smollm": [DIGITS(individual_digits=True), WORDS],
    "falcon": [CONTIGUOUS, WORDS, split("[0-9][0-9][0-9]")],
    "deepseek-coder": [
        *(split(pattern) for pattern in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK)),
        DIGITS(individual_digits=True),
        LETTERS,
    ],
    "deepseek-v3": [
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),  # noqa: RUF001
        split(
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
            r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        LETTERS,
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_pre_tokenizers_cut_as_published(
    llama3_metadata: dict[str, Any], from_metadata: Any, name: str
) -> None:
    tokenizer = from_metadata({**llama3_metadata, "tokenizer.ggml.pre": name})
    published = pre_tokenizers.Sequence(PUBLISHED[name])
    for text in ALL:
        ours = tokenizer._encoder.pre_tokenizer.pre_tokenize_str(text)
        assert [word for word, _ in ours] == [w for w, _ in published.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_pre_tokenizer_keeps_all_text(
    llama3_metadata: dict[str, Any], from_metadata: Any, name: str
) -> None:
    tokenizer = from_metadata({**llama3_metadata, "tokenizer.ggml.pre": name})
    for text in ALL:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_gemma_is_what_its_tokenizer_json_says(gemma: Any) -> None:
    """The file of that name is built otherwise: see its normaliser and pre-tokenizer."""
    merges = gemma.metadata_untyped["tokenizer.ggml.merges"]
    tokens = gemma.metadata_untyped["tokenizer.ggml.tokens"]
    encoder = Encoder(
        BPE(
            vocab={token: id for id, token in enumerate(tokens)},
            merges=[tuple(merge.split(" ")) for merge in merges],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    encoder.normalizer = normalizers.Replace(" ", "▁")
    encoder.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    encoder.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    for text in ("Once upon a time", "the turtle\nin the rain 🐢", " 123 é"):
        ids = gemma.from_untyped_gguf.encode(text)
        assert encoder.encode(text).ids == ids
        assert encoder.decode(ids) == gemma.from_untyped_gguf.decode(ids) == text
