"""What steps cost, and which steps tests are made of."""

from __future__ import annotations

import pytest

from bitnet.bench.cost import INTEGER_PHASES, Cost, Part, phase_costs, total_cost
from bitnet.bench.options import Options, Workload, prompt_steps
from bitnet.errors import InvalidArgumentError
from tests.program.random_models import CASES

CASE = CASES["bitnet-b1.58"]
PLAN, SPEC = CASE.plan(), CASE.spec


def one(start: int, *, sequence: int = 0) -> Part:
    return Part(sequence, start, 1, wants_logits=True)


def test_a_token_reads_all_packed_weights() -> None:
    costs = phase_costs(PLAN, [[one(0)]])
    assert sum(costs[name].bytes for name in INTEGER_PHASES) == PLAN.ternary_bytes


def test_the_multiply_accumulates_are_those_of_the_matrices() -> None:
    weights = sum(rows * columns for rows, columns in SPEC.ternary_shapes().values())
    assert total_cost(phase_costs(PLAN, [[one(0), one(5)], [one(1)]])).macs == 3 * weights


def test_sequences_of_a_step_share_weights_and_head_but_not_keys_and_values() -> None:
    alone, both = (phase_costs(PLAN, [step]) for step in ([one(9)], [one(9), one(9, sequence=1)]))
    for name in (*INTEGER_PHASES, "head"):
        assert both[name] == Cost(alone[name].bytes, 2 * alone[name].macs)
    per_position = SPEC.n_layers * 2 * SPEC.kv_size * 2
    assert alone["attention"].bytes == 10 * per_position
    assert both["attention"].bytes == 20 * per_position


def test_the_head_costs_nothing_when_no_logits_are_wanted() -> None:
    assert phase_costs(PLAN, [[Part(0, 0, 40, wants_logits=False)]])["head"] == Cost()
    head = phase_costs(PLAN, [[Part(0, 0, 40, wants_logits=True)]])["head"]
    assert head.bytes == SPEC.vocab_size * SPEC.hidden_size * 2


def test_causal_attention_multiplies_every_pair_once() -> None:
    """A prompt in one step, in two, and token by token costs the same multiplications."""
    whole, halves, tokens = (
        phase_costs(PLAN, prompt_steps(8, 1, at_once, wants_logits=True))["attention"].macs
        for at_once in (8, 4, 1)
    )
    assert whole == halves == tokens == SPEC.n_layers * 2 * SPEC.q_size * 36


def test_prompts_fill_their_steps() -> None:
    steps = prompt_steps(5, 3, 4, wants_logits=True)
    assert [sum(part.count for part in step) for step in steps] == [4, 4, 4, 3]
    for sequence in range(3):
        parts = [part for step in steps for part in step if part.sequence == sequence]
        assert parts[0].start == 0
        assert [a.end for a in parts] == [b.start for b in parts[1:]] + [5]
        assert [part.wants_logits for part in parts] == [False] * (len(parts) - 1) + [True]
    assert prompt_steps(0, 3, 4, wants_logits=False) == []


def test_new_tokens_come_after_those_before() -> None:
    steps = Workload("tg", 3, 7).steps(2, 128)
    assert [[part.start for part in step] for step in steps] == [[7, 7], [8, 8], [9, 9]]


def test_all_combinations_are_measured() -> None:
    options = Options(prompts=(4, 0), new=(2,), depths=(0, 9))
    assert [workload.name for workload in options.workloads] == ["pp4", "tg2", "tg2@9"]
    assert options.positions == 11


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threads": (2, 0)}, "threads must be at least 1, not 0"),
        ({"batches": (0,)}, "batches must be at least 1"),
        ({"prompts": (-1,)}, "prompts must be at least 0"),
        ({"repetitions": 0}, "repetitions must be at least 1"),
        ({"prompts": (0,), "new": ()}, "nothing to measure"),
    ],
)
def test_senseless_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Options(**wrong)
