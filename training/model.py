"""The bundled model's shape, built from the BitNet classes of transformers."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import BitNetConfig, BitNetForCausalLM
from transformers.integrations.bitnet import AutoBitLinear, replace_with_bitnet_linear
from transformers.utils.quantization_config import BitNetQuantConfig

from .text import VOCAB_SIZE


def story_config(layers: int = 6) -> BitNetConfig:
    """About one million ternary weights a layer; every linear's input is a multiple of 128."""
    return BitNetConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        hidden_act="relu2",
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=[1, 2],
    )


def build(config: BitNetConfig) -> BitNetForCausalLM:
    """A randomly initialised model whose linears quantise weights and activations as they run."""
    model = BitNetForCausalLM(config)
    quantisation = BitNetQuantConfig(
        linear_class="autobitlinear",
        quantization_mode="online",
        modules_to_not_convert=["lm_head"],
    )
    replace_with_bitnet_linear(model, ["lm_head"], quantisation)
    # The replacement leaves the new linears without storage.
    for linear in bit_linears(model).values():
        linear.to_empty(device="cpu")
        nn.init.normal_(linear.weight, std=config.initializer_range)
    return model


def bit_linears(model: nn.Module) -> dict[str, AutoBitLinear]:
    """The quantised linears of a model by their module names."""
    return {n: m for n, m in model.named_modules() if isinstance(m, AutoBitLinear)}


def next_token_loss(model: nn.Module, rows: Tensor) -> Tensor:
    """Mean cross-entropy of each token of ``rows`` (batch, length) after the first."""
    logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
