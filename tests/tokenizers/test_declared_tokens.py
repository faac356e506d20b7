"""What a tokenizer.json says of declared tokens and of Unicode is kept in GGUF files, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Encoder

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers import Tokenizer
from tests.tokenizers.conftest import GEMMA_SYMBOLS
from tests.tokenizers.test_conversion import (
    as_tokenizer_json,
    assert_same,
    rewritten,
    saved,
    vocabulary,
)
from tests.tokenizers.torture import ALL

FLAG = "bitnet.tokenizer."
NFC = "tokenizer.ggml.normalizer.nfc"
TEXTS = [
    "user defined e\u0301 user defined é\u0301 <|eot_id|>\u0338 \u212b e\u0301\u0323",
    " \t<|eot_id|>  \n user defined é \n a<|end_of_text|>b <|end_of_text|> c",
    "a▁▁▁▁b ▁▁ ▁ c  ▁\n\n\n\n\n\n\n\t\t\t\t\t<b>\u0338" + " " * 17 + "x",
    "фыф фыфыф ыфыф",
    "x<start_of_turn> <start_of_turn>y <b> b<b>b",
]
Change = Callable[[dict[str, Any]], None]


def changed(source: Path, folder: Path, *changes: Change) -> Path:
    """A folder with the tokenizer.json of `source`, changed."""
    values = json.loads((source / "tokenizer.json").read_text())
    for change in changes:
        change(values)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    return folder


def assert_kept(folder: Path, path: Path) -> dict[str, Any]:
    """By way of a GGUF file, and of a folder made from it, all is as in `folder`."""
    original, written = open_tokenizer(folder), rewritten(folder, path)
    path.with_suffix("").mkdir()
    again = saved(written, path.with_suffix(""))
    library = Encoder.from_file(str(folder / "tokenizer.json"))
    for tokenizer in (written, again):
        assert_same(tokenizer, original)
        for text in TEXTS:
            ids = library.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text, parse_special=True) == ids
            assert tokenizer.encode(text) == original.encode(text)
    return vocabulary(folder)


def differs(one: Tokenizer, other: Tokenizer) -> bool:
    texts = [*TEXTS, *ALL]
    return any(
        one.encode(t, parse_special=True) != other.encode(t, parse_special=True) for t in texts
    )


def flag(name: str, *contents: str, value: bool = True) -> Change:
    """Set a flag of these tokens, or of all."""

    def change(values: dict[str, Any]) -> None:
        for token in values["added_tokens"]:
            if not contents or token["content"] in contents:
                token[name] = value

    return change


def set_nfc(values: dict[str, Any]) -> None:
    values["normalizer"] = {"type": "NFC"}


@pytest.mark.parametrize("normalized", [(), ("user defined é",), ("<|eot_id|>",)])
def test_nfc_is_kept(byte_level: Any, tmp_path: Path, normalized: tuple[str, ...]) -> None:
    flags = [flag("normalized", *normalized)] if normalized else []
    folder = changed(byte_level.folder, tmp_path / "a", set_nfc, *flags)
    values = assert_kept(folder, tmp_path / "m.gguf")
    assert values[NFC] is True
    assert (f"{FLAG}normalized" in values) == bool(normalized)
    assert NFC not in vocabulary(byte_level.folder)
    assert differs(open_tokenizer(folder), byte_level.from_json)


@pytest.mark.parametrize("name", ["single_word", "lstrip", "rstrip"])
def test_flags_of_byte_level_are_kept(byte_level: Any, tmp_path: Path, name: str) -> None:
    for n, tokens in enumerate((("user defined é",), ("<|eot_id|>", "<|end_of_text|>"))):
        folder = changed(byte_level.folder, tmp_path / f"a{n}", flag(name, *tokens))
        values = assert_kept(folder, tmp_path / f"m{n}.gguf")
        assert len(values[f"{FLAG}{name}"]) == len(tokens)
        assert differs(open_tokenizer(folder), byte_level.from_json)


@pytest.mark.parametrize("name", ["single_word", "lstrip", "rstrip", "normalized"])
def test_flags_of_sentencepiece_are_kept(spm: Any, tmp_path: Path, name: str) -> None:
    source = as_tokenizer_json(spm, tmp_path / "source")
    values = assert_kept(changed(source, tmp_path / "a", flag(name, "<s>")), tmp_path / "m.gguf")
    assert values[f"{FLAG}{name}"].tolist() == [1]
    assert open_tokenizer(tmp_path / "a").piece(1) == "<s>"  # not as a normaliser makes it


def publish_gemma(gemma: Any, folder: Path) -> Path:
    """Gemma as transformers converts it: see GemmaConverter in its convert_slow_tokenizer.py."""
    oracle, values = gemma.oracle, json.loads(gemma.from_model.to_json())
    vocab = {oracle.id_to_piece(id): id for id in range(oracle.get_piece_size())}
    merges = [
        (oracle.get_score(id), len(left), len(right), left, right)
        for token, id in vocab.items()
        for left, right in ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        if left in vocab and right in vocab
    ]
    merges.sort(key=lambda merge: merge[:3], reverse=True)
    values["model"]["merges"] = [merge[3:] for merge in merges]
    values["model"]["vocab"] = vocab
    for token in values["added_tokens"]:
        token["normalized"] = False
    values["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    values["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_gemma_as_published(gemma: Any, tmp_path: Path) -> None:
    folder = publish_gemma(gemma, tmp_path / "a")
    values = assert_kept(folder, tmp_path / "m.gguf")
    # As in files for other engines, which find runs of spaces in the text as it is.
    assert values["tokenizer.ggml.model"] == "llama"
    assert "   " in values["tokenizer.ggml.tokens"]
    assert values[f"{FLAG}normalized"].tolist() == []
    for text in ("Once upon   a time", " " * 40 + "x\n\n\n\n\n\ty", "def f(x):\n    return  x"):
        assert open_tokenizer(folder).encode(text) == gemma.oracle.encode(text)
    assert differs(open_tokenizer(folder), gemma.from_gguf)  # by spaces spelled in the text


@pytest.mark.parametrize("name", ["single_word", "lstrip", "rstrip"])
def test_flags_of_gemma_are_kept(gemma: Any, tmp_path: Path, name: str) -> None:
    source = publish_gemma(gemma, tmp_path / "source")
    folder = changed(source, tmp_path / "a", flag(name, "<b>", "▁▁", "\n\n"))
    assert_kept(folder, tmp_path / "m.gguf")
    assert differs(open_tokenizer(folder), open_tokenizer(source))


def test_some_user_defined_tokens_are_normalised(gemma: Any, tmp_path: Path) -> None:
    source = publish_gemma(gemma, tmp_path / "source")
    for n, tokens in enumerate((GEMMA_SYMBOLS, ["▁▁▁"], ["<b>"])):
        folder = changed(source, tmp_path / f"a{n}", flag("normalized", *tokens))
        assert_kept(folder, tmp_path / f"m{n}.gguf")


def add_rivals(values: dict[str, Any]) -> None:
    """Two merges that make the same token, in another order than that of their ids."""
    model = values["model"]
    merges = [("ф", "ы"), ("ы", "ф"), ("фы", "ф"), ("ф", "ыф")]
    for token in ("ф", "ы", *dict.fromkeys(map("".join, merges))):
        model["vocab"][token] = len(model["vocab"])
    model["merges"] += merges


@pytest.mark.parametrize("normalized", [False, True])
def test_merges_that_scores_do_not_tell_are_kept(
    gemma: Any, tmp_path: Path, normalized: bool
) -> None:
    source = publish_gemma(gemma, tmp_path / "source")
    change = flag("normalized", *GEMMA_SYMBOLS, value=normalized)
    values = assert_kept(changed(source, tmp_path / "a", change, add_rivals), tmp_path / "m.gguf")
    assert values["tokenizer.ggml.merges"][-2:] == ["фы ф", "ф ыф"]
    told = vocabulary(changed(source, tmp_path / "b", change))
    assert ("tokenizer.ggml.merges" in told) == (not normalized)


def test_user_defined_tokens_without_a_normaliser(gemma: Any, tmp_path: Path) -> None:
    def use_metaspace(values: dict[str, Any]) -> None:
        values["normalizer"] = None
        values["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "split": False}
        values["pre_tokenizer"]["prepend_scheme"] = "never"

    source = publish_gemma(gemma, tmp_path / "source")
    for n, changes in enumerate(([], [flag("normalized")], [flag("normalized", "▁▁")])):
        folder = changed(source, tmp_path / f"a{n}", use_metaspace, *changes)
        assert_kept(folder, tmp_path / f"m{n}.gguf")


def test_spaces_that_would_be_read_as_spelled_are_refused(gemma: Any, tmp_path: Path) -> None:
    def rename(values: dict[str, Any]) -> None:
        token = next(t for t in values["added_tokens"] if t["content"] == "<b>")
        values["model"]["vocab"]["a b"] = values["model"]["vocab"].pop("<b>")
        token["content"] = "a b"

    source = publish_gemma(gemma, tmp_path / "source")
    with pytest.raises(UnsupportedModelError, match="the space in 'a b', which is not normalised"):
        vocabulary(changed(source, tmp_path / "a", rename))
    folder = changed(source, tmp_path / "b", rename, flag("normalized", "a b"))
    assert rewritten(folder, tmp_path / "m.gguf").encode("a b") == open_tokenizer(folder).encode(
        "a b"
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({f"{FLAG}lstrip": np.array([65], np.int32)}, "lstrip' has token 65, which is not decl"),
        ({f"{FLAG}rstrip": np.array([-1, 403], np.int32)}, "rstrip' has token -1, which is not"),
        ({f"{FLAG}lstrip": np.zeros(5, np.int8)}, "lstrip' has 5 tokens, more than the 4 declared"),
        ({f"{FLAG}single_word": [True]}, "single_word' must be an array of integers"),
        ({f"{FLAG}normalized": np.array([1 << 40])}, "normalized' has token 1099511627776"),
        ({NFC: 1}, "nfc' must be a boolean"),
        ({"tokenizer.ggml.normalizer.lowercase": True}, r"\('tokenizer.ggml.normalizer.lowercase'"),
        ({"tokenizer.ggml.normalizer.strip_accents": True}, "strip_accents'"),
    ],
)
def test_wrong_metadata_is_refused(
    llama3_metadata: dict[str, Any], from_metadata: Any, changes: dict[str, Any], rule: str
) -> None:
    unsupported = any(value is True for value in changes.values())
    with pytest.raises(UnsupportedModelError if unsupported else InvalidModelError, match=rule):
        from_metadata({**llama3_metadata, **changes})


def test_nfc_of_sentencepiece_is_refused(spm: Any, from_metadata: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=r"text normalisation \('tokenizer.ggml.norm"):
        from_metadata({**spm.metadata, NFC: True})
