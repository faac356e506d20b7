"""The forward pass in numpy, in the program's own order of operations.

Slow and readable; the compiled program gives the same bits. Works on one whole sequence.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bitnet.kernels import int8, q6_k, q8_0
from bitnet.kernels.attention_reference import attend_reference
from bitnet.kernels.gate import gated_reference
from bitnet.kernels.head import head_reference
from bitnet.kernels.hilo import split_reference
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.norm import quantize_reference, rms_norm_reference
from bitnet.kernels.numerics import F32
from bitnet.kernels.rope import rope_reference, rope_tables
from bitnet.kernels.ternary import linear_reference
from bitnet.models.spec import ModelSpec
from bitnet.program.plan import HeadKind
from bitnet.program.weights import Tensors
from bitnet.quant import q6_k as q6_k_codec
from bitnet.quant import q8_0 as q8_0_codec


def logits_reference(
    spec: ModelSpec,
    tensors: Tensors,
    tokens: npt.NDArray[np.int64],
    kv: KVKind = "f16",
    head: HeadKind = "stored",
) -> F32:
    """Logits (len(tokens), vocab) of a sequence that starts at position 0, all of them exact."""
    h = hidden_reference(spec, tensors, tokens, kv)
    table = tensors.dense("token_embd.weight" if spec.tied_head else "output.weight")
    if head in ("stored", "certified"):
        return head_reference(table.float32(), h)
    v, scale = split_reference(h)
    if head == "int8":
        return int8.head_reference(*int8.quantize_reference(table.float32()), v, scale)
    if head == "q8_0":
        blocks = table.data if table.kind == "q8_0" else q8_0_codec.quantize(table.float32())
        return q8_0.head_reference(*q8_0_codec.unpack(blocks), v, scale)
    blocks = table.data if table.kind == "q6_k" else q6_k_codec.quantize(table.float32())
    return q6_k.head_reference(*q6_k_codec.unpack(blocks), v, scale)


def hidden_reference(
    spec: ModelSpec, tensors: Tensors, tokens: npt.NDArray[np.int64], kv: KVKind = "f16"
) -> F32:
    """What goes into the output head: (len(tokens), hidden)."""
    n, d = len(tokens), spec.head_dim
    cos, sin = rope_tables(n, d, spec.rope_theta)
    embedding = tensors.dense("token_embd.weight").float32()
    x = embedding[tokens]
    if spec.scaled_embedding:
        x = x * np.float32(math.sqrt(spec.hidden_size))

    def norm(y: F32, name: str) -> F32:
        return rms_norm_reference(y, tensors.dense(f"{name}.weight").float32(), spec.rms_norm_eps)

    def linear(y: F32, name: str) -> F32:
        if spec.input_norms:
            y = norm(y, f"{name}_norm_in")
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
        q, k = (heads(linear(a, f"{blk}.attn_{m}")) for m in "qk")
        if spec.qk_norms:
            q, k = norm(q, f"{blk}.attn_q_norm"), norm(k, f"{blk}.attn_k_norm")
        q, k = (rope_reference(y, cos, sin, spec.rope_pairing) for y in (q, k))
        k, v = stored(k), stored(heads(linear(a, f"{blk}.attn_v")))
        group = spec.n_heads // spec.n_kv_heads
        attended = np.empty((n, spec.n_heads, d), np.float32)
        for h in range(spec.n_heads):
            keys, values = k[:, h // group], v[:, h // group]
            attended[:, h] = attend_reference(q[:, h], keys, values, np.arange(1, n + 1))
        o = attended.reshape(n, -1)
        if spec.sub_norms:
            o = norm(o, f"{blk}.attn_sub_norm")
        o = linear(o, f"{blk}.attn_output")
        if spec.post_norms:
            o = norm(o, f"{blk}.post_attention_norm")
        x = x + o
        f = norm(x, f"{blk}.ffn_norm")
        gate, up = linear(f, f"{blk}.ffn_gate"), linear(f, f"{blk}.ffn_up")
        g = gated_reference(gate, up, spec.activation)
        if spec.sub_norms:
            g = norm(g, f"{blk}.ffn_sub_norm")
        g = linear(g, f"{blk}.ffn_down")
        if spec.post_norms:
            g = norm(g, f"{blk}.post_ffw_norm")
        x = x + g
    return norm(x, "output_norm")
