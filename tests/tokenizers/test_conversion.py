"""The tokenizer of a folder is the same one in the GGUF file that its model is written to."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, normalizers, pre_tokenizers

from bitnet.conversion.scores import scores_of_merges
from bitnet.conversion.vocabulary import gguf_vocabulary
from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers import Tokenizer
from bitnet.tokenizers.huggingface_writer import tokenizer_files
from bitnet.tokenizers.pieces import Pieces
from bitnet.tokenizers.pre_tokenizers import PRE_TOKENIZERS
from tests.models.conftest import make_tiny
from tests.tokenizers.conftest import CONTROLS
from tests.tokenizers.test_tiktoken import write_ranks
from tests.tokenizers.test_torture import PUBLISHED
from tests.tokenizers.torture import ALL

BEGIN, END, _ = CONTROLS
PADDED = 700  # tokens of the model


def vocabulary(folder: Path, size: int = PADDED, architecture: str = "llama") -> dict[str, Any]:
    return gguf_vocabulary(folder, make_tiny(architecture, vocab_size=size).spec)


def rewritten(folder: Path, path: Path, architecture: str = "llama") -> Tokenizer:
    """The tokenizer of `folder` by way of a GGUF file."""
    metadata = {"general.architecture": architecture, **vocabulary(folder, PADDED, architecture)}
    write_gguf(path, metadata, [TensorData("some", (1,), "F32", np.zeros(1, np.float32))])
    return open_tokenizer(path)


def assert_same(ours: Tokenizer, theirs: Tokenizer) -> None:
    for name in ("vocab_size", "spelling", "bos_id", "eos_id", "eos_ids", "add_bos", "add_eos"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert dict(ours.chat_templates) == dict(theirs.chat_templates)
    for text in ALL:
        for parse_special in (False, True):
            ids = theirs.encode(text, parse_special=parse_special)
            assert ours.encode(text, parse_special=parse_special) == ids
            assert ours.decode(ids) == theirs.decode(ids)
    for id in range(theirs.vocab_size + 3):
        assert ours.token_bytes(id) == theirs.token_bytes(id)


def save(encoder: Encoder, folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    encoder.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_byte_level(byte_level: Any, tmp_path: Path) -> None:
    tokenizer = rewritten(byte_level.folder, tmp_path / "m.gguf")
    assert_same(tokenizer, byte_level.from_json)
    assert (
        vocabulary(byte_level.folder)["tokenizer.ggml.pre"]
        == (byte_level.metadata["tokenizer.ggml.pre"])
    )


def test_sentencepiece(spm: Any, tmp_path: Path) -> None:
    assert_same(rewritten(spm.folder, tmp_path / "m.gguf", "bitnet"), spm.from_model)


def test_gemma(gemma: Any, tmp_path: Path) -> None:
    tokenizer = rewritten(gemma.from_model.path.parent, tmp_path / "m.gguf")
    assert_same(tokenizer, gemma.from_model)


def test_llama_3_rank_files(llama3_metadata: Any, from_metadata: Any, tmp_path: Path) -> None:
    trained = from_metadata(llama3_metadata)
    write_ranks(tmp_path / "tokenizer.model", [trained.token_bytes(id) for id in range(400)])
    assert_same(rewritten(tmp_path, tmp_path / "m.gguf"), open_tokenizer(tmp_path))


def use_metaspace(encoder: Encoder, scheme: str) -> None:
    encoder.normalizer = None
    encoder.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)


def split_as_gemma(encoder: Encoder) -> None:
    encoder.normalizer = normalizers.Replace(" ", "▁")
    encoder.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")


def as_tokenizer_json(spm: Any, folder: Path) -> Path:
    """The SentencePiece model as transformers writes it."""
    encoder = Encoder.from_str(spm.from_model.to_json())
    strip = [decoders.Strip(" ", 1, 0)] if spm.name != "no-space" else []
    encoder.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return save(encoder, folder, bos_token="<s>", eos_token="</s>")


def test_sentencepiece_as_tokenizer_json(spm: Any, tmp_path: Path) -> None:
    folder = as_tokenizer_json(spm, tmp_path)
    assert_same(rewritten(folder, tmp_path / "m.gguf"), open_tokenizer(folder))
    changes: list[Any] = [partial(use_metaspace, scheme=s) for s in ("first", "always")]
    if spm.name == "no-space":
        changes = [partial(use_metaspace, scheme="never"), split_as_gemma]
    for change in changes:
        encoder = Encoder.from_file(str(folder / "tokenizer.json"))
        change(encoder)
        encoder.save(str(folder / "tokenizer.json"))
        written = rewritten(folder, tmp_path / "m.gguf")
        assert_same(written, open_tokenizer(folder))
        (tmp_path / "again").mkdir(exist_ok=True)
        assert_same(saved(written, tmp_path / "again"), written)


@pytest.mark.parametrize("name", PUBLISHED)
def test_pre_tokenizers_are_known_as_published(
    llama3_metadata: Any, from_metadata: Any, tmp_path: Path, name: str
) -> None:
    trained = from_metadata({**llama3_metadata, "tokenizer.ggml.pre": name})
    encoder = Encoder.from_str(trained.to_json())
    encoder.pre_tokenizer = pre_tokenizers.Sequence(PUBLISHED[name])
    folder = save(encoder, tmp_path)
    assert vocabulary(folder)["tokenizer.ggml.pre"] == name
    assert_same(rewritten(folder, tmp_path / "m.gguf"), open_tokenizer(folder))


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_pre_tokenizers_keep_their_meaning(
    llama3_metadata: Any, from_metadata: Any, tmp_path: Path, name: str
) -> None:
    trained = from_metadata({**llama3_metadata, "tokenizer.ggml.pre": name})
    folder = save(Encoder.from_str(trained.to_json()), tmp_path)
    found = vocabulary(folder)["tokenizer.ggml.pre"]
    assert PRE_TOKENIZERS[found].splits == PRE_TOKENIZERS[name].splits
    assert PRE_TOKENIZERS[found].whole_words == PRE_TOKENIZERS[name].whole_words


def test_llama_3_words_without_whole_words(byte_level: Any, tmp_path: Path) -> None:
    """Of two pre-tokenizers with the same pattern, the one that looks words up or not."""
    values = json.loads(byte_level.from_json.to_json())
    values["model"]["ignore_merges"] = not values["model"]["ignore_merges"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    if byte_level.metadata["tokenizer.ggml.pre"] == "llama-bpe":
        assert vocabulary(tmp_path)["tokenizer.ggml.pre"] == "smaug-bpe"
        assert_same(rewritten(tmp_path, tmp_path / "m.gguf"), open_tokenizer(tmp_path))
    else:
        with pytest.raises(UnsupportedModelError, match="that have a name in GGUF files"):
            vocabulary(tmp_path)


def test_a_folder_without_a_tokenizer_gives_a_file_without_one(tmp_path: Path) -> None:
    assert vocabulary(tmp_path) == {}


def test_all_ends_of_texts_are_kept(byte_level: Any, tmp_path: Path) -> None:
    folder = save(byte_level.library, tmp_path, bos_token=BEGIN, eos_token=END)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [65, 66, 401]}))
    tokenizer = rewritten(folder, tmp_path / "m.gguf")
    assert tokenizer.eos_ids == {65, 66, 401, 402}  # the last one is known by name
    assert tokenizer.eos_id == 401
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [65, 66, 67]}))
    with pytest.raises(UnsupportedModelError, match=r"1 more ends of texts than .* such as"):
        vocabulary(folder)


def test_2b_4t_stops_at_both_its_ends(byte_level: Any, tmp_path: Path) -> None:
    folder = save(byte_level.library, tmp_path, bos_token=BEGIN, eos_token=END)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [401, 402]}))
    values = vocabulary(folder, architecture="bitnet-b1.58")
    assert (values["tokenizer.ggml.eos_token_id"], values["tokenizer.ggml.eot_token_id"]) == (
        401,
        402,
    )


def test_chat_templates_are_kept(byte_level: Any, tmp_path: Path) -> None:
    templates = [{"name": n, "template": f"{{{{ '{n}' }}}}"} for n in ("default", "tool_use")]
    folder = save(byte_level.library, tmp_path, chat_template=templates)
    tokenizer = rewritten(folder, tmp_path / "m.gguf")
    assert tokenizer.chat_templates == {
        "default": "{{ 'default' }}",
        "tool_use": "{{ 'tool_use' }}",
    }


def test_a_vocabulary_is_padded_to_that_of_the_model(spm: Any, byte_level: Any) -> None:
    for folder in (spm.folder, byte_level.folder):
        values = vocabulary(folder)
        assert len(values["tokenizer.ggml.tokens"]) == PADDED
        assert values["tokenizer.ggml.tokens"][-1] == f"[PAD{PADDED - 1}]"
        assert values["tokenizer.ggml.token_type"][-1] == 5
    with pytest.raises(InvalidModelError, match="the tokenizer has 404 tokens, the model only 403"):
        vocabulary(byte_level.folder, 403)


def saved(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer by way of the files of a folder."""
    for name, text in tokenizer_files(tokenizer).items():
        (folder / name).write_text(text)
    return open_tokenizer(folder, "llama")


def test_byte_level_to_a_folder(byte_level: Any, tmp_path: Path) -> None:
    tokenizer = saved(byte_level.from_gguf, tmp_path)
    assert_same(tokenizer, byte_level.from_gguf)
    library = Encoder.from_file(str(tmp_path / "tokenizer.json"))
    for text in ALL:
        assert library.encode(text).ids == byte_level.library.encode(text).ids


def test_sentencepiece_to_a_folder(spm: Any, tmp_path: Path) -> None:
    assert_same(saved(spm.from_gguf, tmp_path), spm.from_gguf)
    assert_same(rewritten(tmp_path, tmp_path / "m.gguf"), spm.from_gguf)  # and back


def test_gemma_to_a_folder(gemma: Any, tmp_path: Path) -> None:
    for source in (gemma.from_gguf, gemma.from_untyped_gguf):
        assert_same(saved(source, tmp_path), source)


def test_what_is_added_to_texts_is_kept_in_a_folder(
    llama3_metadata: Any, from_metadata: Any, tmp_path: Path
) -> None:
    templates = {
        "tokenizer.chat_template": "{{ 'a' }}",
        "tokenizer.chat_templates": ["b"],
        "tokenizer.chat_template.b": "{{ 'é' }}",
    }
    for bos in (False, True):
        for eos in (False, True):
            for some in ({}, templates):
                flags = {"tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos}
                source = from_metadata({**llama3_metadata, **flags, **some})
                tokenizer = saved(source, tmp_path)
                assert (tokenizer.add_bos, tokenizer.add_eos) == (bos, eos)
                assert tokenizer.chat_templates == source.chat_templates
                ids = source.encode("ab", add_bos=bos, add_eos=eos)
                library = Encoder.from_file(str(tmp_path / "tokenizer.json"))
                assert library.encode("ab").ids == ids


def edit(values: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        values = values[int(key) if key.isdigit() else key]
    values[last] = value


SPLIT = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
SPELL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("normalizer", {"type": "NFKC"}, r"text normalisation \(NFKC\)"),
        ("pre_tokenizer", SPELL, "in none of the ways .*: llama-bpe, llama-v3"),
        ("pre_tokenizer", {**SPELL, "add_prefix_space": True}, "in none of the ways"),
        ("pre_tokenizer", {**SPELL, "use_regex": True, "add_prefix_space": True}, "in none of"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [SPLIT, SPELL]}, "in none of"),
        (
            "pre_tokenizer",
            {"type": "Sequence", "pretokenizers": [{**SPELL, "use_regex": True}, SPLIT]},
            "in none of",
        ),
        ("model.dropout", 0.5, "dropout"),
    ],
)
def test_what_gguf_cannot_say_of_byte_level_is_refused(
    llama3_metadata: Any, from_metadata: Any, tmp_path: Path, path: str, value: Any, rule: str
) -> None:
    values = json.loads(from_metadata(llama3_metadata).to_json())
    edit(values, path, value)
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(UnsupportedModelError, match=rule):
        vocabulary(tmp_path)


SPLITTING = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("normalizer", {"type": "NFKC"}, "this handling of spaces"),
        ("pre_tokenizer", SPLITTING, "this handling of sp"),
        ("model.ignore_merges", True, "ignore_merges in a SentencePiece model"),
        ("model.fuse_unk", False, "unknown letters that are tokens one by one"),
        ("model.merges", [["i", "n"]], "merges do not follow from scores"),
    ],
)
def test_what_gguf_cannot_say_of_sentencepiece_is_refused(
    spm: Any, tmp_path: Path, path: str, value: Any, rule: str
) -> None:
    folder = as_tokenizer_json(spm, tmp_path)
    values = json.loads((folder / "tokenizer.json").read_text())
    edit(values, path, value)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(UnsupportedModelError, match=rule):
        vocabulary(folder)


def test_a_space_in_unknown_places_is_refused(spm: Any, from_metadata: Any) -> None:
    places = "never" if spm.name == "no-space" else "first or always"
    for wrong in ("last", "first" if spm.name == "no-space" else "never"):
        with pytest.raises(InvalidModelError, match=f"metaspace' is '{wrong}', not {places}"):
            from_metadata({**spm.metadata, "bitnet.tokenizer.metaspace": wrong})


def test_merges_that_make_the_same_token_may_be_in_another_order(tmp_path: Path) -> None:
    """Scores do not tell it, so that the merges have to be written too."""
    tokens = ["<unk>", "a", "b", "c", "ab", "bc", "abc", "aa", "aaa"]
    kinds = [2] + [1] * 8
    pieces = Pieces("tokenizer.json", tokens, kinds)
    first = [("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c"), ("a", "a"), ("a", "aa"), ("aa", "a")]
    scores, tell_all = scores_of_merges(tmp_path, pieces, first)
    assert (scores.tolist(), tell_all) == ([0, -5, -6, -7, 0, -1, -2, -3, -4], True)
    first[2:4] = first[3], first[2]
    again, tell_all = scores_of_merges(tmp_path, pieces, first)
    assert (again.tolist(), tell_all) == (scores.tolist(), False)
    for wrong in (first[1:], [first[2], *first[:2], *first[3:]], [*first, ("<unk", ">")]):
        with pytest.raises(UnsupportedModelError, match="do not follow from scores"):
            scores_of_merges(tmp_path, pieces, wrong)
