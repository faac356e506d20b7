"""The random models that are compared: shapes, styles, and the lengths of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# How published checkpoints of the four kinds keep their weights:
# 2B-4T; 2B-4T-bf16; 1bitLLM large and 3B; Llama3-8B-1.58, Falcon3 and Falcon-E.
Style = Literal["b1.58-packed", "b1.58-latent", "1bitllm", "llama-packed"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A random model, and the lengths of the random sequences to run through it."""

    name: str
    style: Style
    seed: int
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    lengths: tuple[int, ...]
    head_dim: int | None = None
    """None is hidden / heads, as in all BitNet checkpoints."""
    theta: float = 10000.0
    eps: float = 1e-5
    tied: bool = True
    dtype: Literal["bf16", "f16", "f32"] = "bf16"
    published: Mapping[str, Any] = field(default_factory=dict)
    """What config.json has besides or instead."""


# In a deep model only the start of a sequence is free of ties, so there are many starts.
STARTS = (5, 5, 4, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1)

FIXTURES = (
    Case(
        name="b1.58-packed",
        style="b1.58-packed",
        seed=11,
        layers=1,
        hidden=128,
        ffn=352,
        heads=4,
        kv_heads=2,
        vocab=257,
        lengths=(33, 32, 31, 1),
        theta=500000.0,
    ),
    Case(
        name="b1.58-packed-long",
        style="b1.58-packed",
        seed=12,
        layers=1,
        hidden=96,
        ffn=200,
        heads=3,
        kv_heads=1,
        vocab=101,
        lengths=(300,),
        theta=500000.0,
    ),
    Case(
        name="b1.58-packed-deep",
        style="b1.58-packed",
        seed=13,
        layers=6,
        hidden=128,
        ffn=256,
        heads=4,
        kv_heads=2,
        vocab=113,
        lengths=(100, *STARTS),
        theta=500000.0,
    ),
    Case(
        name="b1.58-latent",
        style="b1.58-latent",
        seed=14,
        layers=1,
        hidden=96,
        ffn=160,
        heads=6,
        kv_heads=2,
        vocab=67,
        lengths=(65, 64, 63),
    ),
    Case(
        name="b1.58-latent-deep",
        style="b1.58-latent",
        seed=15,
        layers=4,
        hidden=64,
        ffn=128,
        heads=4,
        kv_heads=1,
        vocab=79,
        lengths=(70, *STARTS),
    ),
    Case(
        name="1bitllm",
        style="1bitllm",
        seed=16,
        layers=1,
        hidden=80,
        ffn=176,
        heads=5,
        kv_heads=5,
        vocab=131,
        lengths=(65, 40, 2),
        dtype="f16",
    ),
    Case(
        name="1bitllm-deep",
        style="1bitllm",
        seed=17,
        layers=4,
        hidden=64,
        ffn=136,
        heads=2,
        kv_heads=2,
        vocab=61,
        lengths=(130, *STARTS),
        dtype="f16",
    ),
    Case(
        name="llama-packed",
        style="llama-packed",
        seed=18,
        layers=1,
        hidden=128,
        ffn=320,
        heads=4,
        kv_heads=1,
        head_dim=48,
        vocab=259,
        lengths=(40, 20, 1),
        theta=1000042.0,
        eps=1e-6,
        tied=False,
    ),
    Case(
        name="llama-packed-long",
        style="llama-packed",
        seed=19,
        layers=1,
        hidden=64,
        ffn=192,
        heads=4,
        kv_heads=4,
        head_dim=20,
        vocab=97,
        lengths=(300,),
        eps=1e-6,
        tied=False,
    ),
    Case(
        name="llama-packed-deep",
        style="llama-packed",
        seed=20,
        layers=5,
        hidden=128,
        ffn=256,
        heads=8,
        kv_heads=2,
        vocab=151,
        lengths=(200, *STARTS),
        theta=500000.0,
        tied=False,
    ),
)

# Other seeds and shapes than the fixtures'.
LIVE = (
    Case(
        name="b1.58-packed-untied",
        style="b1.58-packed",
        seed=31,
        layers=1,
        hidden=160,
        ffn=420,
        heads=5,
        kv_heads=1,
        vocab=333,
        lengths=(129, 30),
        theta=500000.0,
        tied=False,
    ),
    Case(
        name="b1.58-packed-deep-f32",
        style="b1.58-packed",
        seed=32,
        layers=3,
        hidden=192,
        ffn=512,
        heads=6,
        kv_heads=3,
        vocab=1001,
        lengths=(150, *STARTS),
        dtype="f32",
    ),
    Case(
        name="b1.58-latent-wide-heads",
        style="b1.58-latent",
        seed=33,
        layers=1,
        hidden=256,
        ffn=300,
        heads=2,
        kv_heads=2,
        vocab=97,
        lengths=(100, 65),
        eps=1e-3,
    ),
    Case(
        name="b1.58-latent-deep-f32",
        style="b1.58-latent",
        seed=34,
        layers=5,
        hidden=128,
        ffn=384,
        heads=8,
        kv_heads=4,
        vocab=211,
        lengths=(90, *STARTS),
        dtype="f32",
    ),
    Case(
        name="1bitllm-f32-long",
        style="1bitllm",
        seed=35,
        layers=1,
        hidden=144,
        ffn=272,
        heads=4,
        kv_heads=2,
        vocab=89,
        lengths=(400,),
        dtype="f32",
    ),
    Case(
        name="1bitllm-deep-gqa",
        style="1bitllm",
        seed=36,
        layers=3,
        hidden=128,
        ffn=344,
        heads=4,
        kv_heads=1,
        vocab=127,
        lengths=(80, *STARTS),
        dtype="f16",
    ),
    Case(
        name="llama-packed-tied",
        style="llama-packed",
        seed=37,
        layers=1,
        hidden=128,
        ffn=256,
        heads=8,
        kv_heads=4,
        head_dim=64,
        vocab=515,
        lengths=(97, 33),
        theta=1000000.0,
        eps=1e-6,
    ),
    Case(
        name="llama-packed-deep-f16",
        style="llama-packed",
        seed=38,
        layers=6,
        hidden=256,
        ffn=512,
        heads=4,
        kv_heads=2,
        vocab=401,
        lengths=(120, *STARTS),
        tied=False,
        dtype="f16",
    ),
)
