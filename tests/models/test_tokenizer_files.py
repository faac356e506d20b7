"""Where a model's tokenizer comes from: given, its own files, beside them, above them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers

from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.formats.gguf_writer import write_gguf
from bitnet.models import open_checkpoint
from bitnet.models.tokenizer_files import open_tokenizer

Maker = Callable[..., Any]
ARCH = "bitnet-b1.58"
SIZE = 40
TOKENS = [chr(0x21 + i) for i in range(SIZE - 2)]


def embedded(*extra: str) -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*TOKENS, *extra],
        "tokenizer.ggml.merges": [],
    }


def write_json(folder: Path, *extra: str) -> Path:
    encoder = Encoder(models.BPE({t: id for id, t in enumerate([*TOKENS, *extra])}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def origin(path: Path, *arguments: Any) -> Path:
    with open_checkpoint(path, *arguments) as checkpoint:
        return checkpoint.tokenizer.path


def test_the_order_for_a_gguf_file(tiny: Maker, write_gguf_model: Maker, tmp_path: Path) -> None:
    folder, other = tmp_path / "a" / "b", tmp_path / "other"
    folder.mkdir(parents=True)
    other.mkdir()
    bare = write_gguf_model(tiny(ARCH), folder / "bare.gguf")
    whole = write_gguf_model(tiny(ARCH), folder / "whole.gguf", metadata=embedded())
    with pytest.raises(UnsupportedModelError, match="no tokenizer, and there is none near"):
        origin(bare)
    assert origin(bare, whole) == whole
    above = write_json(folder.parent)
    assert origin(bare) == above
    beside = write_json(folder)
    assert origin(bare) == beside
    assert origin(whole) == whole
    given = write_json(other)
    assert origin(whole, other) == origin(whole, str(given)) == given


def test_the_order_for_a_folder(tiny: Maker, write_folder_model: Maker, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder = write_folder_model(tiny(ARCH), tmp_path / "a" / "m")
    write_json(tmp_path)
    with pytest.raises(UnsupportedModelError, match="holds no tokenizer"):
        origin(folder)  # two folders above is not looked at
    above = write_json(folder.parent)
    assert origin(folder) == above
    assert origin(folder / "model.safetensors") == above
    own = write_json(folder)
    assert origin(folder) == own


def test_a_model_in_the_working_directory(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path / "m")
    write_gguf_model(tiny(ARCH), Path("m.gguf"))
    above = write_json(tmp_path)
    assert origin(Path("m.gguf")) == above


def test_a_tokenizer_that_cannot_be_used_is_not_passed_over(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    write_json(tmp_path)
    keys = {**embedded(), "tokenizer.ggml.pre": "tekken"}
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", metadata=keys)
    with pytest.raises(UnsupportedModelError, match="'tekken' is not supported; give the model's"):
        origin(path)
    assert origin(path, tmp_path) == tmp_path / "tokenizer.json"


def test_what_is_given_is_checked_when_the_model_is_opened(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", metadata=embedded())
    with pytest.raises(ModelNotFoundError, match=r"nope\.json"):
        open_checkpoint(path, tmp_path / "nope.json")
    large = write_json(tmp_path, "Ā", "ā", "Ă")
    rule = f"has {SIZE + 1} tokens, the model only {SIZE}"
    with pytest.raises(InvalidModelError, match=rule) as caught:
        open_checkpoint(path, large)
    assert caught.value.path == str(large)
    with pytest.raises(UnsupportedModelError, match=r"neither tokenizer\.json nor"):
        open_checkpoint(path, path.parent.parent)
    with pytest.raises(InvalidArgumentError, match="chat template 'nope' is neither"):
        open_checkpoint(path, None, "nope")
    with open_checkpoint(path, large.with_name("m.gguf"), "chatml") as checkpoint:
        assert "im_start" in (checkpoint.tokenizer.chat_template or "")


def test_a_gguf_file_of_only_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocab.gguf"
    write_gguf(path, {"general.architecture": "llama", **embedded()}, [])
    assert open_tokenizer(path).encode("AB") == [TOKENS.index("A"), TOKENS.index("B")]


def test_a_file_of_any_name(tmp_path: Path) -> None:
    path = write_json(tmp_path).rename(tmp_path / "my tokenizer")
    path.write_text("\n" + json.dumps(json.loads(path.read_text()), indent=1))
    assert open_tokenizer(path).encode("AB") == [TOKENS.index("A"), TOKENS.index("B")]


def test_generation_ends_at_every_end_token_of_the_published_2b_file(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    """It lacks tokenizer.ggml.pre and declares only one end."""
    keys = embedded("<|end_of_text|>", "<|eot_id|>")
    del keys["tokenizer.ggml.pre"]
    keys["tokenizer.ggml.token_type"] = np.array([1] * (SIZE - 2) + [3, 3], np.int32)
    keys["tokenizer.ggml.eos_token_id"] = SIZE - 2
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", metadata=keys)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tokenizer.eos_ids == {SIZE - 2, SIZE - 1}
