"""`bitnet.load` with a tokenizer and a chat template of the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bitnet
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers.templates import TEMPLATES, Template
from tests.tiny_model import TEXT, WORDS, write_tiny_model

CHAT = [{"role": "user", "content": "one"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", first_words={"e": 1})


def test_a_tokenizer_of_its_own(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    open_tokenizer(path)._encoder.save(str(file))
    with bitnet.load(path, tokenizer=file, threads=1) as model:
        assert model.tokenizer.path == file
        assert model.generate("hello", temperature=0).text == TEXT
    with pytest.raises(bitnet.ModelNotFoundError, match="no file or folder no-such"):
        bitnet.load(path, tokenizer="no-such")


def test_a_chat_template_and_what_ends_its_answers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates: Any = TEMPLATES
    monkeypatch.setitem(templates, "short", Template("{{ messages[0].content }}", stop=(WORDS[3],)))
    with bitnet.load(path, chat_template="short", threads=1) as model:
        assert model.chat(CHAT, temperature=0).text == "".join(WORDS[1:3])
        assert "".join(model.stream_chat(CHAT, temperature=0)) == "".join(WORDS[1:3])
        assert model.chat(CHAT, temperature=0, stop=[WORDS[2]]).text == WORDS[1]
        assert model.generate("one", temperature=0).text == "".join(WORDS[1:])
    with pytest.raises(bitnet.InvalidArgumentError, match="chat template 'no-such' is neither"):
        bitnet.load(path, chat_template="no-such")


def test_every_template_is_documented() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for name in TEMPLATES:
        assert f'"{name}"' in (bitnet.load.__doc__ or "")
        assert f"`{name}`" in readme
