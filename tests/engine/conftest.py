"""A small model with random weights that knows bytes: it says nonsense, reproducibly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models import ModelSpec
from bitnet.quant import i2s

SPEC = ModelSpec(
    architecture="bitnet-b1.58",
    n_layers=2,
    hidden_size=128,
    ffn_size=256,
    n_heads=4,
    n_kv_heads=2,
    head_dim=32,
    vocab_size=260,
    context_length=256,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_pairing="halves",
    activation="relu2",
    sub_norms=True,
    tied_head=True,
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(7)
    arch = SPEC.architecture
    tensors = []
    for name, shape in SPEC.dense_shapes().items():
        values = rng.normal(0, 0.2, shape) if len(shape) == 2 else np.ones(shape)
        kind, dtype = ("F16", np.float16) if len(shape) == 2 else ("F32", np.float32)
        tensors.append(TensorData(name, shape, kind, values.astype(dtype)))
    for name, shape in SPEC.ternary_shapes().items():
        codes = rng.integers(0, 3, shape, np.uint8)
        tensors.append(TensorData(name, shape, "I2_S", i2s.pack(codes, 0.1)))
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    write_gguf(
        path,
        {
            "general.architecture": arch,
            f"{arch}.block_count": SPEC.n_layers,
            f"{arch}.context_length": SPEC.context_length,
            f"{arch}.embedding_length": SPEC.hidden_size,
            f"{arch}.feed_forward_length": SPEC.ffn_size,
            f"{arch}.attention.head_count": SPEC.n_heads,
            f"{arch}.attention.head_count_kv": SPEC.n_kv_heads,
            f"{arch}.attention.layer_norm_rms_epsilon": SPEC.rms_norm_eps,
            f"{arch}.rope.dimension_count": SPEC.head_dim,
            f"{arch}.rope.freq_base": SPEC.rope_theta,
            f"{arch}.vocab_size": SPEC.vocab_size,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": [*_byte_letters(), "<s>", "</s>", "<x>", "<y>"],
            "tokenizer.ggml.token_type": np.array([1] * 256 + [3] * 4, np.int32),
            "tokenizer.ggml.merges": [],
            "tokenizer.ggml.bos_token_id": 256,
            "tokenizer.ggml.eos_token_id": 257,
        },
        tensors,
    )
    return path


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte: itself where printable, else from U+0100 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]
