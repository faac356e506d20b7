"""What a program is compiled for: the model's shape, how its tables are stored, the KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from bitnet.errors import InvalidArgumentError
from bitnet.kernels.head import Kind
from bitnet.kernels.kv_cache import BLOCK, KVKind, KVLayout
from bitnet.kernels.numerics import padded
from bitnet.kernels.ternary import MAX_COLUMNS
from bitnet.models.spec import ModelSpec


@dataclass(frozen=True)
class Plan:
    """Everything that shapes the generated code.

    embedding, head: number format of the embedding table and of the output head.
    page_size: positions per KV page, a multiple of 32; it does not change results.
    """

    spec: ModelSpec
    embedding: Kind = "f16"
    head: Kind = "f16"
    kv: KVKind = "f16"
    page_size: int = 64

    def __post_init__(self) -> None:
        if self.kv not in ("f16", "f32"):
            raise InvalidArgumentError(f"kv must be 'f16' or 'f32', not {self.kv!r}")
        if self.page_size <= 0 or self.page_size % BLOCK:
            raise InvalidArgumentError(
                f"page_size must be a positive multiple of {BLOCK}, not {self.page_size}"
            )
        if self.widest > MAX_COLUMNS:
            raise InvalidArgumentError(
                f"a linear layer of {self.widest} inputs is wider than {MAX_COLUMNS}"
            )

    @property
    def kv_layout(self) -> KVLayout:
        return KVLayout(self.spec.n_kv_heads, self.spec.head_dim, self.page_size, self.kv)

    # Widths of the rows that pass between phases, padded (see `numerics.PAD`).

    @property
    def hidden(self) -> int:
        return padded(self.spec.hidden_size)

    @property
    def attention(self) -> int:
        return padded(self.spec.q_size)

    @property
    def qkv(self) -> int:
        return padded(self.spec.q_size + 2 * self.spec.kv_size)

    @property
    def ffn(self) -> int:
        return padded(self.spec.ffn_size)

    @property
    def widest(self) -> int:
        """The widest input of a ternary linear."""
        return max(self.hidden, self.attention, self.ffn)
