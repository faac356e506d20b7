"""Attention over many spans: how the work is cut, and that no cut is seen in the logits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Target, find_target
from bitnet.kernels.attention import SPAN
from bitnet.kernels.kv_cache import BLOCK
from bitnet.program import Program
from bitnet.program.attention import attention_items
from bitnet.program.reference import logits_reference
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import VOCAB, Array, Case, spec

chunks = st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 700)), min_size=1, max_size=6)


@given(chunks)
def test_items_cover_what_each_token_sees_once(parts: list[tuple[int, int]]) -> None:
    items = attention_items(parts)
    seen = Counter(
        (token, span)
        for first, n, start, stop, _ in items.rows.tolist()
        for token in range(first, first + n)
        for span in range(start, stop)
    )
    positions = [position + i for position, n in parts for i in range(n)]
    expected = {(i, s) for i, p in enumerate(positions) for s in range(p // SPAN + 1)}
    assert seen == Counter(expected)


@given(chunks)
def test_the_first_items_are_one_of_each_block(parts: list[tuple[int, int]]) -> None:
    items = attention_items(parts)
    blocks = items.rows[: items.n_blocks]
    tokens = [t for first, n, *_ in blocks.tolist() for t in range(first, first + n)]
    assert sorted(tokens) == list(range(sum(n for _, n in parts)))
    place = [(i, (start + j) // BLOCK) for i, (start, n) in enumerate(parts) for j in range(n)]
    for first, n, *_ in blocks.tolist():
        assert len(set(place[first : first + n])) == 1, "of one sequence, between two multiples"
    assert len(set(place)) == items.n_blocks


@given(chunks)
def test_no_two_items_write_to_the_same_slot(parts: list[tuple[int, int]]) -> None:
    items = attention_items(parts)
    slots = [slot + i for _, n, _, _, slot in items.rows.tolist() for i in range(n)]
    assert sorted(slots) == list(range(items.n_slots))


def test_spans_are_handed_out_one_by_one_when_there_are_few_tokens() -> None:
    position = 3 * SPAN + 5
    assert len(attention_items([(position, 1)]).rows) == 4
    assert len(attention_items([(position, BLOCK - 5)]).rows) == 4
    assert len(attention_items([(position, 4 * BLOCK - 5)]).rows) == 4  # blocks


# -- long sequences ------------------------------------------------------------------------------

LONG = 2 * SPAN + 45
ONE_LAYER = spec(n_layers=1)
GROUPS = {
    "a head each": Case(replace(ONE_LAYER, n_heads=3, n_kv_heads=3, head_dim=34), *["f16"] * 3),
    "groups of 3": Case(replace(ONE_LAYER, n_heads=6, n_kv_heads=2), "f16", "f16", "f16"),
    "one group of 9": Case(
        replace(ONE_LAYER, n_heads=9, n_kv_heads=1, head_dim=66), "f16", "f16", "f32"
    ),
}


@cache
def tokens(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, LONG).tolist()


@cache
def expected(case: Case, seed: int = 0) -> Array:
    return logits_reference(case.spec, case.tensors, np.array(tokens(seed)), case.kv)


def stepper(
    case: Case, target: Target, threads: int, *, page_size: int = 64, checked: bool = False
) -> Stepper:
    program = Program(case.plan(page_size=page_size), target, checked=checked)
    weights = Weights(program, case.tensors, LONG, Workers(1))
    return Stepper(program, weights, Workers(threads), LONG)


def advance(sequence: KVSequence, seed: int, count: int) -> Chunk:
    start = sequence.length
    return Chunk(sequence, tokens(seed)[start : start + count], range(count))


@pytest.mark.parametrize("group", GROUPS)
def test_long_prompts_whatever_the_group(target: Target, group: str) -> None:
    """All at once, then in pieces that end around the edges of spans; then token by token."""
    case = GROUPS[group]
    steps, at_once, sequence = stepper(case, target, 2), KVSequence(), KVSequence()
    assert_same_bits(steps.step([advance(at_once, 0, LONG)]), expected(case))
    for count in (SPAN - 3, 2, 1, 1, SPAN - 2, 1, 1, 1, 7, 32):
        start = sequence.length
        logits = steps.step([advance(sequence, 0, count)])
        assert_same_bits(logits, expected(case)[start : start + count].copy())


@pytest.mark.parametrize("page_size", [32, 64, 96, 128])
@pytest.mark.parametrize("threads", [1, 3])
def test_prompts_and_decoding_sequences_in_one_batch(page_size: int, threads: int) -> None:
    case = GROUPS["groups of 3"]
    steps = stepper(case, find_target(), threads, page_size=page_size)
    sequences = [KVSequence() for _ in range(4)]
    for counts in ([SPAN + 40, 1, 30, 9], [1, SPAN + 9, 33, 1], [1, 1, SPAN, 1], [230, 1, 1, 40]):
        starts = [sequence.length for sequence in sequences]
        logits = steps.step(
            [
                advance(sequence, seed, count)
                for seed, (sequence, count) in enumerate(zip(sequences, counts, strict=True))
            ]
        )
        parts = [
            expected(case, seed)[start : start + count]
            for seed, (start, count) in enumerate(zip(starts, counts, strict=True))
        ]
        assert_same_bits(logits, np.concatenate(parts))


@pytest.mark.parametrize("group", GROUPS)
def test_checked_code_stays_inside_its_buffers(group: str) -> None:
    case = GROUPS[group]
    steps, sequence = stepper(case, find_target(), 2, page_size=32, checked=True), KVSequence()
    for count in (SPAN + 5, 1, SPAN, 1, 30):
        start = sequence.length
        logits = steps.step([advance(sequence, 0, count)])
        assert_same_bits(logits, expected(case)[start : start + count].copy())
