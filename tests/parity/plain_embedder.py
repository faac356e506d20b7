"""What the folder of an embedding model means, in plain float64 numpy, sharing no code with bitnet.

Qwen3 and Gemma 3 as transformers has them, with a BitLinear that norms its input.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.parity.plain import (
    F64,
    FIRST_TIE,
    PlainModel,
    rotate,
    scale_activations,
    share_heads,
    tie_distance,
    visible,
)


class PlainEmbedder(PlainModel):
    @property
    def is_gemma(self) -> bool:
        return bool(self.config["model_type"] == "gemma3_text")

    def hidden_states(self, ids: npt.NDArray[np.int64]) -> tuple[F64, npt.NDArray[np.bool_]]:
        """(tokens, hidden size), and which tokens depend on no activation near a tie."""
        self.tie_free = np.ones(len(ids), bool)
        x = self.embedding(ids)
        for n in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{n}"
            y = self.attention(self.norm(x, f"{layer}.input_layernorm"), f"{layer}.self_attn")
            if not self.is_gemma:
                x = x + y
                y = self.mlp(self.norm(x, f"{layer}.post_attention_layernorm"), f"{layer}.mlp")
                x = x + y
                continue
            x = x + self.norm(y, f"{layer}.post_attention_layernorm")
            y = self.mlp(self.norm(x, f"{layer}.pre_feedforward_layernorm"), f"{layer}.mlp")
            x = x + self.norm(y, f"{layer}.post_feedforward_layernorm")
        return self.norm(x, "model.norm"), self.tie_free

    def settled_ids(self) -> npt.NDArray[np.int64]:
        layer = "model.layers.0"
        x = self.norm(
            self.embedding(np.arange(self.config["vocab_size"])), f"{layer}.input_layernorm"
        )
        settled = np.ones(len(x), bool)
        for m in "qkv":
            scaled, _ = scale_activations(self.norm(x, f"{layer}.self_attn.{m}_proj.norm"))
            settled &= np.all(tie_distance(scaled) > FIRST_TIE * np.abs(scaled), axis=1)
        return np.flatnonzero(settled)

    def embedding(self, ids: npt.NDArray[np.int64]) -> F64:
        rows = self.tensors["model.embed_tokens.weight"][ids]
        return rows * np.sqrt(self.config["hidden_size"]) if self.is_gemma else rows

    def attention(self, x: F64, name: str) -> F64:
        n, d = len(x), self.head_dim
        q, k, v = (self.linear(x, f"{name}.{m}_proj").reshape(n, -1, d) for m in "qkv")
        self.tie_free = np.logical_and.accumulate(self.tie_free)  # later tokens see k and v
        q, k = self.norm(q, f"{name}.q_norm"), self.norm(k, f"{name}.k_norm")
        q, k = rotate(q, self.theta), rotate(k, self.theta)
        k, v = (share_heads(kept, self.heads // self.kv_heads) for kept in (k, v))
        scale = self.config.get("query_pre_attn_scalar", d) ** -0.5
        scores = np.where(visible(n), np.einsum("ihd,jhd->hij", q, k) * scale, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self.linear(np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1), f"{name}.o_proj")

    def mlp(self, x: F64, name: str) -> F64:
        gate, up = (self.linear(x, f"{name}.{m}_proj") for m in ("gate", "up"))
        if self.is_gemma:
            gate = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        else:
            gate = gate / (1 + np.exp(-gate))
        return self.linear(gate * up, f"{name}.down_proj")

    def norm(self, x: F64, name: str) -> F64:
        weight = self.tensors[f"{name}.weight"]
        if self.is_gemma and not name.endswith("_proj.norm"):
            weight = 1 + weight
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * weight

    def linear(self, x: F64, name: str) -> F64:
        return super().linear(self.norm(x, f"{name}.norm"), name)
