"""What a model will need in memory, and how much of that a token reads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import get_args

from bitnet.bench.cost import Part, phase_costs, total_cost
from bitnet.codegen import types as t
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.layouts import LayoutName
from bitnet.models import Checkpoint
from bitnet.models.native import INT8_HEAD
from bitnet.models.tensors import FLOAT_DTYPES, StoredBlock, StoredRows, is_float
from bitnet.program import Plan
from bitnet.program.footprint import packed_head_bytes, table_bytes
from bitnet.program.plan import choose_head
from bitnet.program.ternary_weights import cuts_of

# How tensors have to be stored for a layout that uses them in the file.
_IN_PLACE: dict[LayoutName, str] = {"i2_s": "i2_s", "tl1": "TL1", "tl2": "TL2"}


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
    for layout in get_args(LayoutName) if own is None else (own,):
        with suppress(InvalidArgumentError):
            if layout not in _IN_PLACE or _all_stored_as(checkpoint, _IN_PLACE[layout]):
                needs.append(_needs(checkpoint, layout))
    return needs


def _all_stored_as(checkpoint: Checkpoint, kind: str) -> bool:
    stored = (checkpoint.ternary(name).stored() for name in checkpoint.spec.ternary_shapes())
    return all({_kind(run) for run in runs} == {kind} for runs in stored)


def _kind(run: StoredRows | StoredBlock) -> str:
    return run.cut.name if isinstance(run, StoredBlock) else run.kind


def _needs(checkpoint: Checkpoint, layout: LayoutName) -> Memory:
    spec = checkpoint.spec
    embedding = checkpoint.dense("token_embd.weight")
    table = embedding if spec.tied_head else checkpoint.dense("output.weight")
    head = choose_head(None, table.kind, spec)
    cuts = cuts_of(spec, checkpoint.ternary)
    plan = Plan(spec, embedding.kind, table.kind, "f16", layout, head, cuts=cuts)
    pages = plan.kv_layout
    page_bytes = pages.page_elements * t.size(pages.element)
    step = [[Part(0, 0, 1, wants_logits=True)]]
    row = (
        spec.hidden_size * FLOAT_DTYPES[embedding.kind].itemsize if is_float(embedding.kind) else 0
    )
    return Memory(
        layout=layout,
        ternary=plan.ternary_bytes,
        ternary_mapped=layout in (*_IN_PLACE, checkpoint.layout),
        tables=table_bytes(embedding.kind, spec)
        + (0 if spec.tied_head else table_bytes(table.kind, spec)),
        head_kind=head,
        head=packed_head_bytes(plan),
        head_mapped=checkpoint.packed(INT8_HEAD["packed"]) is not None,
        kv_per_position=spec.n_layers * page_bytes // pages.page_size,
        token=round(total_cost(phase_costs(plan, step)).bytes) + row,
    )
