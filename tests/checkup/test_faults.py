"""Known faults of GGUF files are found, by name, with the metadata that mends them; no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bitnet
from bitnet.checkup.faults import FILE_TYPES, Fault, gguf_faults
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_types import TYPE_IDS
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.quant import i2s
from bitnet.tokenizers.templates import TEMPLATES
from tests.checkup.conftest import TOKENIZER, rewrite
from tests.embedder_files import Embedder
from tests.models.conftest import make_tiny, write_tiny_gguf

HEADS = "bitnet-b1.58.attention.head_count"
PLACEHOLDER = "{% for m in messages %}{{ m }}{% endfor %}BITNETAssistant: "


def faults(path: Path) -> list[Fault]:
    with GGUFFile(path) as file:
        return gguf_faults(file)


def test_sound_files_have_none(path: Path) -> None:
    assert faults(path) == []
    assert faults(bitnet.bundled_model_path()) == []


@pytest.mark.parametrize(
    ("keys", "name", "changes"),
    [
        ({"tokenizer.ggml.pre": None}, "missing-pre", {"tokenizer.ggml.pre": "llama-bpe"}),
        (
            {"tokenizer.chat_template": None},
            "template",
            {"tokenizer.chat_template": TEMPLATES["bitnet"].source},
        ),
        (
            {"tokenizer.chat_template": PLACEHOLDER},
            "template",
            {"tokenizer.chat_template": TEMPLATES["bitnet"].source},
        ),
        ({HEADS: 8}, "head-count", {HEADS: 4}),
        ({f"{HEADS}_kv": None}, "head-count", {f"{HEADS}_kv": 2}),
        ({HEADS: 2, f"{HEADS}_kv": 1}, "head-count", {HEADS: 4, f"{HEADS}_kv": 2}),
        (
            {f"{HEADS}_kv": 4, "bitnet-b1.58.rope.dimension_count": None},
            "head-count",
            {f"{HEADS}_kv": 2},
        ),
        ({"general.file_type": 1}, "file-type", {}),
    ],
)
def test_what_is_wrong_is_named_and_how_to_mend_it(
    path: Path, keys: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    found = faults(rewrite(path, keys))
    assert [(fault.name, dict(fault.changes)) for fault in found] == [(name, changes)]
    mended = faults(rewrite(path, changes))
    assert [fault.name for fault in mended] == ([] if changes else [name])


def test_a_llama_vocabulary_is_known_by_its_tokens(tmp_path: Path) -> None:
    keys = {**TOKENIZER, "tokenizer.ggml.pre": None}
    path = write_tiny_gguf(make_tiny("llama"), tmp_path / "m.gguf", metadata=keys)
    (fault,) = faults(path)
    assert (fault.name, fault.changes) == ("missing-pre", {"tokenizer.ggml.pre": "llama-bpe"})
    rewrite(path, {"tokenizer.ggml.tokens": [f"t{i}" for i in range(40)]})
    (fault,) = faults(path)
    assert (fault.name, fault.changes) == ("missing-pre", {})


def test_a_float_file_that_calls_itself_i2_s_is_told(tmp_path: Path) -> None:
    keys = {**TOKENIZER, "general.file_type": 40}
    tiny = make_tiny("llama")
    path = write_tiny_gguf(tiny, tmp_path / "m.gguf", metadata=keys, linear_type="F16")
    (fault,) = faults(path)
    assert fault.text == "general.file_type 40 says I2_S or Q1_0, but most weights are F16"


def test_rows_that_start_inside_a_block_are_told(tmp_path: Path) -> None:
    size = i2s.tensor_bytes(4 * 96)
    tensors = [TensorData("blk.0.ffn_down.weight", (4, 96), "I2_S", bytes(size))]
    # The writer refuses such a tensor; a file with one of the same size becomes it by its shape.
    path = tmp_path / "m.gguf"
    write_gguf(path, {}, [TensorData(tensors[0].name, (3, 128), "I2_S", bytes(size))])
    content = path.read_bytes()
    old, new = (k.to_bytes(8, "little") + m.to_bytes(8, "little") for k, m in ((128, 3), (96, 4)))
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    (fault,) = faults(path)
    assert fault.name == "columns"
    assert "blk.0.ffn_down.weight, have rows of 96 weights" in fault.text


@pytest.mark.parametrize(("number", "names"), [(1, ["pooling"]), (3, [])])
def test_mean_pooling_of_an_embedding_model_is_doubted(
    tmp_path: Path, number: int, names: list[str]
) -> None:
    path = Embedder("qwen3").write_gguf(tmp_path / "model.gguf", pooling=number)
    found = faults(path)
    assert [fault.name for fault in found] == names
    assert not any(fault.changes for fault in found)


def test_metadata_of_other_types_is_no_fault(path: Path) -> None:
    wrong = {
        HEADS: "four",
        "tokenizer.ggml.model": 5,
        "general.file_type": "big",
        "bitnet-b1.58.rope.dimension_count": -32,
    }
    assert faults(rewrite(path, wrong)) == []
    assert faults(rewrite(path, {"general.architecture": 7})) == []


def test_file_types_speak_of_types_that_are_known() -> None:
    for names in FILE_TYPES.values():
        assert set(names) <= TYPE_IDS.keys()
