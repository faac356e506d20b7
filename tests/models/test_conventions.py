"""A tiny model, stored in every way there is, opens as the same spec and the same tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.formats.gguf_writer import TensorData
from bitnet.models.checkpoint import Checkpoint, open_checkpoint

Maker = Callable[..., Any]

# The latent weights made here need float32; a test below has latent weights of every type.
CONVENTIONS = [
    *((c, k) for c in ("bitlinear", "autobitlinear", "unpacked") for k in ("F32", "F16", "BF16")),
    ("online", "F32"),
]


def assert_same(checkpoint: Checkpoint, model: Any, *, rtol: float = 0.0) -> None:
    assert checkpoint.spec == model.spec
    for name, codes in model.codes.items():
        tensor = checkpoint.ternary(name)
        assert tensor.shape == codes.shape
        assert tensor.scale == pytest.approx(model.scales[name], rel=rtol, abs=0)
        parts = [tensor.codes(0, 5), tensor.codes(5, 6), tensor.codes(6, codes.shape[0])]
        assert all(part.flags.c_contiguous and part.dtype == np.uint8 for part in parts)
        np.testing.assert_array_equal(np.concatenate(parts), codes)
    for name, values in model.dense.items():
        tensor = checkpoint.dense(name)
        assert tensor.data.flags.c_contiguous
        np.testing.assert_array_equal(tensor.float32(), values)


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet", "llama"])
@pytest.mark.parametrize(("convention", "kind"), CONVENTIONS)
def test_hugging_face_folders(
    tiny: Maker,
    write_folder_model: Maker,
    tmp_path: Path,
    architecture: str,
    kind: str,
    convention: str,
) -> None:
    model = tiny(architecture)
    path = write_folder_model(model, tmp_path / "model", convention, kind=kind)
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, model, rtol=3e-7)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_latent_weights_are_quantised_by_absmean_as_transformers_does(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path, kind: str
) -> None:
    model = tiny("bitnet-b1.58")
    name, stored = "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"
    weights = np.random.default_rng(1).normal(0, 0.02, (128, 128)).astype(np.float32)
    bits = weights.view(np.uint32) & np.uint32(0xFFFF0000)
    weights = bits.view(np.float32)
    if kind == "F16":
        weights = weights.astype(np.float16).astype(np.float32)
    as_stored = {
        "F32": weights,
        "F16": weights.astype(np.float16),
        "BF16": (weights.view(np.uint32) >> 16).astype(np.uint16),
    }[kind]

    def latent(tensors: dict[str, tuple[str, Any]]) -> None:
        tensors[stored] = (kind, as_stored)

    path = write_folder_model(model, tmp_path / "model", "online", kind="F32", change=latent)
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.ternary(name)
        multiplier = np.float32(1) / np.float32(np.mean(np.abs(weights), dtype=np.float64))
        expected = np.clip(np.rint(weights * multiplier), -1, 1) + 1
        np.testing.assert_array_equal(tensor.codes(0, 128), expected)
        assert tensor.scale == np.float32(1) / multiplier
        assert type(tensor.scale) is float


@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet", "llama"])
@pytest.mark.parametrize("dense_type", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("linear_type", ["I2_S", "F32", "F16"])
def test_gguf_files(
    tiny: Maker,
    write_gguf_model: Maker,
    tmp_path: Path,
    architecture: str,
    dense_type: str,
    linear_type: str,
) -> None:
    model = tiny(architecture)
    path = write_gguf_model(
        model, tmp_path / "m.gguf", dense_type=dense_type, linear_type=linear_type
    )
    if architecture == "llama":  # converters permute q and k for the other pairing
        model.spec = dataclasses.replace(model.spec, rope_pairing="interleaved")
        for name in model.codes:
            heads = {"attn_q": 4, "attn_k": 2}.get(name.split(".")[2])
            if heads:
                halves = model.codes[name].reshape(heads, 2, 16, 128)
                model.codes[name] = halves.swapaxes(1, 2).reshape(-1, 128)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.name == "tiny"
        assert checkpoint.size_bytes == path.stat().st_size
        assert_same(checkpoint, model)


def test_1bitllm_folders_with_their_own_names(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    model = tiny("bitnet")
    path = write_folder_model(model, tmp_path / "model", "1bitllm", kind="F32")
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, model, rtol=3e-7)


def test_early_2b_files_are_the_same_architecture(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    model = tiny("bitnet-b1.58")
    path = write_gguf_model(model, tmp_path / "m.gguf", architecture="bitnet-25")
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, model)


def test_scale_tensors_of_old_files_multiply(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    model = tiny("bitnet")
    extra = TensorData("blk.1.ffn_up.scale", (1,), "F32", np.array([0.75], np.float32))
    path = write_gguf_model(model, tmp_path / "m.gguf", change=lambda tensors: [*tensors, extra])
    model.scales["blk.1.ffn_up.weight"] *= 0.75
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, model)


def test_head_size_need_not_be_hidden_size_over_heads(
    tiny: Maker, write_gguf_model: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    model = tiny("bitnet-b1.58", head_dim=64)
    keys = {f"bitnet-b1.58.attention.{name}_length": 64 for name in ("key", "value")}
    for path in (
        write_gguf_model(model, tmp_path / "m.gguf", metadata=keys),
        write_folder_model(model, tmp_path / "model"),
    ):
        with open_checkpoint(path) as checkpoint:
            assert_same(checkpoint, model)


def test_an_output_head_in_the_file_is_used(
    tiny: Maker, write_gguf_model: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    model = tiny("bitnet-b1.58", tied_head=False)
    for path in (
        write_gguf_model(model, tmp_path / "m.gguf"),
        write_folder_model(model, tmp_path / "a", config={"tie_word_embeddings": None}),
    ):
        with open_checkpoint(path) as checkpoint:
            assert_same(checkpoint, model)


def test_a_tied_head_is_not_read_from_its_copy(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    model = tiny("bitnet-b1.58")

    def copy(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    with open_checkpoint(write_folder_model(model, tmp_path / "a", change=copy)) as checkpoint:
        assert_same(checkpoint, model)


def test_the_last_of_two_settings_counts(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    """As published with Llama3-8B-1.58."""
    model = tiny("llama")
    config = write_folder_model(model, tmp_path / "a", "bitlinear") / "config.json"
    first = '{"quantization_config": {"quant_method": "other"}, '
    config.write_text(first + config.read_text().removeprefix("{"))
    with open_checkpoint(tmp_path / "a") as checkpoint:
        assert_same(checkpoint, model, rtol=3e-7)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 250000.0},
        {"rope_theta": 250000},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 250000.0, "rope_type": "default"}},
        {"rope_theta": 250000.0, "rope_scaling": {"rope_type": "default"}},
    ],
)
def test_rope_theta_is_found_where_transformers_4_and_5_keep_it(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path, rope: dict[str, Any]
) -> None:
    model = tiny("llama", rope_theta=250000.0)
    with open_checkpoint(write_folder_model(model, tmp_path / "a", config=rope)) as checkpoint:
        assert checkpoint.spec == model.spec


def test_a_safetensors_file_stands_for_its_folder(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    folder = write_folder_model(tiny("llama"), tmp_path / "some-model")
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        assert (checkpoint.path, checkpoint.name) == (folder, "some-model")


def test_arrays_outlive_a_closed_checkpoint(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    model = tiny("llama")
    checkpoint = open_checkpoint(write_gguf_model(model, tmp_path / "m.gguf"))
    embedding = checkpoint.dense("token_embd.weight")
    checkpoint.close()
    checkpoint.close()
    np.testing.assert_array_equal(embedding.data, model.dense["token_embd.weight"])
