"""Chat templates are chosen by name or file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.models.tokenizer_files import open_tokenizer

CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": " U "},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "V"},
]
LLAMA3 = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
TURNS = [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")]
RENDERED = {
    "raw": "S U AV",
    "instruct": "System: S\n\nQ: U\nA: A\n\nQ: V\nA:",
    "bitnet": "<|begin_of_text|>System: S<|eot_id|>User: U<|eot_id|>Assistant: A<|eot_id|>"
    "User: V<|eot_id|>Assistant: ",
    "llama3-chat": "<|begin_of_text|>"
    + "".join(LLAMA3.format(*turn) for turn in TURNS)
    + "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n U <|im_end|>\n"
    "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
    "falcon3": "<|system|>\nS\n<|user|>\n U \n<|assistant|>\nA<|end_of_text|>\n<|user|>\nV\n"
    "<|assistant|>\n",
    "gemma": "<|begin_of_text|><start_of_turn>user\nS\n\nU<end_of_turn>\n"
    "<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n"
    "<start_of_turn>model\n",
}


@pytest.mark.parametrize("name", RENDERED)
def test_templates_by_name(llama3_metadata: Any, from_metadata: Any, name: str) -> None:
    tokenizer = from_metadata({**llama3_metadata, "tokenizer.chat_template": "own"})
    tokenizer.use_chat_template(name)
    assert tokenizer.apply_chat_template(CHAT) == RENDERED[name]
    without = tokenizer.apply_chat_template(CHAT, add_generation_prompt=False)
    assert RENDERED[name].startswith(without)
    ids = tokenizer.encode_chat(CHAT)
    assert ids.count(tokenizer.bos_id) == 1
    assert ids[0] == tokenizer.bos_id


def test_gemma_without_a_system_message(llama3_metadata: Any, from_metadata: Any) -> None:
    tokenizer = from_metadata(llama3_metadata)
    tokenizer.use_chat_template("gemma")
    assert tokenizer.apply_chat_template(CHAT[1:2], add_generation_prompt=False) == (
        "<|begin_of_text|><start_of_turn>user\nU<end_of_turn>\n"
    )


def test_auto_is_the_models_own(llama3_metadata: Any, from_metadata: Any) -> None:
    tokenizer = from_metadata({**llama3_metadata, "tokenizer.chat_template": "own"})
    tokenizer.use_chat_template("instruct")
    assert tokenizer.chat_stop == ("\n\nQ:", "\n\nHuman:")
    tokenizer.use_chat_template("auto")
    assert (tokenizer.apply_chat_template(CHAT), tokenizer.chat_stop) == ("own", ())


def test_named_templates_in_a_gguf_file(llama3_metadata: Any, from_metadata: Any) -> None:
    key = "tokenizer.chat_template"
    values = {key: "own", f"{key}s": ["tool_use", "raw"], f"{key}.tool_use": "tool"}
    with pytest.raises(InvalidModelError, match=r"'tokenizer.chat_template.raw' is missing"):
        from_metadata({**llama3_metadata, **values})
    tokenizer = from_metadata({**llama3_metadata, **values, f"{key}.raw": "its own raw"})
    for name, text in (("tool_use", "tool"), ("raw", "its own raw"), ("auto", "own")):
        tokenizer.use_chat_template(name)
        assert tokenizer.apply_chat_template(CHAT) == text


def test_named_templates_in_a_folder(byte_level: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((byte_level.folder / "tokenizer.json").read_bytes())
    named = [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    tokenizer = open_tokenizer(tmp_path)
    tokenizer.use_chat_template("rag")
    assert tokenizer.chat_template == "b"
    (tmp_path / "chat_template.jinja").write_text("c")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("d")
    tokenizer = open_tokenizer(tmp_path)
    assert tokenizer.chat_template == "c"
    tokenizer.use_chat_template("rag")
    assert tokenizer.chat_template == "d"


def test_a_file(llama3_metadata: Any, from_metadata: Any, tmp_path: Path) -> None:
    tokenizer = from_metadata(llama3_metadata)
    path = tmp_path / "mine.jinja"
    path.write_bytes("{{ messages[0].content }}\r\né".encode())
    tokenizer.use_chat_template(path)
    assert tokenizer.apply_chat_template(CHAT) == "S\né"
    path.write_text("{% if %}")
    with pytest.raises(InvalidModelError, match=r"mine\.jinja: chat template fails"):
        tokenizer.use_chat_template(str(path))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"\xff", "is not UTF-8"),
        (b"x" * (1 << 20), "has more than"),
        (None, "is neither a file nor one of auto, raw, instruct, bitnet, llama3-chat"),
    ],
)
def test_what_is_no_template(
    llama3_metadata: Any, from_metadata: Any, tmp_path: Path, content: bytes | None, rule: str
) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=rule):
        from_metadata(llama3_metadata).use_chat_template(path)


@pytest.mark.parametrize(
    "value", [5, [5], [{"name": "a"}], [{"name": 1, "template": "x"}], {"default": 1}]
)
def test_template_lists_of_another_form_are_refused(
    byte_level: Any, tmp_path: Path, value: Any
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((byte_level.folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(InvalidModelError, match="chat_template must be"):
        open_tokenizer(tmp_path)
