"""What comes before and after a text: what the files say, or the tokenizer's own file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Encoder
from tokenizers.processors import TemplateProcessing

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.models.tokenizer_files import open_tokenizer
from tests.tokenizers.conftest import CONTROLS, train_sentencepiece

BEGIN, END, TURN = CONTROLS


def save(encoder: Encoder, folder: Path, template: str) -> Path:
    """The encoder with another template for whole texts."""
    names = [name for name in template.split() if name != "$A"]
    ids = [(name, encoder.token_to_id(name)) for name in names]
    encoder = Encoder.from_str(encoder.to_str())
    encoder.post_processor = TemplateProcessing(single=template, special_tokens=ids)
    encoder.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize(
    ("template", "bos", "eos"),
    [
        (f"{BEGIN} $A", True, False),
        (f"{BEGIN} $A {END}", True, True),
        (f"$A {TURN}", False, True),  # as in Qwen3's embedding models
        ("$A", False, False),
    ],
)
def test_a_tokenizer_json_alone(
    byte_level: Any, tmp_path: Path, template: str, bos: bool, eos: bool
) -> None:
    path = save(byte_level.library, tmp_path, template)
    library, ours = Encoder.from_file(str(path)), open_tokenizer(path)
    assert (ours.add_bos, ours.add_eos) == (bos, eos)
    assert ours.eos_ids == {library.token_to_id(END), library.token_to_id(TURN)}
    for text in ("", "the turtle", f"a{TURN}"):
        ids = ours.encode(text, add_bos=bos, add_eos=eos, parse_special=True)
        assert ids == library.encode(text).ids


def test_files_beside_it_have_the_last_word(byte_level: Any, tmp_path: Path) -> None:
    save(byte_level.library, tmp_path, f"{BEGIN} $A {END}")
    flags = {"add_bos_token": False, "add_eos_token": False, "eos_token": TURN}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(flags))
    tokenizer = open_tokenizer(tmp_path)
    assert not tokenizer.add_bos
    assert not tokenizer.add_eos


def test_the_last_of_two_ids_in_config_json_counts(byte_level: Any, tmp_path: Path) -> None:
    save(byte_level.library, tmp_path, "$A")
    (tmp_path / "config.json").write_text('{"eos_token_id": 65, "eos_token_id": 66}')
    assert open_tokenizer(tmp_path).eos_id == 66


def test_a_sentencepiece_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "my.model"
    path.write_bytes(train_sentencepiece(adds_space=True, byte_fallback=True))
    tokenizer = open_tokenizer(path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.eos_ids) == (1, 2, {2})
    assert (tokenizer.add_bos, tokenizer.add_eos) == (True, False)
    path.write_bytes(train_sentencepiece(adds_space=True, byte_fallback=True, bos_id=-1))
    tokenizer = open_tokenizer(path)
    assert (tokenizer.bos_id, tokenizer.add_bos) == (None, False)


def test_user_defined_pieces_after_a_space_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.model"
    data = train_sentencepiece(adds_space=True, byte_fallback=True, user_defined_symbols=["<b>"])
    path.write_bytes(data)
    with pytest.raises(UnsupportedModelError, match="user-defined pieces together with a space"):
        open_tokenizer(path)


def test_gguf_flags(llama3_metadata: dict[str, Any], from_metadata: Any) -> None:
    key = "tokenizer.ggml.add_eos_token"
    tokenizer = from_metadata({**llama3_metadata, key: True})
    assert tokenizer.add_eos
    assert tokenizer.encode("a", add_eos=True)[-1] == tokenizer.eos_id
    assert not from_metadata(llama3_metadata).add_eos
    without = {k: v for k, v in llama3_metadata.items() if "eos" not in k}
    with pytest.raises(InvalidModelError, match="add_eos_token is set without a eos_token_id"):
        from_metadata({**without, key: True})
    with pytest.raises(InvalidArgumentError, match="no end-of-text token"):
        from_metadata(without).encode("a", add_eos=True)
