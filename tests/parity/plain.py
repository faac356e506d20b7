"""What a checkpoint means, in plain float64 numpy, sharing no code with bitnet or transformers.

It checks the fixtures when they are made, and tells which tokens lie on no tie: those have no
excuse for differing between engines.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import deserialize

F64 = npt.NDArray[np.float64]

# An activation this near to a tie may fall either way in float32. The input of the first linears
# has a few multiplications behind it, so its error is relative and small; what comes later has
# sums, sines and exponentials behind it.
FIRST_TIE = 1e-6
LATER_TIE = 1e-4
FIRST = re.compile(r"model\.layers\.0\.self_attn\.[qkv]_proj")


class PlainModel:
    """A Hugging Face folder, read and run as the formats and papers describe it."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.tensors = {
            name: read_tensor(entry)
            for name, entry in deserialize((folder / "model.safetensors").read_bytes())
        }
        self.eps = self.config["rms_norm_eps"]
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        self.theta = (self.config.get("rope_parameters") or self.config)["rope_theta"]

    def logits(self, ids: npt.NDArray[np.int32]) -> tuple[F64, npt.NDArray[np.bool_]]:
        """Logits (tokens, vocab), and which tokens depend on no activation near a tie.

        `ids` must be settled ones.
        """
        self.tie_free = np.ones(len(ids), bool)
        embedding = self.tensors["model.embed_tokens.weight"]
        x = embedding[ids]
        for n in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{n}"
            x = x + self.attention(self.norm(x, f"{layer}.input_layernorm"), f"{layer}.self_attn")
            x = x + self.mlp(self.norm(x, f"{layer}.post_attention_layernorm"), f"{layer}.mlp")
        tied = self.config["tie_word_embeddings"]
        head = embedding if tied else self.tensors["lm_head.weight"]
        return self.norm(x, "model.norm") @ head.T, self.tie_free

    def settled_ids(self) -> npt.NDArray[np.int64]:
        """The token ids whose input to the first layer has no activation near a tie.

        A fall there goes through k and v into every later token, and engines would differ.
        """
        embedding = self.tensors["model.embed_tokens.weight"]
        scaled, _ = scale_activations(self.norm(embedding, "model.layers.0.input_layernorm"))
        return np.flatnonzero(np.all(tie_distance(scaled) > FIRST_TIE * np.abs(scaled), axis=1))

    def attention(self, x: F64, name: str) -> F64:
        n, d = len(x), self.head_dim
        q, k, v = (self.linear(x, f"{name}.{m}_proj").reshape(n, -1, d) for m in "qkv")
        self.tie_free = np.logical_and.accumulate(self.tie_free)  # later tokens see k and v
        q, k = rotate(q, self.theta), rotate(k, self.theta)
        k, v = (share_heads(kept, self.heads // self.kv_heads) for kept in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(d)
        scores = np.where(visible(n), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1)
        mixed = self.sub_norm(mixed, name, "attn_sub_norm", "inner_attn_ln")
        return self.linear(mixed, f"{name}.o_proj")

    def mlp(self, x: F64, name: str) -> F64:
        gate = activate(self.linear(x, f"{name}.gate_proj"), self.config["hidden_act"])
        inner = gate * self.linear(x, f"{name}.up_proj")
        inner = self.sub_norm(inner, name, "ffn_sub_norm", "ffn_layernorm")
        return self.linear(inner, f"{name}.down_proj")

    def sub_norm(self, x: F64, name: str, *choices: str) -> F64:
        """The norm that BitNet models have before their output and down projections."""
        for choice in choices:
            if f"{name}.{choice}.weight" in self.tensors:
                return self.norm(x, f"{name}.{choice}")
        return x

    def norm(self, x: F64, name: str) -> F64:
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean + self.eps) * self.tensors[f"{name}.weight"]

    def linear(self, x: F64, name: str) -> F64:
        scaled, s = scale_activations(x)
        if not FIRST.fullmatch(name):
            self.tie_free &= np.all(tie_distance(scaled) > LATER_TIE, axis=-1)
        weight, scale = self.ternary(name)
        return round_activations(scaled) @ weight.T * (scale / s)

    def ternary(self, name: str) -> tuple[F64, float]:
        """A linear's weights -1, 0, +1 and their scale."""
        weight, kind = self.tensors[f"{name}.weight"], self.config.get("quantization_config", {})
        if weight.dtype != np.uint8:
            mean = np.float32(np.mean(np.abs(weight)))
            return np.clip(np.rint(weight / mean), -1, 1), float(mean)
        quarters = [(weight >> shift & 3) for shift in (0, 2, 4, 6)]
        scale = float(self.tensors[f"{name}.weight_scale"][0])
        divides = kind.get("linear_class", "bitlinear") == "bitlinear"
        return np.concatenate(quarters).astype(np.float64) - 1, 1 / scale if divides else scale


def scale_activations(x: F64) -> tuple[F64, F64]:
    """Per token: x in units of the int8 grid, and the scale that did it."""
    s = 127 / np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-5)
    return x * s, s


def round_activations(scaled: F64) -> F64:
    """To whole numbers, ties to even."""
    return np.rint(scaled)


def tie_distance(scaled: F64) -> F64:
    """How far numbers are from the nearest half."""
    return np.asarray(np.abs(np.abs(scaled) % 1 - 0.5))


def activate(x: F64, kind: str) -> F64:
    return np.maximum(x, 0) ** 2 if kind == "relu2" else x / (1 + np.exp(-x))


def share_heads(kept: F64, group: int) -> F64:
    """Keys or values (tokens, kv heads, head_dim) for all heads: `group` neighbours share one."""
    return np.repeat(kept, group, axis=1)


def visible(n: int) -> npt.NDArray[np.bool_]:
    """Which tokens (columns) each of n tokens attends to."""
    return np.tri(n, dtype=bool)


def rotate(x: F64, theta: float) -> F64:
    """Rotary embedding, first half against second half, of (tokens, heads, head_dim)."""
    n, _, d = x.shape
    # Every engine rounds the angle to float32; its error there grows with the position.
    frequency = np.float32(1) / np.float32(theta) ** (np.arange(0, d, 2, dtype=np.float32) / d)
    angle = np.arange(n, dtype=np.float32)[:, None, None] * frequency.astype(np.float32)
    cos, sin = np.cos(angle.astype(np.float64)), np.sin(angle.astype(np.float64))
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def read_tensor(entry: dict[str, Any]) -> npt.NDArray[Any]:
    """A safetensors entry: uint8 as it is, floats as float64."""
    data, shape = entry["data"], entry["shape"]
    if entry["dtype"] == "U8":
        return np.frombuffer(data, np.uint8).reshape(shape)
    if entry["dtype"] == "BF16":
        wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).astype(np.float64).reshape(shape)
    dtype = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
    return np.frombuffer(data, dtype).astype(np.float64).reshape(shape)
