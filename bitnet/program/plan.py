"""What a program is compiled for: the model's shape, how its tables are stored, the KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from bitnet.errors import InvalidArgumentError
from bitnet.kernels import int8, q6_k, q8_0
from bitnet.kernels.head import Kind
from bitnet.kernels.kv_cache import BLOCK, KVKind, KVLayout
from bitnet.kernels.layouts import I2_S_BLOCK, LAYOUTS, Layout, LayoutName, TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.numerics import padded
from bitnet.kernels.ternary import DEFAULT_BLOCKING, MAX_COLUMNS, Blocking
from bitnet.kernels.ternary_lookup import UNIT_ROWS
from bitnet.models.matrices import matrices
from bitnet.models.spec import ModelSpec
from bitnet.models.tensors import FLOAT_DTYPES, TableKind, is_float
from bitnet.quant.tiled import TILE
from bitnet.quant.tl_config import Cut, TLName

# How the output head is computed: with the table as it is; with its rows as int8, Q8_0 or Q6_K;
# or first as int8, and then as it is for all rows that may be among the best.
HeadKind = Literal["stored", "int8", "q8_0", "q6_k", "certified"]

_LOOK_UPS: dict[LayoutName, TLName] = {"tl1": "TL1", "tl2": "TL2"}
_LARGE_TABLE = 16_000_000  # bytes from which on reading the head is worth saving


@dataclass(frozen=True)
class Plan:
    """Everything that shapes the generated code.

    embedding, head: number format of the embedding table and of the output head's.
    layout: how the ternary weights lie in memory; it does not change results.
    head_kind: how the head is computed, see `choose_head`.
    page_size: positions per KV page, a multiple of 32; it does not change results.
    blocking: how the ternary weights are walked through; it does not change results.
    cuts: how the TL1 and TL2 tensors are cut that the weights come from.
    """

    spec: ModelSpec
    embedding: TableKind = "f16"
    head: TableKind = "f16"
    kv: KVKind = "f16"
    layout: LayoutName = "2bit"
    head_kind: HeadKind = "stored"
    page_size: int = 128
    blocking: Blocking = DEFAULT_BLOCKING
    cuts: tuple[Cut, ...] = ()

    def __post_init__(self) -> None:
        if self.kv not in ("f16", "f32"):
            raise InvalidArgumentError(f"kv must be 'f16' or 'f32', not {self.kv!r}")
        if self.layout not in get_args(LayoutName):
            known = ", ".join(get_args(LayoutName))
            raise InvalidArgumentError(f"layout must be one of {known}, not {self.layout!r}")
        if not isinstance(self.weights_layout, TiledLayout):
            check_in_place(self.weights_layout, self.spec)
        if self.page_size <= 0 or self.page_size % BLOCK:
            raise InvalidArgumentError(
                f"page_size must be a positive multiple of {BLOCK}, not {self.page_size}"
            )
        if choose_head(self.head_kind, self.head, self.spec) != self.head_kind:
            raise InvalidArgumentError(f"a head stored as {self.head} runs as {self.head}")
        if self.widest > MAX_COLUMNS:
            raise InvalidArgumentError(
                f"a linear layer of {self.widest} inputs is wider than {MAX_COLUMNS}"
            )

    @property
    def weights_layout(self) -> Layout:
        if self.layout in _LOOK_UPS:
            return LookUp(_LOOK_UPS[self.layout], self.cuts)
        return LAYOUTS[self.layout]

    @property
    def tiled(self) -> TiledLayout:
        """The layout, where weights are packed."""
        layout = self.weights_layout
        if not isinstance(layout, TiledLayout):
            raise TypeError(f"layout {layout.name} packs nothing")
        return layout

    @property
    def stored_head(self) -> Kind:
        """The format of a head's table that is read as floats."""
        if is_float(self.head):
            return self.head
        raise InvalidArgumentError(f"a head stored as {self.head} holds no floats")

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
        return matrices(self.spec)["qkv"].rows

    @property
    def ffn(self) -> int:
        return padded(self.spec.ffn_size)

    @property
    def widest(self) -> int:
        """The widest input of a ternary linear."""
        return max(self.hidden, self.attention, self.ffn)

    @property
    def widest_row(self) -> int:
        """The widest row that linears read or write, but for `qkv`."""
        return max(self.widest, 2 * self.ffn) if self.spec.input_norms else self.widest

    @property
    def q_bytes(self) -> int:
        """The most that the quantised inputs of a token take at a time."""
        layout, all_matrices = self.weights_layout, matrices(self.spec).values()
        return max(m.n_inputs * layout.q_width(m.columns) for m in all_matrices)

    @property
    def n_inputs(self) -> int:
        """How many quantised inputs a token has at a time, at most."""
        return max(m.n_inputs for m in matrices(self.spec).values())

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
        return {name: (m.rows, m.columns) for name, m in matrices(self.spec).items()}

    def matrix_bytes(self, rows: int, columns: int) -> int:
        layout = self.weights_layout
        if isinstance(layout, TiledLayout):
            return layout.packed_bytes(rows, columns)
        if isinstance(layout, LookUp):
            return layout.matrix_bytes(rows, columns)
        return rows * columns // 4


def check_in_place(layout: Layout, spec: ModelSpec) -> None:
    """Raise InvalidArgumentError unless tensors of a model can be used where they are mapped."""
    n_rows, n_columns = (UNIT_ROWS, 1) if isinstance(layout, LookUp) else (TILE, I2_S_BLOCK)
    for name, (rows, columns) in spec.ternary_shapes().items():
        if rows % n_rows or columns % n_columns:
            raise InvalidArgumentError(
                f"layout {layout.name!r} needs multiples of {n_rows} outputs and of "
                f"{n_columns} inputs, and {name} is {rows} x {columns}"
            )
        layout.q_width(columns)  # raises where tensors of so many columns cannot be used


def choose_head(asked: HeadKind | None, table: TableKind, spec: ModelSpec) -> HeadKind:
    """How to compute an output head whose table is stored as `table`; None leaves the choice.

    Raises InvalidArgumentError for what the table cannot be.
    """
    if asked is not None and asked not in get_args(HeadKind):
        known = ", ".join(get_args(HeadKind))
        raise InvalidArgumentError(f"head must be one of {known}, not {asked!r}")
    if not spec.has_head:
        if asked not in (None, "stored"):
            raise InvalidArgumentError(f"head {asked!r} is of no use: the model has no output head")
        return "stored"
    if not is_float(table):
        if asked not in (None, "stored", table):
            raise InvalidArgumentError(
                f"head {asked!r} needs a table of floats; the model's is stored as {table}"
            )
        return "q8_0" if table == "q8_0" else "q6_k"
    width = spec.hidden_size
    if asked is None:
        large = spec.vocab_size * width * FLOAT_DTYPES[table].itemsize >= _LARGE_TABLE
        return "certified" if large and width <= int8.MAX_COLUMNS else "stored"
    block = {"q8_0": q8_0.BLOCK, "q6_k": q6_k.BLOCK}.get(asked, 1)
    if width % block:
        raise InvalidArgumentError(
            f"head {asked!r} needs rows of a multiple of {block} columns, not {width}"
        )
    if asked in ("int8", "certified") and width > int8.MAX_COLUMNS:
        raise InvalidArgumentError(
            f"head {asked!r} needs rows of at most {int8.MAX_COLUMNS} columns, not {width}"
        )
    return asked
