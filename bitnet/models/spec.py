"""What a model is: the numbers that fix its forward pass, and the tensors they imply."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bitnet.errors import InvalidArgumentError

Activation = Literal["relu2", "silu", "gelu"]
RopePairing = Literal["halves", "interleaved"]
# How one vector is made of the hidden states of a text: their mean, or that of the first or of the
# last token.
Pooling = Literal["mean", "cls", "last"]

_LIMITS = {
    "n_layers": 1024,
    "hidden_size": 2**24 - 1,
    "ffn_size": 2**24 - 1,
    "n_heads": 4096,
    "n_kv_heads": 4096,
    "head_dim": 4096,
    "vocab_size": 2**24 - 1,
    "context_length": 2**24,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape and arithmetic of one decoder-only ternary transformer.

    Raises InvalidArgumentError when a number is outside its sane range or two
    numbers contradict each other.
    """

    architecture: str
    """``bitnet-b1.58``, ``bitnet``, ``llama``, ``qwen3`` or ``gemma3``."""
    n_layers: int
    hidden_size: int
    ffn_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    """Positions the model was trained for."""
    rms_norm_eps: float
    rope_theta: float
    rope_pairing: RopePairing
    """``halves`` rotates (i, i + head_dim/2), ``interleaved`` rotates (2i, 2i + 1)."""
    activation: Activation
    """The feed-forward gate: squared ReLU, SiLU, or GELU by its tanh formula."""
    sub_norms: bool
    """Whether there are norms before the output and down projections."""
    tied_head: bool
    """Whether the token embedding is also the output head, and there is no table for that."""
    input_norms: bool = False
    """Whether each linear layer has a norm of its own before it, besides those for all."""
    qk_norms: bool = False
    """Whether each head's query and key are normed, before they are rotated."""
    post_norms: bool = False
    """Whether what attention and the feed-forward give is normed before it is added."""
    scaled_embedding: bool = False
    """Whether embeddings are multiplied by the square root of hidden_size."""
    has_head: bool = True
    """Whether there is an output head, and so logits; embedding models give hidden states."""
    pooling: Pooling | None = None
    """What the files say of making embeddings: the mean of the hidden states of a text, or that of
    its first or last token."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise InvalidArgumentError(
                    f"{name} must be an integer in 1..{limit}, not {value!r}"
                )
        if self.n_heads % self.n_kv_heads:
            raise InvalidArgumentError(
                f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})"
            )
        if self.head_dim % 2:
            raise InvalidArgumentError(f"head_dim must be even, not {self.head_dim}")
        if self.q_size > _LIMITS["hidden_size"]:
            raise InvalidArgumentError(
                f"n_heads * head_dim must be at most {_LIMITS['hidden_size']}, not {self.q_size}"
            )
        for name, low, high in (("rms_norm_eps", 0.0, 1.0), ("rope_theta", 1.0, 1e12)):
            value = getattr(self, name)
            if not (isinstance(value, float) and math.isfinite(value) and low < value <= high):
                raise InvalidArgumentError(f"{name} must be in ({low:g}, {high:g}], not {value!r}")
        for name, choices in (
            ("rope_pairing", ("halves", "interleaved")),
            ("activation", ("relu2", "silu", "gelu")),
            ("pooling", (None, "mean", "cls", "last")),
        ):
            if getattr(self, name) not in choices:
                raise InvalidArgumentError(
                    f"{name} must be one of {', '.join(map(str, choices))}, "
                    f"not {getattr(self, name)!r}"
                )
        if self.input_norms and self.sub_norms:
            raise InvalidArgumentError("input_norms and sub_norms exclude each other")
        if not (self.has_head or self.tied_head):
            raise InvalidArgumentError("without an output head there is no table for one")

    @property
    def q_size(self) -> int:
        """Width of the queries and of the attention output: n_heads * head_dim."""
        return self.n_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the keys and of the values: n_kv_heads * head_dim."""
        return self.n_kv_heads * self.head_dim

    def ternary_shapes(self) -> dict[str, tuple[int, int]]:
        """Canonical name -> (outputs, inputs) of every ternary linear layer, in model order."""
        layer = {
            "attn_q": (self.q_size, self.hidden_size),
            "attn_k": (self.kv_size, self.hidden_size),
            "attn_v": (self.kv_size, self.hidden_size),
            "attn_output": (self.hidden_size, self.q_size),
            "ffn_gate": (self.ffn_size, self.hidden_size),
            "ffn_up": (self.ffn_size, self.hidden_size),
            "ffn_down": (self.hidden_size, self.ffn_size),
        }
        return {
            f"blk.{n}.{name}.weight": shape
            for n in range(self.n_layers)
            for name, shape in layer.items()
        }

    def dense_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every float tensor, in model order."""
        hidden = self.hidden_size
        layer = {"attn_norm": hidden, "ffn_norm": hidden}
        if self.sub_norms:
            layer |= {"attn_sub_norm": self.q_size, "ffn_sub_norm": self.ffn_size}
        if self.input_norms:
            layer |= dict.fromkeys(("attn_q_norm_in", "attn_k_norm_in", "attn_v_norm_in"), hidden)
            layer |= dict.fromkeys(("ffn_gate_norm_in", "ffn_up_norm_in"), hidden)
            layer |= {"attn_output_norm_in": self.q_size, "ffn_down_norm_in": self.ffn_size}
        if self.qk_norms:
            layer |= {"attn_q_norm": self.head_dim, "attn_k_norm": self.head_dim}
        if self.post_norms:
            layer |= {"post_attention_norm": hidden, "post_ffw_norm": hidden}
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocab_size, hidden)}
        for n in range(self.n_layers):
            shapes |= {f"blk.{n}.{name}.weight": (width,) for name, width in layer.items()}
        shapes["output_norm.weight"] = (hidden,)
        if not self.tied_head:
            shapes["output.weight"] = (self.vocab_size, hidden)
        return shapes
