"""Small random models as Hugging Face folders, and what transformers makes of them in float32.

Needs torch and transformers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, pack_weights

from tests.parity.agreement import Agreement, judge
from tests.parity.cases import Case, Style
from tests.parity.expected import Expected
from tests.parity.plain import PlainModel

F32 = npt.NDArray[np.float32]

_DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
_QUANTIZATION: dict[Style, dict[str, Any]] = {
    "b1.58-packed": {"linear_class": "autobitlinear", "quantization_mode": "offline"},
    "b1.58-latent": {"linear_class": "autobitlinear", "quantization_mode": "online"},
    "1bitllm": {"linear_class": "autobitlinear", "quantization_mode": "online"},
    "llama-packed": {"modules_to_not_convert": ["lm_head"]},
}


def config(case: Case) -> dict[str, Any]:
    """config.json, with the keys that published checkpoints of the style have."""
    llama = case.style == "llama-packed"
    values = {
        "architectures": ["LlamaForCausalLM" if llama else "BitNetForCausalLM"],
        "model_type": "llama" if llama else "bitnet",
        "hidden_act": "relu2" if case.style.startswith("b1.58") else "silu",
        "hidden_size": case.hidden,
        "intermediate_size": case.ffn,
        "num_hidden_layers": case.layers,
        "num_attention_heads": case.heads,
        "num_key_value_heads": case.kv_heads,
        "vocab_size": case.vocab,
        "max_position_embeddings": 512,
        "rms_norm_eps": case.eps,
        "rope_theta": case.theta,
        "tie_word_embeddings": case.tied,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[case.dtype],
        "quantization_config": {"quant_method": "bitnet", **_QUANTIZATION[case.style]},
    }
    if case.head_dim is not None:
        values["head_dim"] = case.head_dim
    # transformers runs those of 1bitLLM under other names, as `write` has it.
    return values if case.style == "1bitllm" else {**values, **case.published}


def tensors(case: Case) -> dict[str, torch.Tensor]:
    """Random weights under the names and in the types of published checkpoints.

    Spread so that attention is neither flat nor one-hot, that norms matter, and that the layers
    rather than the embedding decide the largest logit.
    """
    rng, dtype = np.random.default_rng(case.seed), _DTYPES[case.dtype]
    head_dim = case.head_dim or case.hidden // case.heads
    q, kv, hidden, ffn = case.heads * head_dim, case.kv_heads * head_dim, case.hidden, case.ffn
    out: dict[str, torch.Tensor] = {}

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(std))

    def norm(name: str, width: int) -> None:
        out[f"{name}.weight"] = torch.exp(normal(width, std=0.3)).to(dtype)

    def linear(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        gain *= float(rng.uniform(0.7, 1.4))
        weight = normal(rows, columns, std=gain / columns**0.5).to(dtype)
        if not case.style.endswith("packed"):
            out[f"{name}.weight"] = weight
            return
        mean = weight.float().abs().mean()
        scale = 1 / mean if case.style == "llama-packed" else mean
        out[f"{name}.weight"] = pack_weights((weight.float() / mean).round().clamp(-1, 1))
        out[f"{name}.weight_scale"] = scale.reshape(1).to(dtype)

    out["model.embed_tokens.weight"] = normal(case.vocab, hidden, std=0.15).to(dtype)
    for n in range(case.layers):
        layer = f"model.layers.{n}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        norm(f"{layer}.input_layernorm", hidden)
        norm(f"{layer}.post_attention_layernorm", hidden)
        if case.style != "llama-packed":
            norm(f"{attention}.attn_sub_norm", q)
            norm(f"{mlp}.ffn_sub_norm", ffn)
        linear(f"{attention}.q_proj", q, hidden, gain=1.4)
        linear(f"{attention}.k_proj", kv, hidden, gain=1.4)
        linear(f"{attention}.v_proj", kv, hidden)
        linear(f"{attention}.o_proj", hidden, q)
        linear(f"{mlp}.gate_proj", ffn, hidden)
        linear(f"{mlp}.up_proj", ffn, hidden)
        linear(f"{mlp}.down_proj", hidden, ffn)
    norm("model.norm", hidden)
    if not case.tied:
        out["lm_head.weight"] = normal(case.vocab, hidden, std=0.15).to(dtype)
    return out


def write(case: Case, folder: Path) -> tuple[list[Expected], Agreement]:
    """Write the model into `folder`, run random sequences through transformers and the plain model.

    Gives what transformers computes, and how well the two agree; too badly is an error.
    """
    values, weights = config(case), tensors(case)
    _save(folder, values, weights)
    plain = PlainModel(folder)
    rng = np.random.default_rng([case.seed, 1])
    sequences = [rng.choice(plain.settled_ids(), n).astype(np.int32) for n in case.lengths]
    exact = [plain.logits(ids) for ids in sequences]
    expected = [
        Expected(ids, logits, tie_free)
        for ids, logits, (_, tie_free) in zip(
            sequences, transformers_logits(folder, sequences), exact, strict=True
        )
    ]
    if case.style == "1bitllm":
        del values["quantization_config"]
        values |= {"architectures": ["BitnetForCausalLM"], "model_type": "llama"}
        values |= {"weight_bits": 1, "input_bits": 8, **case.published}
        _save(folder, values, {_name_in_1bitllm(name): weight for name, weight in weights.items()})
    return expected, judge([logits for logits, _ in exact], expected, case.layers)


def transformers_logits(folder: Path, sequences: Sequence[npt.NDArray[np.int32]]) -> list[F32]:
    """float32 logits (tokens, vocab) of each sequence."""
    model = load(folder)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        batches = [torch.from_numpy(ids.astype(np.int64))[None] for ids in sequences]
        return [model(ids, use_cache=False).logits[0].numpy() for ids in batches]


def transformers_states(folder: Path, ids: npt.NDArray[np.int64]) -> F32:
    """float32 hidden states (texts, tokens, width) of a model without an output head."""
    model = load(folder, AutoModel)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return model(torch.from_numpy(ids), use_cache=False).last_hidden_state.numpy()


def load(folder: Path, kind: Any = AutoModelForCausalLM) -> PreTrainedModel:
    """The model in `folder` as a float32 one of transformers."""
    # Compiling the functions for packed weights would take longer than running them.
    with torch.compiler.set_stance("force_eager"):
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    assert not any(report.values()), report
    # Offline checkpoints keep the stored type of what is not a linear, whatever dtype says.
    torch.nn.Module.float(model)
    linears = [m for m in model.modules() if isinstance(m, (BitLinear, AutoBitLinear))]
    assert len(linears) == 7 * model.config.num_hidden_layers
    assert all(m.dtype == torch.float32 for m in linears if isinstance(m, BitLinear))
    return model


def _name_in_1bitllm(name: str) -> str:
    return name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm")


def _save(folder: Path, values: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
