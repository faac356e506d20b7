"""What a step costs at least: the bytes that come from memory and the multiply-accumulates.

Counted are weights, the output head, and keys and values; each is read once a step, whatever the
number of tokens. Activations stay in the caches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bitnet.codegen import types as t
from bitnet.kernels import ternary
from bitnet.kernels.head import STORED
from bitnet.program import Plan

LAYOUT = "2bit"
"""The layout of ternary weights that `Plan` has; see `bitnet.kernels.ternary`."""

# Phases whose multiply-accumulates are dot products of int8 numbers; others are of floats.
INTEGER_PHASES = frozenset({"qkv", "attn_output", "gate_up", "down"})


@dataclass(frozen=True)
class Part:
    """The next tokens of one sequence in a step."""

    sequence: int
    start: int
    """How many positions come before."""
    count: int
    wants_logits: bool
    """Whether the logits of the last token are wanted."""

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True)
class Cost:
    bytes: float = 0.0
    macs: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.macs + other.macs)


def phase_costs(plan: Plan, steps: Iterable[list[Part]]) -> dict[str, Cost]:
    """What each phase costs in all of `steps` together; without those that only touch caches."""
    spec = plan.spec
    total = dict.fromkeys((*INTEGER_PHASES, "attention", "head"), Cost())
    for step in steps:
        tokens = sum(part.count for part in step)
        for name, (shapes, packed) in _linears(plan).items():
            macs = spec.n_layers * tokens * sum(rows * columns for rows, columns in shapes)
            total[name] += Cost(spec.n_layers * packed, macs)
        positions = sum(part.end for part in step)
        pairs = sum(part.count * (part.start + part.end + 1) / 2 for part in step)
        total["attention"] += Cost(
            spec.n_layers * positions * 2 * spec.kv_size * t.size(plan.kv_layout.element),
            spec.n_layers * pairs * 2 * spec.q_size,
        )
        wanted = sum(part.wants_logits for part in step)
        if wanted:
            macs = spec.vocab_size * spec.hidden_size
            total["head"] += Cost(macs * t.size(STORED[plan.head]), macs * wanted)
    return total


def total_cost(costs: dict[str, Cost]) -> Cost:
    """All bytes, and the integer multiply-accumulates."""
    return Cost(
        sum(cost.bytes for cost in costs.values()),
        sum(cost.macs for name, cost in costs.items() if name in INTEGER_PHASES),
    )


def _linears(plan: Plan) -> dict[str, tuple[list[tuple[int, int]], int]]:
    """The ternary phases of a layer: shapes of their matrices, and bytes as packed together."""
    shapes = plan.spec.ternary_shapes()

    def shape(name: str) -> tuple[int, int]:
        return shapes[f"blk.0.{name}.weight"]

    return {
        "qkv": (
            [shape("attn_q"), shape("attn_k"), shape("attn_v")],
            ternary.packed_bytes(plan.qkv, plan.hidden),
        ),
        "attn_output": (
            [shape("attn_output")],
            ternary.packed_bytes(plan.hidden, plan.attention),
        ),
        "gate_up": (
            [shape("ffn_gate"), shape("ffn_up")],
            ternary.packed_bytes(2 * plan.ffn, plan.hidden),
        ),
        "down": ([shape("ffn_down")], ternary.packed_bytes(plan.hidden, plan.ffn)),
    }
