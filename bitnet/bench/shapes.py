"""The shapes of the published ternary models."""

from __future__ import annotations

from bitnet.models import ModelSpec


def _spec(
    architecture: str,
    layers: int,
    hidden: int,
    ffn: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    vocab: int,
    context: int,
) -> ModelSpec:
    llama = architecture == "llama"
    return ModelSpec(
        architecture=architecture,
        n_layers=layers,
        hidden_size=hidden,
        ffn_size=ffn,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        context_length=context,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_pairing="interleaved" if llama else "halves",
        activation="relu2" if architecture == "bitnet-b1.58" else "silu",
        sub_norms=not llama,
        tied_head=not llama,
    )


SHAPES = {
    "2b4t": _spec("bitnet-b1.58", 30, 2560, 6912, 20, 5, 128, 128256, 4096),
    "large": _spec("bitnet", 24, 1536, 4096, 16, 16, 96, 32002, 2048),
    "3b": _spec("bitnet", 26, 3200, 8640, 32, 32, 100, 32002, 2048),
    "llama3-8b": _spec("llama", 32, 4096, 14336, 32, 8, 128, 128256, 8192),
    "falcon3-1b": _spec("llama", 18, 2048, 8192, 8, 4, 256, 131072, 8192),
    "falcon3-3b": _spec("llama", 22, 3072, 9216, 12, 4, 256, 131072, 32768),
    "falcon3-7b": _spec("llama", 28, 3072, 23040, 12, 4, 256, 131072, 32768),
    "falcon3-10b": _spec("llama", 40, 3072, 23040, 12, 4, 256, 131072, 32768),
    "falcon-e-1b": _spec("llama", 24, 2048, 8192, 16, 2, 128, 32768, 32768),
    "falcon-e-3b": _spec("llama", 32, 2048, 13312, 16, 2, 128, 32768, 32768),
}
"""BitNet b1.58 2B-4T; bitnet_b1_58-large and -3B; Llama3-8B-1.58; Falcon3; Falcon-E."""
