"""Broken and unsupported models are refused, by errors that name file, tensor and rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelClosedError,
    ModelFileError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.formats.gguf_writer import TensorData
from bitnet.models.checkpoint import open_checkpoint
from bitnet.models.spec import ModelSpec

Maker = Callable[..., Any]
Tensors = list[TensorData]
Edit = Callable[[Any], Any]

ARCH = "bitnet-b1.58"


def replaced(name: str, shape: tuple[int, ...], kind: str, data: Any) -> Edit:
    def edit(tensors: Tensors) -> Tensors:
        others = [tensor for tensor in tensors if tensor.name != name]
        return [*others, TensorData(name, shape, kind, data)]

    return edit


def without(name: str) -> Edit:
    return lambda tensors: [tensor for tensor in tensors if tensor.name != name]


@pytest.mark.parametrize(
    ("edit", "error", "tensor", "rule"),
    [
        (without("blk.1.ffn_up.weight"), InvalidModelError, "blk.1.ffn_up.weight", "is missing"),
        (
            without("blk.0.attn_sub_norm.weight"),
            InvalidModelError,
            "blk.0.attn_sub_norm.weight",
            "is missing",
        ),
        (without("token_embd.weight"), InvalidModelError, "token_embd.weight", "is missing"),
        (
            replaced("output_norm.weight", (64,), "F32", bytes(256)),
            InvalidModelError,
            "output_norm.weight",
            r"has shape \(64,\), not \(128,\)",
        ),
        (
            replaced("token_embd.weight", (48, 128), "F16", bytes(48 * 256)),
            InvalidModelError,
            "token_embd.weight",
            r"has shape \(48, 128\), not \(40, 128\)",
        ),
        (
            replaced("output.weight", (40, 256), "Q6_K", bytes(40 * 210)),
            InvalidModelError,
            "output.weight",
            "has shape",
        ),
        (
            replaced("blk.0.ffn_down.weight", (128, 256), "Q6_K", bytes(128 * 210)),
            UnsupportedModelError,
            "blk.0.ffn_down.weight",
            "type Q6_K is not supported",
        ),
        (
            replaced("blk.0.ffn_down.weight", (128, 256), "Q2_K", bytes(128 * 84)),
            UnsupportedModelError,
            "blk.0.ffn_down.weight",
            "type Q2_K is not supported",
        ),
        (
            replaced("token_embd.weight", (40, 128), "IQ2_BN", bytes(40 * 36)),
            UnsupportedModelError,
            "token_embd.weight",
            "type IQ2_BN is not supported",
        ),
        (
            replaced("blk.0.attn_norm.weight", (128,), "I2_S", bytes(64)),
            UnsupportedModelError,
            "blk.0.attn_norm.weight",
            "type I2_S is not supported",
        ),
        (
            replaced("blk.0.attn_q.bias", (128,), "F32", bytes(512)),
            UnsupportedModelError,
            "blk.0.attn_q.bias",
            "not a part of architecture 'bitnet-b1.58'",
        ),
        (
            replaced("rope_freqs.weight", (16,), "F32", bytes(64)),
            UnsupportedModelError,
            "rope_freqs.weight",
            "not a part of",
        ),
        (
            replaced("blk.0.attn_q.scale", (2,), "F32", bytes(8)),
            InvalidModelError,
            "blk.0.attn_q.scale",
            "must be one float",
        ),
    ],
)
def test_gguf_tensors(
    tiny: Maker,
    write_gguf_model: Maker,
    tmp_path: Path,
    edit: Edit,
    error: type,
    tensor: str,
    rule: str,
) -> None:
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", change=edit)
    with pytest.raises(error, match=rule) as caught:
        open_checkpoint(path)
    assert (caught.value.path, caught.value.tensor) == (str(path), tensor)


@pytest.mark.parametrize(
    ("keys", "error", "rule"),
    [
        (
            {"general.architecture": "gpt2"},
            UnsupportedModelError,
            "architecture 'gpt2' is not one of",
        ),
        ({"general.architecture": None}, InvalidModelError, "'general.architecture' is missing"),
        ({f"{ARCH}.block_count": None}, InvalidModelError, "block_count' is missing"),
        ({f"{ARCH}.block_count": 3}, InvalidModelError, "is missing"),
        ({f"{ARCH}.block_count": 2000}, InvalidModelError, "n_layers must be"),
        ({f"{ARCH}.block_count": "2"}, InvalidModelError, "must be an integer"),
        ({f"{ARCH}.vocab_size": 41}, InvalidModelError, "has shape"),
        ({f"{ARCH}.attention.head_count": 3}, InvalidModelError, "128 is not a multiple of 3"),
        ({f"{ARCH}.attention.head_count_kv": 3}, InvalidModelError, "multiple of n_kv_heads"),
        (
            {f"{ARCH}.rope.dimension_count": 16},
            UnsupportedModelError,
            "is 16, not the head size 32",
        ),
        ({f"{ARCH}.attention.layer_norm_rms_epsilon": np.float32("nan")}, InvalidModelError, "nan"),
        ({f"{ARCH}.rope.scaling.type": "yarn"}, UnsupportedModelError, "rope scaling .yarn"),
        ({f"{ARCH}.rope.scale_linear": 2.0}, UnsupportedModelError, "rope scaling"),
        ({f"{ARCH}.attention.sliding_window": 128}, UnsupportedModelError, "sliding-window"),
    ],
)
def test_gguf_metadata(
    tiny: Maker,
    write_gguf_model: Maker,
    tmp_path: Path,
    keys: dict[str, Any],
    error: type,
    rule: str,
) -> None:
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", metadata=keys)
    with pytest.raises(error, match=rule):
        open_checkpoint(path)


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_a_gguf_with_latent_weights_is_refused_when_they_are_read(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path, kind: str
) -> None:
    """What a file called i2_s holds when its conversion stopped half way."""
    dtype = np.float32 if kind == "F32" else np.float16
    latent = np.random.default_rng(0).normal(size=(128, 128)).astype(dtype)
    edit = replaced("blk.0.attn_q.weight", latent.shape, kind, latent)
    path = write_gguf_model(tiny(ARCH), tmp_path / "ggml-model-i2_s.gguf", change=edit)
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.ternary("blk.0.attn_q.weight")
        with pytest.raises(UnsupportedModelError, match=r"f(32|16) weights are not ternary"):
            tensor.codes(0, 1)
        with pytest.raises(UnsupportedModelError, match=r"blk\.0\.attn_q\.weight"):
            _ = tensor.scale


def test_float_weights_that_are_all_zero_are_ternary(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    edit = replaced("blk.0.attn_q.weight", (128, 128), "F16", bytes(2 * 128 * 128))
    with open_checkpoint(
        write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", change=edit)
    ) as checkpoint:
        assert np.all(checkpoint.ternary("blk.0.attn_q.weight").codes(0, 128) == 1)


def test_i2s_data_that_is_no_code_or_scale_is_refused_when_read(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    data = np.zeros(128 * 128 // 4 + 32, np.uint8)
    data[40] = 0b1100
    data[-32:] = 0xFF
    edit = replaced("blk.0.attn_q.weight", (128, 128), "I2_S", data)
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", change=edit)
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.ternary("blk.0.attn_q.weight")
        with pytest.raises(InvalidModelError, match="is 3, not 0, 1 or 2") as caught:
            tensor.codes(0, 128)
        assert caught.value.tensor == "blk.0.attn_q.weight"
        with pytest.raises(InvalidModelError, match="finite and not negative"):
            _ = tensor.scale


INVALID, UNSUPPORTED = InvalidModelError, UnsupportedModelError
NORM = "model.norm.weight"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def set_to(name: str, dtype: str, array: Any) -> Edit:
    return lambda tensors: tensors.update({name: (dtype, np.asarray(array))})


SCALE, BIAS = f"{Q_PROJ}_scale", Q_PROJ.replace("weight", "bias")
ONES = np.ones(128, np.float32)
SHORT = np.zeros((31, 128), np.uint8)
PACKED = np.zeros((32, 128), np.uint8)
FLOATS = np.zeros((128, 128), np.float32)


@pytest.mark.parametrize(
    ("convention", "edit", "error", "tensor", "rule"),
    [
        ("bitlinear", lambda t: t.pop(Q_PROJ), INVALID, Q_PROJ, "is missing"),
        ("bitlinear", lambda t: t.pop(SCALE), INVALID, SCALE, "is missing"),
        ("bitlinear", set_to(Q_PROJ, "U8", SHORT), INVALID, Q_PROJ, "has shape"),
        ("bitlinear", set_to(Q_PROJ, "F32", FLOATS), UNSUPPORTED, Q_PROJ, "not one of U8 that bit"),
        ("online", set_to(Q_PROJ, "U8", PACKED), UNSUPPORTED, Q_PROJ, "not one of F32, F16, BF16"),
        ("autobitlinear", set_to(Q_PROJ, "I8", FLOATS.astype("i1")), UNSUPPORTED, Q_PROJ, "I8"),
        ("autobitlinear", set_to(SCALE, "F32", ONES[:2]), INVALID, SCALE, "must be one float"),
        ("autobitlinear", set_to(BIAS, "F32", ONES), UNSUPPORTED, BIAS, "not a part of"),
        ("online", set_to(SCALE, "F32", ONES[:1]), UNSUPPORTED, SCALE, "not a part of"),
        ("online", set_to(NORM, "U8", ONES.astype("u1")), UNSUPPORTED, NORM, "type U8"),
    ],
)
def test_hugging_face_tensors(
    tiny: Maker,
    write_folder_model: Maker,
    tmp_path: Path,
    convention: str,
    edit: Edit,
    error: type,
    tensor: str,
    rule: str,
) -> None:
    path = write_folder_model(tiny(ARCH), tmp_path / "m", convention, kind="F32", change=edit)
    with pytest.raises(error, match=rule) as caught:
        open_checkpoint(path)
    assert caught.value.tensor == tensor
    assert caught.value.path.startswith(str(path))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_hugging_face_scales_must_be_positive(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path, value: float
) -> None:
    edit = set_to(f"{Q_PROJ}_scale", "F32", np.full(1, value, np.float32))
    path = write_folder_model(tiny(ARCH), tmp_path / "m", change=edit)
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(InvalidModelError, match="must be finite and positive"),
    ):
        checkpoint.ternary("blk.0.attn_q.weight")


def test_packed_and_trained_data_that_make_no_codes_are_refused_when_read(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    packed = set_to(Q_PROJ, "U8", np.full((32, 128), 0b11, np.uint8))
    trained = set_to(Q_PROJ, "F32", np.full((128, 128), np.nan, np.float32))
    for number, (convention, edit, rule) in enumerate(
        [("bitlinear", packed, "is 3, not 0, 1 or 2"), ("online", trained, "infinities or NaN")]
    ):
        folder = tmp_path / str(number)
        path = write_folder_model(tiny(ARCH), folder, convention, kind="F32", change=edit)
        with open_checkpoint(path) as checkpoint:
            with pytest.raises(InvalidModelError, match=rule) as caught:
                checkpoint.ternary("blk.0.attn_q.weight").codes(0, 128)
            assert caught.value.tensor == Q_PROJ


@pytest.mark.parametrize(
    ("config", "error", "rule"),
    [
        ({"architectures": None}, UnsupportedModelError, "architectures None"),
        ({"architectures": ["Qwen3ForCausalLM"]}, UnsupportedModelError, "Qwen3ForCausalLM"),
        ({"hidden_act": "gelu"}, UnsupportedModelError, "hidden_act 'gelu'"),
        ({"quantization_config": None}, UnsupportedModelError, "not a ternary model"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedModelError, "'bitnet'"),
        ({"attention_bias": True}, UnsupportedModelError, "attention_bias is set"),
        ({"rope_scaling": {"rope_type": "llama3"}}, UnsupportedModelError, "'llama3'"),
        ({"rope_scaling": {"type": "linear"}}, UnsupportedModelError, "'linear'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, UnsupportedModelError, "'yarn'"),
        ({"rope_parameters": 7}, InvalidModelError, "rope_parameters must be an object"),
        ({"partial_rotary_factor": 0.5}, UnsupportedModelError, "partial_rotary_factor"),
        ({"hidden_size": None}, InvalidModelError, "hidden_size must be a positive integer"),
        ({"hidden_size": True}, InvalidModelError, "hidden_size must be a positive integer"),
        ({"num_hidden_layers": 10**6}, InvalidModelError, "n_layers"),
        ({"num_hidden_layers": 3}, InvalidModelError, "is missing"),
        ({"head_dim": None, "num_attention_heads": 3}, InvalidModelError, "multiple of 3 heads"),
        ({"rms_norm_eps": 1e300}, InvalidModelError, "rms_norm_eps must be in .* not inf"),
        ({"rms_norm_eps": "1e-5"}, InvalidModelError, "rms_norm_eps must be a number"),
        ({"rope_theta": 10**400}, InvalidModelError, "rope_theta must be a number"),
        ({"tie_word_embeddings": 1}, InvalidModelError, "tie_word_embeddings"),
        ({"tie_word_embeddings": False}, InvalidModelError, "is missing"),
    ],
)
def test_hugging_face_configs(
    tiny: Maker,
    write_folder_model: Maker,
    tmp_path: Path,
    config: dict[str, Any],
    error: type,
    rule: str,
) -> None:
    path = write_folder_model(tiny(ARCH), tmp_path / "m")
    values = {**json.loads((path / "config.json").read_text()), **config}
    text = json.dumps({key: value for key, value in values.items() if value is not None})
    (path / "config.json").write_text(text)
    with pytest.raises(error, match=rule):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("settings", "error", "rule"),
    [
        ({"use_rms_norm": True}, UnsupportedModelError, "use_rms_norm"),
        ({"linear_class": "other"}, InvalidModelError, "linear_class 'other'"),
        ({"quantization_mode": "other"}, InvalidModelError, "mode 'other'"),
        ({"modules_to_not_convert": ["o_proj"]}, UnsupportedModelError, "modules_to_not_convert"),
        (
            {"modules_to_not_convert": ["model.layers.1"]},
            UnsupportedModelError,
            "layers.1.self_attn",
        ),
        ({"modules_to_not_convert": "lm_head"}, UnsupportedModelError, "must be a list"),
        ({"modules_to_not_convert": ["(a+)+$"]}, UnsupportedModelError, "must be a list of module"),
        (
            {"modules_to_not_convert": [], "quantization_mode": "online"},
            UnsupportedModelError,
            "output head is not in modules_to_not_convert",
        ),
    ],
)
def test_quantization_configs(
    tiny: Maker,
    write_folder_model: Maker,
    tmp_path: Path,
    settings: dict[str, Any],
    error: type,
    rule: str,
) -> None:
    path = write_folder_model(tiny(ARCH), tmp_path / "m", quantization=settings)
    with pytest.raises(error, match=rule):
        open_checkpoint(path)


def test_modules_that_are_kept_float_may_be_named(
    tiny: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    settings = {"modules_to_not_convert": ["lm_head", "model.layers.11"]}
    open_checkpoint(write_folder_model(tiny(ARCH), tmp_path / "m", quantization=settings)).close()


def test_a_folder_without_a_config_and_a_missing_path(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(InvalidModelError, match=r"config\.json"):
        open_checkpoint(tmp_path)
    with pytest.raises(ModelNotFoundError, match="nope"):
        open_checkpoint(tmp_path / "nope")


def test_names_and_use_after_close(tiny: Maker, write_gguf_model: Maker, tmp_path: Path) -> None:
    with open_checkpoint(write_gguf_model(tiny(ARCH), tmp_path / "m.gguf")) as checkpoint:
        with pytest.raises(InvalidArgumentError, match="no such tensor: output"):
            checkpoint.dense("output.weight")
        with pytest.raises(InvalidArgumentError, match="no such tensor"):
            checkpoint.ternary("token_embd.weight")
        linear = checkpoint.ternary("blk.0.attn_q.weight")
    for use in (
        lambda: checkpoint.ternary("blk.0.attn_q.weight"),
        lambda: checkpoint.dense("token_embd.weight"),
        lambda: linear.codes(0, 1),
        lambda: checkpoint.tokenizer,
    ):
        with pytest.raises(ModelClosedError, match="is closed"):
            use()


def test_a_model_without_tokenizer_opens_and_says_so_when_asked(
    tiny: Maker, write_gguf_model: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    for path in (
        write_gguf_model(tiny(ARCH), tmp_path / "m.gguf"),
        write_folder_model(tiny(ARCH), tmp_path / "m"),
    ):
        with (
            open_checkpoint(path) as checkpoint,
            pytest.raises(ModelFileError, match="holds no tokenizer"),
        ):
            _ = checkpoint.tokenizer


def test_a_tokenizer_larger_than_the_model_is_refused(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path
) -> None:
    keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [f"t{id}" for id in range(41)],
        "tokenizer.ggml.merges": np.empty(0, np.float32),
    }
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", metadata=keys)
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(InvalidModelError, match="must be an array of strings"),
    ):
        _ = checkpoint.tokenizer
    keys["tokenizer.ggml.merges"] = ["t 1"]
    keys["tokenizer.ggml.tokens"][-2:] = ["t", "1"]
    path = write_gguf_model(tiny(ARCH), tmp_path / "m.gguf", metadata=keys)
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(InvalidModelError, match="has 41 tokens, the model only 40"),
    ):
        _ = checkpoint.tokenizer


def test_a_tensor_is_found_without_listing_all_others(
    tiny: Maker, write_gguf_model: Maker, write_folder_model: Maker, tmp_path: Path
) -> None:
    """Or else opening a deep model would take time by the square of its layers."""
    model = tiny(ARCH)
    for path in (
        write_gguf_model(model, tmp_path / "m.gguf"),
        write_folder_model(model, tmp_path / "folder"),
    ):
        with open_checkpoint(path) as checkpoint, pytest.MonkeyPatch.context() as patch:
            names = [*checkpoint.spec.ternary_shapes()], [*checkpoint.spec.dense_shapes()]
            for method in ("ternary_shapes", "dense_shapes"):
                patch.setattr(ModelSpec, method, None)
            for name in names[0]:
                assert checkpoint.ternary(name).shape
            for name in names[1]:
                assert checkpoint.dense(name).data.size
