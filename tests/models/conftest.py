"""A tiny random model of each architecture, and writers for everything it can be stored as."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models.spec import ModelSpec
from bitnet.quant import i2s, ternary, tl1, tl2
from bitnet.quant.tl_config import Blocks

Array = npt.NDArray[Any]

HF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_sub_norm": "self_attn.attn_sub_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
}


def hf_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.weight"
    return f"{HF_NAMES[parts[0]]}.weight"


def bf16(values: Array) -> Array:
    """The bits of float32 values that bfloat16 can hold."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    assert not np.any(bits & 0xFFFF)
    return (bits >> 16).astype(np.uint16)


def rounded(values: Array) -> Array:
    """Float32 values cut to what both float16 and bfloat16 can hold."""
    bits = np.asarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float16).astype(np.float32)


@dataclass
class TinyModel:
    """Codes and scales of the linear layers and float32 values of the rest, canonical names."""

    spec: ModelSpec
    codes: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    dense: dict[str, Array] = field(default_factory=dict)

    def latent(self, name: str) -> Array:
        """Float32 weights that absmean quantisation turns into these codes and this scale."""
        codes, scale = self.codes[name].astype(np.float32) - 1, np.float32(self.scales[name])
        weights = codes * np.float32(1.5) * scale
        zeros = codes == 0
        # The mean of |w| is to be the scale: zeros get what is missing, below half of it.
        missing = codes.size - 1.5 * np.count_nonzero(codes)
        small = np.float32(missing / np.count_nonzero(zeros)) * scale
        assert 0 <= small < 0.45 * scale
        weights[zeros] = small
        return weights


def make_tiny(architecture: str, **changes: Any) -> TinyModel:
    sizes: dict[str, Any] = {
        "n_layers": 2,
        "hidden_size": 128,
        "ffn_size": 256,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 32,
        "vocab_size": 40,
        "context_length": 64,
        "rms_norm_eps": float(np.float32(1e-5)),
        "rope_theta": 10000.0,
        "rope_pairing": "halves",
        "activation": "relu2" if architecture == "bitnet-b1.58" else "silu",
        "sub_norms": architecture != "llama",
        "tied_head": architecture != "llama",
    }
    model = TinyModel(ModelSpec(architecture=architecture, **{**sizes, **changes}))
    random = np.random.default_rng(7)
    for name, shape in model.spec.ternary_shapes().items():
        flat = np.ones(shape[0] * shape[1], np.uint8)
        flat[: flat.size * 5 // 8] = random.integers(0, 2, flat.size * 5 // 8) * 2
        random.shuffle(flat)
        model.codes[name] = flat.reshape(shape)
        model.scales[name] = 2.0 ** -int(random.integers(1, 8))
    for name, dense_shape in model.spec.dense_shapes().items():
        model.dense[name] = rounded(random.normal(1, 0.3, dense_shape).astype(np.float32))
    return model


def interleave_rows(rows: Array, heads: int) -> Array:
    """What converters do to q and k of Llama models: pairs (i, i + d/2) become (2i, 2i + 1)."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def write_tiny_gguf(
    model: TinyModel,
    path: Path,
    *,
    architecture: str | None = None,
    linear_type: str = "I2_S",
    dense_type: str = "F32",
    metadata: dict[str, Any] | None = None,
    blocks: Mapping[tuple[int, int], Blocks] | None = None,
    change: Callable[[list[TensorData]], list[TensorData]] = lambda tensors: tensors,
) -> Path:
    spec, arch = model.spec, architecture or model.spec.architecture
    keys: dict[str, Any] = {
        "general.architecture": arch,
        "general.name": "tiny",
        f"{arch}.block_count": spec.n_layers,
        f"{arch}.context_length": spec.context_length,
        f"{arch}.embedding_length": spec.hidden_size,
        f"{arch}.feed_forward_length": spec.ffn_size,
        f"{arch}.attention.head_count": spec.n_heads,
        f"{arch}.attention.head_count_kv": spec.n_kv_heads,
        f"{arch}.attention.layer_norm_rms_epsilon": np.float32(spec.rms_norm_eps),
        f"{arch}.rope.dimension_count": spec.head_dim,
        f"{arch}.rope.freq_base": np.float32(spec.rope_theta),
        f"{arch}.vocab_size": spec.vocab_size,
        **(metadata or {}),
    }
    tensors = [
        TensorData(name, values.shape, dense_type, as_type(values, dense_type))
        for name, values in model.dense.items()
    ]
    for name, original in model.codes.items():
        codes = original
        if arch == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = spec.n_heads if "attn_q" in name else spec.n_kv_heads
            codes = interleave_rows(codes, heads)
        scale = model.scales[name]
        if linear_type == "I2_S":
            data = i2s.pack(codes, scale)
        elif blocks is not None:
            data = (tl1 if linear_type == "TL1" else tl2).pack(codes, scale, blocks[codes.shape])
        else:
            floats = (codes.astype(np.float32) - 1) * np.float32(scale)
            data = as_type(floats, linear_type)
        tensors.append(TensorData(name, codes.shape, linear_type, data))
    write_gguf(path, {k: v for k, v in keys.items() if v is not None}, change(tensors))
    return path


def as_type(values: Array, kind: str) -> Array:
    if kind in ("F16", "BF16"):
        return values.astype(np.float16) if kind == "F16" else bf16(values)
    return values.astype(np.float32)


def hf_config(model: TinyModel, **changes: Any) -> dict[str, Any]:
    spec = model.spec
    config: dict[str, Any] = {
        "architectures": [
            "LlamaForCausalLM" if spec.architecture == "llama" else "BitNetForCausalLM"
        ],
        "hidden_act": spec.activation,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.ffn_size,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": spec.rms_norm_eps,
        "rope_theta": spec.rope_theta,
        "tie_word_embeddings": spec.tied_head,
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None}


CONVENTIONS = ("bitlinear", "autobitlinear", "unpacked", "online", "1bitllm")


def write_tiny_folder(
    model: TinyModel,
    folder: Path,
    convention: str = "autobitlinear",
    *,
    kind: str = "BF16",
    config: dict[str, Any] | None = None,
    quantization: dict[str, Any] | None = None,
    change: Callable[[dict[str, tuple[str, Array]]], None] = lambda _: None,
) -> Path:
    """A folder with config.json and model.safetensors; `change` edits name -> (dtype, array)."""
    settings: dict[str, Any] = {"quant_method": "bitnet"}
    if convention in ("autobitlinear", "unpacked", "online"):
        mode = "online" if convention == "online" else "offline"
        settings |= {"linear_class": "autobitlinear", "quantization_mode": mode}
    values = hf_config(model, quantization_config={**settings, **(quantization or {})})
    if convention == "1bitllm":
        del values["quantization_config"]
        values |= {"architectures": ["BitnetForCausalLM"], "weight_bits": 1, "input_bits": 8}
    tensors = {hf_name(n): (kind, as_type(v, kind)) for n, v in model.dense.items()}
    if convention == "1bitllm":
        tensors = {
            name.replace("attn_sub_norm", "inner_attn_ln").replace(
                "ffn_sub_norm", "ffn_layernorm"
            ): t
            for name, t in tensors.items()
        }
    for name, codes in model.codes.items():
        stored = hf_name(name)
        scale = np.float32(model.scales[name])
        if convention in ("online", "1bitllm"):
            tensors[stored] = (kind, as_type(model.latent(name), kind))
            continue
        if convention == "unpacked":
            tensors[stored] = (kind, as_type(codes.astype(np.float32) - 1, kind))
        else:
            tensors[stored] = ("U8", ternary.pack_quarters(codes))
        factor = 1 / scale if convention == "bitlinear" else scale
        tensors[f"{stored}_scale"] = (kind, as_type(np.array([factor], np.float32), kind))
    change(tensors)
    folder.mkdir(exist_ok=True)
    merged = {k: v for k, v in {**values, **(config or {})}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(merged))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_safetensors(path: Path, tensors: dict[str, tuple[str, Array]]) -> None:
    """By hand, because the library writes no bfloat16 from numpy."""
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        start = len(data)
        data += np.ascontiguousarray(array).tobytes()
        offsets = [start, len(data)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture(name="tiny")
def tiny_fixture() -> Callable[..., TinyModel]:
    return make_tiny


@pytest.fixture(name="write_gguf_model")
def write_gguf_fixture() -> Callable[..., Path]:
    return write_tiny_gguf


@pytest.fixture(name="write_folder_model")
def write_folder_fixture() -> Callable[..., Path]:
    return write_tiny_folder
