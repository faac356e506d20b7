"""The small files of a Hugging Face folder: its configuration and its tokenizer."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np

from bitnet.conversion.origin import Origin
from bitnet.models.embedders import pooling_files
from bitnet.models.spec import ModelSpec
from bitnet.tokenizers.gguf_vocabulary import MODEL_KEY
from bitnet.tokenizers.huggingface_files import find_tokenizer
from bitnet.tokenizers.huggingface_writer import tokenizer_files
from bitnet.tokenizers.tokenizer import Tokenizer

LinearClass = Literal["bitlinear", "autobitlinear"]


def settings_files(origin: Origin, linear_class: LinearClass, dtype: str) -> dict[str, str]:
    """The names and texts of all files but the tensors; no tokenizer if the model has none.

    linear_class: what weight_scale means. dtype: of torch, which loses no bits of the tensors.
    """
    tokenizer = _tokenizer(origin)
    ends = {} if tokenizer is None else _ends_of_texts(tokenizer)
    config = _config(origin, linear_class, dtype) | ends
    files: dict[str, Any] = {"config.json": config, "generation_config.json": ends}
    if origin.spec.pooling is not None:
        files |= pooling_files(origin.spec.pooling, origin.spec.hidden_size)
    texts = {name: json.dumps(values, indent=2) + "\n" for name, values in files.items()}
    return texts if tokenizer is None else texts | tokenizer_files(tokenizer)


def _config(origin: Origin, linear_class: LinearClass, dtype: str) -> dict[str, Any]:
    spec = origin.spec
    # The shortest decimals for a float32, such as 1e-05.
    eps = float(str(np.float32(spec.rms_norm_eps)))
    quantization: dict[str, Any] = {"quant_method": "bitnet", "linear_class": linear_class}
    if linear_class == "autobitlinear":
        quantization["quantization_mode"] = "offline"
    if spec.input_norms:
        quantization |= {"use_rms_norm": True, "rms_norm_eps": eps}
    return {
        **_class(spec),
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.ffn_size,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": eps,
        "rope_theta": spec.rope_theta,
        "tie_word_embeddings": spec.tied_head,
        "attention_bias": False,
        "torch_dtype": dtype,
        "quantization_config": quantization | {"modules_to_not_convert": ["lm_head"]},
    }


def _class(spec: ModelSpec) -> dict[str, Any]:
    """The class of transformers, and what only it has."""
    match spec.architecture:
        case "qwen3":
            name, values = "Qwen3Model", {"model_type": "qwen3", "hidden_act": "silu"}
        case "gemma3":
            name, values = "Gemma3TextModel", _gemma(spec)
        case "llama":
            name, values = "LlamaForCausalLM", {"model_type": "llama", "hidden_act": "silu"}
        case _:
            name = "BitNetForCausalLM"
            values = {"model_type": "bitnet", "hidden_act": spec.activation}
    return {"architectures": [name], **values}


def _gemma(spec: ModelSpec) -> dict[str, Any]:
    """All layers see the whole context, and rotate alike."""
    return {
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": spec.head_dim,
        "layer_types": ["full_attention"] * spec.n_layers,
        "rope_local_base_freq": spec.rope_theta,
    }


def _tokenizer(origin: Origin) -> Tokenizer | None:
    """The tokenizer in the model's own files."""
    if origin.file is not None:
        own = MODEL_KEY in origin.file.metadata
    else:
        own = find_tokenizer(origin.checkpoint.path) is not None
    return origin.checkpoint.tokenizer if own else None


def _ends_of_texts(tokenizer: Tokenizer) -> dict[str, Any]:
    others = sorted(tokenizer.eos_ids - {tokenizer.eos_id})
    ends = [*([] if tokenizer.eos_id is None else [tokenizer.eos_id]), *others]
    values: dict[str, Any] = {}
    if tokenizer.bos_id is not None:
        values["bos_token_id"] = tokenizer.bos_id
    if ends:
        values["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    return values
