"""`inspect_model`: what a model is, in every format, and why it cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet.checkup import inspect_model
from bitnet.checkup.memory import memory_needs
from bitnet.checkup.report import FAMILIES
from bitnet.conversion import convert
from bitnet.errors import InvalidModelError, ModelNotFoundError
from bitnet.models import open_checkpoint
from bitnet.quant.tl_config import CONFIG_NAME, Blocks, TLName, write_config
from tests.checkup.conftest import rewrite
from tests.models.conftest import make_tiny, write_tiny_folder, write_tiny_gguf


def test_a_gguf_file_is_described(path: Path) -> None:
    report = inspect_model(path)
    assert (report.loads, report.problems, report.faults) == (True, [], [])
    assert report.format == "GGUF, version 3, little-endian"
    assert report.spec == make_tiny("bitnet-b1.58").spec
    stored = report.stored
    assert stored is not None
    assert (stored.name, stored.architecture) == ("tiny", "bitnet-b1.58")
    assert (stored.tokenizer, stored.file_type) == ("gpt2 llama-bpe", 40)
    assert stored.files == (path,)
    assert {t.name for t in stored.tensors} == {
        *report.spec.ternary_shapes(),
        *report.spec.dense_shapes(),
    }
    weights = sum(m * k for m, k in report.spec.ternary_shapes().values())
    assert report.types["I2_S"].tensors == 14
    assert report.types["I2_S"].elements == weights
    assert report.types["I2_S"].bytes == weights // 4 + 14 * 32
    assert report.tokenizer is not None
    assert (report.tokenizer.tokens, report.tokenizer.eos_ids) == (40, [39])
    assert report.tokenizer.has_chat_template
    assert "arm64" in stored.hints[0]


def test_a_folder_is_described(tmp_path: Path) -> None:
    folder = write_tiny_folder(make_tiny("llama"), tmp_path / "model")
    report = inspect_model(folder)
    assert (report.format, report.loads) == ("Hugging Face folder", True)
    assert report.types["U8"].tensors == 14
    assert report.tokenizer is None
    assert "tokenizer" in report.problems[0]


def test_a_native_file_needs_its_own_layout_and_maps_it(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.gguf"
    convert(path, out, layout="2bit")
    report = inspect_model(out)
    assert report.format == "native GGUF (layout 2bit), version 3, little-endian"
    assert [(need.layout, need.ternary_mapped) for need in report.memory] == [("2bit", True)]
    assert report.faults == []


@pytest.mark.parametrize("layout", ["b3", "2bit"])
def test_memory_is_what_loading_takes(layout: str) -> None:
    path = bitnet.bundled_model_path()
    with open_checkpoint(path) as checkpoint:
        (need,) = (need for need in memory_needs(checkpoint) if need.layout == layout)
    with bitnet.load(path, layout=layout) as model:
        weights = model._engine._stepper.weights
        assert need.ternary == weights._packer._memory.size == weights.ternary_bytes
        packed = weights._head.packed.get("packed", np.empty(0))
        assert need.head == packed.nbytes
        assert need.head_kind == model._engine._stepper.program.plan.head_kind
    assert need.total(10) - need.total(9) == need.kv_per_position
    assert need.token > need.ternary


def test_i2_s_is_a_layout_only_where_all_weights_have_it(path: Path, tmp_path: Path) -> None:
    assert [need.layout for need in inspect_model(path).memory] == ["b3", "2bit", "i2_s"]
    floats = write_tiny_gguf(make_tiny("llama"), tmp_path / "f.gguf", linear_type="F16")
    assert [need.layout for need in inspect_model(floats).memory] == ["b3", "2bit"]


@pytest.mark.parametrize("kind", ["TL1", "TL2"])
def test_look_ups_are_layouts_where_all_weights_are_cut_for_them(
    tmp_path: Path, kind: TLName
) -> None:
    model = make_tiny("bitnet", hidden_size=256, ffn_size=288, head_dim=64)
    blocks = dict.fromkeys(
        {*model.spec.ternary_shapes().values()}, Blocks(32, 32 if kind == "TL1" else 96, 32)
    )
    path = write_tiny_gguf(model, tmp_path / "t.gguf", linear_type=kind, blocks=blocks)
    (tmp_path / CONFIG_NAME).write_text(write_config(blocks))
    needs = {need.layout: need for need in inspect_model(path).memory}
    assert list(needs) == ["b3", "2bit", kind.lower()]
    need = needs["tl1" if kind == "TL1" else "tl2"]
    assert need.ternary_mapped
    with bitnet.load(path, layout=need.layout) as loaded:
        assert need.ternary == loaded._engine._stepper.weights.ternary_bytes


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"general.architecture": "mamba"}, "architecture 'mamba' is not one of"),
        ({"general.architecture": None}, "'general.architecture' is missing"),
        ({"bitnet-b1.58.block_count": 3}, "blk.2.attn_q.weight: is missing"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "pre-tokenizer 'unheard-of' is not supported"),
    ],
)
def test_what_cannot_be_loaded_is_described_with_the_reason(
    path: Path, keys: dict[str, object], problem: str
) -> None:
    report = inspect_model(rewrite(path, keys))
    assert len(report.problems) == 1
    assert problem in report.problems[0]
    assert report.types["I2_S"].tensors == 14
    assert report.loads == ("tokenizer.ggml.pre" in keys)


def test_a_file_with_a_broken_header_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])
    report = inspect_model(path)
    assert (report.format, report.loads, report.types) == ("GGUF", False, {})
    assert "the end of the file" in report.problems[0]


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        inspect_model(tmp_path / "none.gguf")
    (tmp_path / "text").write_text("hello, this is no model")
    with pytest.raises(InvalidModelError, match="neither"):
        inspect_model(tmp_path / "text")


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet", "llama"])
def test_every_family_has_a_name(architecture: str) -> None:
    assert FAMILIES[make_tiny(architecture).spec.architecture]
