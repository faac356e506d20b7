"""The forward pass in numpy, in the program's own order of operations.

Slow and readable; the compiled program gives the same bits. Works on one whole sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bitnet.kernels.attention import attend_reference
from bitnet.kernels.gate import gated_reference
from bitnet.kernels.head import head_reference
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.norm import quantize_reference, rms_norm_reference
from bitnet.kernels.numerics import F32
from bitnet.kernels.rope import rope_reference, rope_tables
from bitnet.kernels.ternary import linear_reference
from bitnet.models.spec import ModelSpec
from bitnet.program.weights import Tensors


def logits_reference(
    spec: ModelSpec, tensors: Tensors, tokens: npt.NDArray[np.int64], kv: KVKind = "f16"
) -> F32:
    """Logits (len(tokens), vocab) of a sequence that starts at position 0."""
    n, d = len(tokens), spec.head_dim
    cos, sin = rope_tables(n, d, spec.rope_theta)
    embedding = tensors.dense("token_embd.weight").float32()
    x = embedding[tokens]

    def norm(y: F32, name: str) -> F32:
        return rms_norm_reference(y, tensors.dense(f"{name}.weight").float32(), spec.rms_norm_eps)

    def linear(y: F32, name: str) -> F32:
        weight = tensors.ternary(f"{name}.weight")
        scale = np.full(weight.shape[0], weight.scale, np.float32)
        return linear_reference(weight.codes(0, weight.shape[0]), scale, *quantize_reference(y))

    def heads(y: F32) -> F32:
        return y.reshape(n, -1, d)

    def stored(y: F32) -> F32:
        return y.astype(np.float16).astype(np.float32) if kv == "f16" else y

    for layer in range(spec.n_layers):
        blk = f"blk.{layer}"
        a = norm(x, f"{blk}.attn_norm")
        q, k = (
            rope_reference(heads(linear(a, f"{blk}.attn_{m}")), cos, sin, spec.rope_pairing)
            for m in "qk"
        )
        k, v = stored(k), stored(heads(linear(a, f"{blk}.attn_v")))
        group = spec.n_heads // spec.n_kv_heads
        attended = np.empty((n, spec.n_heads, d), np.float32)
        for h in range(spec.n_heads):
            keys, values = k[:, h // group], v[:, h // group]
            attended[:, h] = attend_reference(q[:, h], keys, values, np.arange(1, n + 1))
        o = attended.reshape(n, -1)
        if spec.sub_norms:
            o = norm(o, f"{blk}.attn_sub_norm")
        x = x + linear(o, f"{blk}.attn_output")
        f = norm(x, f"{blk}.ffn_norm")
        gate, up = linear(f, f"{blk}.ffn_gate"), linear(f, f"{blk}.ffn_up")
        g = gated_reference(gate, up, spec.activation)
        if spec.sub_norms:
            g = norm(g, f"{blk}.ffn_sub_norm")
        x = x + linear(g, f"{blk}.ffn_down")
    head = embedding if spec.tied_head else tensors.dense("output.weight").float32()
    return head_reference(head, norm(x, "output_norm"))
