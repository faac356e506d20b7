"""Hugging Face folders that models are converted to: the same model, and nothing half written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bitnet.conversion import convert
from bitnet.conversion.huggingface import write_huggingface
from bitnet.conversion.origin import Origin
from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf_writer import TensorData
from bitnet.models import open_checkpoint
from bitnet.models.tensors import DenseTensor
from bitnet.quant import q6_k, q8_0
from tests.models.conftest import (
    TinyModel,
    interleave_rows,
    make_tiny,
    write_tiny_folder,
    write_tiny_gguf,
)

ARCHITECTURES = ("bitnet-b1.58", "bitnet", "llama")
CONVENTIONS = ("bitlinear", "autobitlinear", "unpacked", "online")
Change = Callable[[list[TensorData]], list[TensorData]]


def assert_same(path: Path, model: TinyModel) -> None:
    with open_checkpoint(path) as written:
        assert written.spec == model.spec
        for name, codes in model.codes.items():
            tensor = written.ternary(name)
            np.testing.assert_array_equal(tensor.codes(0, len(codes)), codes)
            assert tensor.scale == model.scales[name]
        for name, values in model.dense.items():
            np.testing.assert_array_equal(written.dense(name).float32(), values)


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def as_in_gguf(model: TinyModel) -> TinyModel:
    """A Llama model as its GGUF file has it: with rows of q and k in another order."""
    if model.spec.architecture != "llama":
        return model
    heads = {"attn_q": model.spec.n_heads, "attn_k": model.spec.n_kv_heads}
    codes = {
        name: interleave_rows(rows, heads[part]) if (part := name.split(".")[2]) in heads else rows
        for name, rows in model.codes.items()
    }
    spec = replace(model.spec, rope_pairing="interleaved")
    return TinyModel(spec, codes, model.scales, model.dense)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("linear_type", ["I2_S", "F32"])
def test_gguf_to_folder_and_back(tmp_path: Path, architecture: str, linear_type: str) -> None:
    model = make_tiny(architecture)
    write_tiny_gguf(model, tmp_path / "a.gguf", linear_type=linear_type)
    convert(tmp_path / "a.gguf", tmp_path / "hf", "hf")
    assert_same(tmp_path / "hf", model)
    convert(tmp_path / "hf", tmp_path / "b.gguf", "i2_s")
    assert_same(tmp_path / "b.gguf", as_in_gguf(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_folder_to_gguf_and_back(tmp_path: Path, architecture: str, convention: str) -> None:
    kind = "F32" if convention == "online" else "BF16"
    source = write_tiny_folder(make_tiny(architecture), tmp_path / "a", convention, kind=kind)
    with open_checkpoint(source) as checkpoint:  # quantised as it is, and not as it was made
        read = {name: checkpoint.ternary(name) for name in checkpoint.spec.ternary_shapes()}
        model = TinyModel(
            checkpoint.spec,
            {name: tensor.codes(0, tensor.shape[0]) for name, tensor in read.items()},
            {name: tensor.scale for name, tensor in read.items()},
            {n: checkpoint.dense(n).float32() for n in checkpoint.spec.dense_shapes()},
        )
        convert(source, tmp_path / "b.gguf", "i2_s")
        assert_same(tmp_path / "b.gguf", as_in_gguf(model))
        convert(tmp_path / "b.gguf", tmp_path / "c", "hf")
        assert_same(tmp_path / "c", model)
        convert(source, tmp_path / "d", "hf")
        assert_same(tmp_path / "d", model)


def test_1bitllm_folders_become_packed_ones(tmp_path: Path) -> None:
    model = make_tiny("bitnet", ffn_size=136)  # a width that I2_S has no form for
    source = write_tiny_folder(model, tmp_path / "a", "1bitllm", kind="F32")
    convert(source, tmp_path / "b", "hf")
    written = config(tmp_path / "b")
    assert (written["architectures"], written["hidden_act"]) == (["BitNetForCausalLM"], "silu")
    with open_checkpoint(source) as old, open_checkpoint(tmp_path / "b") as new:
        assert new.spec == old.spec
        assert new.weight_types == {"U8"}
        for name, shape in old.spec.ternary_shapes().items():
            assert new.ternary(name).scale == old.ternary(name).scale
            np.testing.assert_array_equal(
                new.ternary(name).codes(0, shape[0]), old.ternary(name).codes(0, shape[0])
            )


def test_native_files_become_folders(tmp_path: Path) -> None:
    model = make_tiny("llama")
    write_tiny_gguf(model, tmp_path / "a.gguf")
    convert(tmp_path / "a.gguf", tmp_path / "native.gguf")
    convert(tmp_path / "native.gguf", tmp_path / "hf", "hf")
    assert_same(tmp_path / "hf", model)


@pytest.mark.parametrize(
    ("architecture", "convention"), [("bitnet-b1.58", "autobitlinear"), ("llama", "bitlinear")]
)
def test_weight_scale_is_meant_as_in_published_models(
    tmp_path: Path, architecture: str, convention: str
) -> None:
    write_tiny_gguf(make_tiny(architecture), tmp_path / "a.gguf", dense_type="BF16")
    convert(tmp_path / "a.gguf", tmp_path / "hf", "hf")
    written = config(tmp_path / "hf")
    assert written["quantization_config"]["linear_class"] == convention
    assert written["torch_dtype"] == "bfloat16"  # everything there fits it


def test_scales_that_are_no_reciprocals_are_multiplied_by(tmp_path: Path) -> None:
    model = make_tiny("llama")
    name = "blk.1.ffn_down.weight"
    # Between two neighbouring reciprocals.
    model.scales[name] = float(np.nextafter(np.float32(1) / np.float32(0.5), np.float32(0)))
    write_tiny_gguf(model, tmp_path / "a.gguf")
    convert(tmp_path / "a.gguf", tmp_path / "hf", "hf")
    quantization = config(tmp_path / "hf")["quantization_config"]
    assert (quantization["linear_class"], quantization["quantization_mode"]) == (
        "autobitlinear",
        "offline",
    )
    assert_same(tmp_path / "hf", model)


def table(kind: str, values: npt.NDArray[np.float32]) -> tuple[TensorData, DenseTensor]:
    raw = (q6_k if kind == "Q6_K" else q8_0).quantize(values)
    name = "token_embd.weight"
    stored = DenseTensor(name, raw, "q6_k" if kind == "Q6_K" else "q8_0")
    return TensorData(name, values.shape, kind, raw), stored


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K"])
def test_tables_in_blocks_become_floats_of_the_same_values(tmp_path: Path, kind: str) -> None:
    model = make_tiny("bitnet-b1.58", hidden_size=256, head_dim=64)
    random = np.random.default_rng(1).normal(0, 1, model.dense["token_embd.weight"].shape)
    whole = np.full(random.shape, 127, np.float32)
    expected = {"F32": random.astype(np.float32)}
    if kind == "Q8_0":
        expected["F16"] = whole  # a block of which is 127 times 1
    for dtype, values in expected.items():
        stored, tensor = table(kind, values)

        def change(tensors: list[TensorData], stored: TensorData = stored) -> list[TensorData]:
            return [stored if t.name == stored.name else t for t in tensors]

        write_tiny_gguf(model, tmp_path / "a.gguf", change=change)
        convert(tmp_path / "a.gguf", tmp_path / dtype, "hf")
        with open_checkpoint(tmp_path / dtype) as written:
            embedding = written.dense(tensor.name)
        assert embedding.kind == dtype.lower()
        np.testing.assert_array_equal(embedding.float32(), tensor.float32())


def test_large_models_are_sharded(tmp_path: Path) -> None:
    model = make_tiny("llama")
    write_tiny_gguf(model, tmp_path / "a.gguf")
    shares: list[float] = []
    with Origin(tmp_path / "a.gguf", llama_pairing="halves") as origin:
        write_huggingface(
            origin, tmp_path / "hf", overwrite=False, progress=shares.append, max_file_bytes=40_000
        )
    files = sorted(path.name for path in (tmp_path / "hf").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert_same(tmp_path / "hf", model)


# -- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_gguf(make_tiny("bitnet-b1.58"), tmp_path / "a.gguf")


def test_a_folder_is_replaced_only_if_nothing_else_is_in_it(gguf: Path, tmp_path: Path) -> None:
    out = tmp_path / "hf"
    convert(gguf, out, "hf")
    with pytest.raises(InvalidArgumentError, match="hf exists"):
        convert(gguf, out, "hf")
    (out / "config.json").write_text("old")
    convert(gguf, out, "hf", overwrite=True)
    assert config(out)["model_type"] == "bitnet"
    for name in ("notes.txt", "model-1.safetensors"):
        (out / name).write_text("mine")
        with pytest.raises(InvalidArgumentError, match=f"{name} is no file that such folders"):
            convert(gguf, out, "hf", overwrite=True)
        (out / name).unlink()
    (out / "config.json").unlink()
    (out / "config.json").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"config\.json is no file"):
        convert(gguf, out, "hf", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.gguf", "hf"}


def test_files_and_the_source_are_not_replaced(gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="is no folder, and not replaced by one"):
        convert(gguf, gguf, "hf", overwrite=True)
    convert(gguf, tmp_path / "hf", "hf")
    (tmp_path / "link").symlink_to(tmp_path / "hf")
    for source in (tmp_path / "hf", tmp_path / "link", tmp_path / "hf" / "model.safetensors"):
        with pytest.raises(InvalidArgumentError, match="holds the model to convert"):
            convert(source, tmp_path / "hf", "hf", overwrite=True)
    with pytest.raises(InvalidArgumentError, match="is no folder, and not replaced"):
        convert(gguf, tmp_path / "link", "hf", overwrite=True)
    with pytest.raises(InvalidArgumentError, match="cannot write"):
        convert(gguf, tmp_path / "none" / "hf", "hf")


def test_a_failure_leaves_what_was_there(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "hf"
    convert(gguf, out, "hf")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def broken(*_: object) -> None:
        raise InvalidModelError("x", "is not what was written")

    monkeypatch.setattr("bitnet.conversion.output.Written.compare", broken)
    with pytest.raises(InvalidModelError, match="is not what was written"):
        convert(gguf, out, "hf", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.gguf", "hf"}


def test_other_bytes_than_were_given_are_noticed(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitnet.formats import safetensors_writer as writer

    def flipped(folder: Path, *args: Any) -> None:
        writer.write_safetensors(folder, *args)
        file = folder / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)

    monkeypatch.setattr("bitnet.conversion.huggingface.write_safetensors", flipped)
    with pytest.raises(InvalidModelError, match="is not what was written"):
        convert(gguf, tmp_path / "hf", "hf")
    assert not (tmp_path / "hf").exists()


def test_models_that_folders_cannot_hold_are_refused(tmp_path: Path) -> None:
    model = make_tiny("bitnet-b1.58", head_dim=64)
    keys = {f"bitnet-b1.58.attention.{name}_length": 64 for name in ("key", "value")}
    write_tiny_gguf(model, tmp_path / "wide.gguf", metadata=keys)
    with pytest.raises(UnsupportedModelError, match="heads 256 wide in all, not 128"):
        convert(tmp_path / "wide.gguf", tmp_path / "hf", "hf")
    odd = make_tiny("llama", ffn_size=130)
    write_tiny_gguf(odd, tmp_path / "odd.gguf", linear_type="F32")
    with pytest.raises(UnsupportedModelError, match=r"ffn_gate.*: 130 rows cannot be packed by fo"):
        convert(tmp_path / "odd.gguf", tmp_path / "hf", "hf")
    model = make_tiny("llama")
    model.scales["blk.0.attn_v.weight"] = 0.0
    write_tiny_gguf(model, tmp_path / "zero.gguf")
    with pytest.raises(UnsupportedModelError, match=r"attn_v\.weight: its scale is 0"):
        convert(tmp_path / "zero.gguf", tmp_path / "hf", "hf")
    for table in ({"embed": "f16"}, {"head": "q8_0"}):
        with pytest.raises(InvalidArgumentError, match="embed and head are for GGUF files"):
            convert(tmp_path / "zero.gguf", tmp_path / "hf", "hf", **table)
    assert not (tmp_path / "hf").exists()
