"""What a step costs at least: the bytes that come from memory and the multiply-accumulates.

Counted are weights, the output head, and keys and values; each is read once a step, whatever the
number of tokens. Activations stay in the caches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from bitnet.codegen import types as t
from bitnet.program import Plan
from bitnet.program.head import head_bytes

# Phases whose multiply-accumulates are dot products of int8 numbers; others are of floats.
INTEGER_PHASES = frozenset({"qkv", "attn_output", "gate_up", "down"})
# The phase that goes through the whole head.
_HEAD_PHASES = {"certified": "head_int8"}
_TENSORS = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "attn_output": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}


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

    def __mul__(self, n: int) -> Cost:
        return Cost(self.bytes * n, self.macs * n)


def phase_costs(plan: Plan, steps: Iterable[list[Part]]) -> dict[str, Cost]:
    """What each phase costs in all of `steps` together; without those that only touch caches."""
    spec = plan.spec
    total = dict.fromkeys((*INTEGER_PHASES, "attention", "head", "head_int8"), Cost())
    for step in steps:
        tokens = sum(part.count for part in step)
        for name, shape in plan.matrices().items():
            macs = tokens * sum(
                prod(spec.ternary_shapes()[f"blk.0.{tensor}.weight"]) for tensor in _TENSORS[name]
            )
            total[name] += Cost(plan.matrix_bytes(*shape), macs) * spec.n_layers
        positions = sum(part.end for part in step)
        pairs = sum(part.count * (part.start + part.end + 1) / 2 for part in step)
        total["attention"] += Cost(
            spec.n_layers * positions * 2 * spec.kv_size * t.size(plan.kv_layout.element),
            spec.n_layers * pairs * 2 * spec.q_size,
        )
        wanted = sum(part.wants_logits for part in step)
        if wanted and spec.has_head:
            macs = spec.vocab_size * spec.hidden_size
            total[_HEAD_PHASES.get(plan.head_kind, "head")] += Cost(head_bytes(plan), macs * wanted)
    return total


def total_cost(costs: dict[str, Cost]) -> Cost:
    """All bytes, and the integer multiply-accumulates."""
    return Cost(
        sum(cost.bytes for cost in costs.values()),
        sum(cost.macs for name, cost in costs.items() if name in INTEGER_PHASES),
    )
