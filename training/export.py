"""Write a trained model as a packed Hugging Face folder and as a GGUF file with I2_S weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import BitNetForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from bitnet.formats.gguf_writer import TensorData, WritableValue, write_gguf
from bitnet.quant import i2s
from bitnet.quant.ternary import absmean_multiplier, pack_quarters, quantize

from .model import bit_linears

ARCHITECTURE = "bitnet-b1.58"
EMBEDDING = "model.embed_tokens.weight"
FILE_TYPE_I2_S = 40
NORMAL_TOKEN, CONTROL_TOKEN = 1, 3

_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
}


def ternary_weights(model: BitNetForCausalLM) -> dict[str, tuple[NDArray[np.uint8], float]]:
    """Codes (outputs, inputs) and scale mean|w| of each quantised linear by its weight's name."""
    result = {}
    for name, linear in bit_linears(model).items():
        latent = linear.weight.detach().float().numpy()
        multiplier = absmean_multiplier([latent])
        scale = float(np.float32(1) / multiplier)
        result[f"{name}.weight"] = quantize(latent, multiplier), scale
    return result


def dense_weights(model: BitNetForCausalLM) -> dict[str, NDArray[np.floating]]:
    """The other weights: the embedding, which is also the head, in float16; norms in float32."""
    linears = {f"{name}.weight" for name in bit_linears(model)}
    weights = {n: p.detach().float().numpy() for n, p in model.named_parameters()}
    dense = {name: data for name, data in weights.items() if name not in linears}
    dense[EMBEDDING] = dense[EMBEDDING].astype(np.float16)
    return dense


def export_huggingface(
    model: BitNetForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write a folder in the packed form of BitNet b1.58 2B-4T (autobitlinear, offline)."""
    folder.mkdir(parents=True, exist_ok=True)
    # In float32, though of half the precision: transformers computes with what it finds here.
    tensors = {name: data.astype(np.float32) for name, data in dense_weights(model).items()}
    for name, (codes, scale) in ternary_weights(model).items():
        tensors[name] = pack_quarters(codes)
        tensors[f"{name}_scale"] = np.array([scale], dtype=np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    config = model.config.to_dict() | {
        "architectures": ["BitNetForCausalLM"],
        "dtype": "float32",
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
            "modules_to_not_convert": ["lm_head"],
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)


def export_gguf(
    model: BitNetForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str, path: Path
) -> None:
    """Write one file with weights, tokenizer and chat template; ``name`` is the model's name."""
    ternary = ternary_weights(model)
    tensors = []
    for weight, data in dense_weights(model).items():
        kind = "F16" if data.dtype == np.float16 else "F32"
        tensors.append(TensorData(gguf_name(weight), data.shape, kind, data))
    for weight, (codes, scale) in ternary.items():
        tensors.append(TensorData(gguf_name(weight), codes.shape, "I2_S", i2s.pack(codes, scale)))
    write_gguf(path, model_metadata(model, name) | tokenizer_metadata(tokenizer), tensors)


def gguf_name(name: str) -> str:
    """``model.layers.0.mlp.up_proj.weight`` -> ``blk.0.ffn_up.weight``, and so on."""
    if name == EMBEDDING:
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    layer, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{_GGUF_NAMES[module]}.weight"


def model_metadata(model: BitNetForCausalLM, name: str) -> dict[str, WritableValue]:
    config = model.config
    shape = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "rope.dimension_count": config.hidden_size // config.num_attention_heads,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
    }
    return {
        "general.architecture": ARCHITECTURE,
        "general.name": name,
        "general.license": "mit",
        "general.file_type": FILE_TYPE_I2_S,
        "general.quantization_version": 2,
        **{f"{ARCHITECTURE}.{key}": value for key, value in shape.items()},
    }


def tokenizer_metadata(tokenizer: PreTrainedTokenizerFast) -> dict[str, WritableValue]:
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_tokens)
    kinds = [CONTROL_TOKEN if token in special else NORMAL_TOKEN for token in tokens]
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(kinds, dtype=np.int32),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": tokenizer.bos_token_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.eot_token_id": tokenizer.convert_tokens_to_ids("<|eot_id|>"),
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": tokenizer.chat_template,
    }
