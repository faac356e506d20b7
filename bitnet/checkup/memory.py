"""What a model will need in memory, and how much of that a token reads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from bitnet.bench.cost import Part, phase_costs, total_cost
from bitnet.codegen import types as t
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.layouts import LayoutName
from bitnet.models import Checkpoint
from bitnet.models.native import INT8_HEAD
from bitnet.models.tensors import FLOAT_DTYPES, StoredRows, is_float
from bitnet.program import Plan
from bitnet.program.head import head_bytes
from bitnet.program.plan import choose_head

_LAYOUTS: tuple[LayoutName, ...] = ("b3", "2bit", "i2_s")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a model takes in one layout; what is mapped is the system's cache of the file."""

    layout: LayoutName
    ternary: int
    ternary_mapped: bool
    tables: int
    """The embedding and the output head as they are stored, mapped."""
    head_kind: str
    head: int
    """A copy of the output head with fewer bits."""
    head_mapped: bool
    kv_per_position: int
    """Keys and values of one position of a sequence, in float16."""
    token: int
    """What one token of one sequence reads at least, without earlier positions."""

    def total(self, positions: int) -> int:
        """All of it, with a sequence of so many positions."""
        return self.ternary + self.tables + self.head + positions * self.kv_per_position


def memory_needs(checkpoint: Checkpoint) -> list[Memory]:
    """One for each layout that the model can be loaded in; for a native file, its own."""
    own = checkpoint.layout
    needs = []
    for layout in _LAYOUTS if own is None else (own,):
        with suppress(InvalidArgumentError):
            if layout != "i2_s" or _all_i2_s(checkpoint):
                needs.append(_needs(checkpoint, layout))
    return needs


def _all_i2_s(checkpoint: Checkpoint) -> bool:
    stored = (checkpoint.ternary(name).stored() for name in checkpoint.spec.ternary_shapes())
    return all(
        len(runs) == 1 and isinstance(runs[0], StoredRows) and runs[0].kind == "i2_s"
        for runs in stored
    )


def _needs(checkpoint: Checkpoint, layout: LayoutName) -> Memory:
    spec = checkpoint.spec
    embedding = checkpoint.dense("token_embd.weight")
    table = embedding if spec.tied_head else checkpoint.dense("output.weight")
    head = choose_head(None, table.kind, spec)
    plan = Plan(spec, embedding.kind, table.kind, "f16", layout, head)
    pages = plan.kv_layout
    page_bytes = pages.page_elements * t.size(pages.element)
    step = [[Part(0, 0, 1, wants_logits=True)]]
    row = (
        spec.hidden_size * FLOAT_DTYPES[embedding.kind].itemsize if is_float(embedding.kind) else 0
    )
    return Memory(
        layout=layout,
        ternary=plan.ternary_bytes,
        ternary_mapped=layout in ("i2_s", checkpoint.layout),
        tables=embedding.data.nbytes + (0 if spec.tied_head else table.data.nbytes),
        head_kind=head,
        head=0 if head == "stored" else head_bytes(plan),
        head_mapped=checkpoint.packed(INT8_HEAD["packed"]) is not None,
        kv_per_position=spec.n_layers * page_bytes // pages.page_size,
        token=round(total_cost(phase_costs(plan, step)).bytes) + row,
    )
