"""The shapes of the published ternary models compile."""

from __future__ import annotations

import pytest

from bitnet.codegen import find_target, jit
from bitnet.models.spec import ModelSpec
from bitnet.program import Plan
from bitnet.program.plan import choose_head
from bitnet.program.program import build_module

B158 = {"activation": "relu2", "sub_norms": True, "tied_head": True, "rope_pairing": "halves"}
BITNET = {**B158, "activation": "silu"}
LLAMA = {
    "activation": "silu",
    "sub_norms": False,
    "tied_head": False,
    "rope_pairing": "interleaved",
}
# layers, hidden, ffn, heads, kv heads, head dim, vocabulary
SHAPES = {
    "BitNet b1.58 2B-4T": (30, 2560, 6912, 20, 5, 128, 128256, B158),
    "bitnet_b1_58-large": (24, 1536, 4096, 16, 16, 96, 32002, BITNET),
    "bitnet_b1_58-3B": (26, 3200, 8640, 32, 32, 100, 32002, BITNET),
    "Llama3-8B-1.58": (32, 4096, 14336, 32, 8, 128, 128256, LLAMA),
    "Falcon3-1B": (18, 2048, 8192, 8, 4, 256, 131072, LLAMA),
    "Falcon3-3B": (22, 3072, 9216, 12, 4, 256, 131072, LLAMA),
    "Falcon3-7B": (28, 3072, 23040, 12, 4, 256, 131072, LLAMA),
    "Falcon3-10B": (40, 3072, 23040, 12, 4, 256, 131072, LLAMA),
    "Falcon-E-1B": (24, 2048, 8192, 16, 2, 128, 32768, LLAMA),
    "Falcon-E-3B": (32, 2048, 13312, 16, 2, 128, 32768, LLAMA),
}


@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes_compile(name: str) -> None:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab, architecture = SHAPES[name]
    spec = ModelSpec(
        architecture=name,
        n_layers=layers,
        hidden_size=hidden,
        ffn_size=ffn,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        context_length=4096,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        **architecture,
    )
    plan = Plan(spec, head_kind=choose_head(None, "f16", spec))
    image = jit.compile_object(build_module(plan, find_target()))
    assert len(image) < 2**20  # the layers are a loop, so depth costs nothing
