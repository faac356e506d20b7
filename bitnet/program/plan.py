"""What a program is compiled for: the model's shape, how its tables are stored, the KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from bitnet.errors import InvalidArgumentError
from bitnet.kernels.head import Kind
from bitnet.kernels.kv_cache import BLOCK, KVKind, KVLayout
from bitnet.kernels.layouts import I2_S_BLOCK, LAYOUTS, Layout, LayoutName, TiledLayout
from bitnet.kernels.numerics import padded
from bitnet.kernels.ternary import MAX_COLUMNS
from bitnet.models.spec import ModelSpec
from bitnet.quant.tiled import TILE


@dataclass(frozen=True)
class Plan:
    """Everything that shapes the generated code.

    embedding, head: number format of the embedding table and of the output head.
    layout: how the ternary weights lie in memory; it does not change results.
    page_size: positions per KV page, a multiple of 32; it does not change results.
    """

    spec: ModelSpec
    embedding: Kind = "f16"
    head: Kind = "f16"
    kv: KVKind = "f16"
    layout: LayoutName = "2bit"
    page_size: int = 64

    def __post_init__(self) -> None:
        if self.kv not in ("f16", "f32"):
            raise InvalidArgumentError(f"kv must be 'f16' or 'f32', not {self.kv!r}")
        if self.layout not in LAYOUTS:
            raise InvalidArgumentError(
                f"layout must be one of {', '.join(LAYOUTS)}, not {self.layout!r}"
            )
        if self.layout == "i2_s":
            self._check_in_place()
        if self.page_size <= 0 or self.page_size % BLOCK:
            raise InvalidArgumentError(
                f"page_size must be a positive multiple of {BLOCK}, not {self.page_size}"
            )
        if self.widest > MAX_COLUMNS:
            raise InvalidArgumentError(
                f"a linear layer of {self.widest} inputs is wider than {MAX_COLUMNS}"
            )

    @property
    def weights_layout(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def tiled(self) -> TiledLayout:
        """The layout, where weights are packed."""
        layout = self.weights_layout
        if not isinstance(layout, TiledLayout):
            raise TypeError(f"layout {layout.name} packs nothing")
        return layout

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

    @property
    def widest_q(self) -> int:
        """The same quantised."""
        return max(self.weights_layout.q_width(n) for n in self.linear_inputs)

    @property
    def linear_inputs(self) -> set[int]:
        """The numbers of inputs of ternary linears."""
        return {self.spec.hidden_size, self.spec.q_size, self.spec.ffn_size}

    @property
    def ternary_bytes(self) -> int:
        """What the ternary weights take in memory, and what a decoded token reads of them."""
        per_layer = sum(self.matrix_bytes(*shape) for shape in self.matrices().values())
        return self.spec.n_layers * per_layer

    def matrices(self) -> dict[str, tuple[int, int]]:
        """The ternary matrices of a layer as they are multiplied: (rows, padded; columns)."""
        spec = self.spec
        return {
            "qkv": (self.qkv, spec.hidden_size),
            "attn_output": (self.hidden, spec.q_size),
            "gate_up": (2 * self.ffn, spec.hidden_size),
            "down": (self.hidden, spec.ffn_size),
        }

    def matrix_bytes(self, rows: int, columns: int) -> int:
        layout = self.weights_layout
        if isinstance(layout, TiledLayout):
            return layout.packed_bytes(rows, columns)
        return rows * columns // 4

    def _check_in_place(self) -> None:
        for name, (rows, columns) in self.spec.ternary_shapes().items():
            if rows % TILE or columns % I2_S_BLOCK:
                raise InvalidArgumentError(
                    f"layout 'i2_s' needs multiples of {TILE} outputs and of {I2_S_BLOCK} inputs, "
                    f"and {name} is {rows} x {columns}"
                )
