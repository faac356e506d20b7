"""Output heads of every kind in a whole forward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Target, find_target
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.hilo import split_reference
from bitnet.models.tensors import DenseTensor
from bitnet.program import Plan
from bitnet.program.head import head_bytes
from bitnet.program.plan import HeadKind, choose_head
from bitnet.program.reference import hidden_reference
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from tests.kernels.harness import assert_same_bits, few, seeds
from tests.program.random_models import (
    MAX_TOKENS,
    N_POSITIONS,
    VOCAB,
    Array,
    Case,
    RandomTensors,
    all_logits,
    program,
    prompt,
    reference,
    spec,
    stepper,
)

LENGTH = 21
NARROW, WIDE, WIDEST = (spec(n_layers=1, hidden_size=n, tied_head=False) for n in (72, 96, 256))
CASES = {
    "int8": Case(NARROW, "f16", "f16", "f16", "int8"),
    "q8_0 of bf16": Case(WIDE, "f16", "bf16", "f16", "q8_0"),
    "q8_0 as stored": Case(WIDE, "f16", "q8_0", "f16", "q8_0"),
    "q6_k of f32": Case(WIDEST, "f16", "f32", "f16", "q6_k"),
    "q6_k as stored": Case(WIDEST, "f16", "q6_k", "f16", "q6_k"),
    "tied q8_0": Case(replace(WIDE, tied_head=True), "q8_0", "q8_0", "f16", "q8_0"),
    "tied q6_k": Case(replace(WIDEST, tied_head=True), "q6_k", "q6_k", "f16", "q6_k"),
    "certified": Case(NARROW, "f16", "bf16", "f16", "certified"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_hidden_states_are_what_the_head_reads(target: Target) -> None:
    for case in (CASES["certified"], CASES["q8_0 as stored"]):
        steps, sequence = stepper(case, target, threads=2), KVSequence()
        tokens = prompt()[:LENGTH]
        first = steps.hidden_states([Chunk(sequence, tokens[:9], range(9))])
        rest = steps.hidden_states([Chunk(sequence, tokens[9:], range(2, LENGTH - 9))])
        expected = hidden_reference(case.spec, case.tensors, np.array(tokens), case.kv)
        assert_same_bits(np.concatenate([first, rest]), np.delete(expected, [9, 10], axis=0))


def test_every_kind_has_the_bits_of_its_reference_on_every_target(
    case: Case, target: Target
) -> None:
    logits = all_logits(stepper(case, target), prompt()[:LENGTH], LENGTH)
    assert_same_bits(logits, reference(case, LENGTH))


def test_threads_and_chunks_do_not_matter(case: Case) -> None:
    for threads, chunk in ((1, 1), (3, 5), (2, LENGTH)):
        logits = all_logits(stepper(case, find_target(), threads=threads), prompt()[:LENGTH], chunk)
        assert_same_bits(logits, reference(case, LENGTH))


def test_checked_code_stays_inside_its_buffers(case: Case) -> None:
    checked = stepper(case, find_target(), threads=2, checked=True)
    sequence = KVSequence()
    chunk = Chunk(sequence, prompt()[:LENGTH], range(LENGTH), best=3, exact_ids=(0, VOCAB - 1))
    assert checked.step([chunk]).shape == (LENGTH, VOCAB)
    logits = all_logits(checked, prompt()[:LENGTH], 7)
    assert_same_bits(logits, reference(case, LENGTH))


def test_a_quantised_head_adds_only_the_error_of_its_weights(case: Case) -> None:
    """The activations keep 15 bits: the rest of the difference is the table's own."""
    h = hidden_reference(case.spec, case.tensors, np.array(prompt()[:LENGTH]), case.kv)
    name = "token_embd.weight" if case.spec.tied_head else "output.weight"
    stored = case.tensors.dense(name)
    if stored.kind not in ("q8_0", "q6_k"):
        pytest.skip("the table is quantised on loading")
    table = stored.float32().astype(float)
    v, scale = split_reference(h)
    missing = np.linalg.norm(h - v * scale[:, None].astype(float), axis=1)
    assert (missing <= scale * (0.5001 * np.sqrt(h.shape[1]))).all()
    allowed = missing[:, None] * np.linalg.norm(table, axis=1)
    error = np.abs(reference(case, LENGTH) - h.astype(float) @ table.T)
    assert (error <= allowed + 1e-5).all()


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.02), ("q8_0", 0.02), ("q6_k", 0.05)])
def test_quantising_a_table_costs_what_its_bits_say(kind: HeadKind, share: float) -> None:
    exact = Case(WIDEST, "f16", "f16", "f16")
    logits = reference(replace(exact, head_kind=kind), LENGTH)
    error = (logits - reference(exact, LENGTH)).std()
    assert 0 < error < share * reference(exact, LENGTH).std()


# -- certified -----------------------------------------------------------------------------------

MANY = 1005  # tokens: not whole tiles, and more than one work item
LARGE = Case(spec(n_layers=1, tied_head=False, vocab_size=MANY), "f16", "f16", "f16", "certified")


def table_of(case: Case) -> Array:
    return case.tensors.dense("output.weight").data.copy()


def steps_with(
    table: Array, kind: HeadKind, norm: Array | None = None, threads: int = 2
) -> Stepper:
    """A model of LARGE with another table, f32, and another output norm."""
    case = replace(LARGE, head="f32", head_kind=kind)
    tensors = RandomTensors(case)
    tensors._dense["output.weight"] = DenseTensor("output.weight", table.astype(np.float32), "f32")
    if norm is not None:
        tensors._dense["output_norm.weight"] = DenseTensor("output_norm.weight", norm, "f32")
    compiled = program(case, find_target())
    weights = Weights(compiled, tensors, N_POSITIONS, Workers(1))
    return Stepper(compiled, weights, Workers(threads), MAX_TOKENS)


def logits_of(steps: Stepper, best: int = 0, exact_ids: tuple[int, ...] = ()) -> Array:
    tokens = prompt()[:6]
    return steps.step([Chunk(KVSequence(), tokens, range(6), best, exact_ids)])


def assert_certified(logits: Array, exact: Array, best: int, ids: tuple[int, ...] = ()) -> None:
    """All logits that matter are exact; the others are, or are -inf."""
    for row, full in zip(logits, exact, strict=True):
        kept = ~np.isneginf(row) | np.isneginf(full)
        assert_same_bits(row[kept], full[kept])
        worst = np.sort(full)[::-1][min(best, len(full)) - 1]
        assert kept[full >= worst].all()
        assert kept[list(ids)].all()


@given(seeds, st.sampled_from([1, 2, 7, 40, 63, 64, 500, MANY, MANY + 9]))
@few
def test_the_best_are_those_of_the_stored_head(seed: int, best: int) -> None:
    """Also where many logits are nearly or quite the same."""
    rng = np.random.default_rng(seed)
    table = table_of(LARGE).astype(np.float32)
    copies = rng.integers(0, MANY, 400)
    table[copies] = table[rng.integers(0, MANY, 400)]
    close = rng.integers(0, MANY, 300)
    table[close] = table[0] * (1 + rng.integers(-3, 4, (300, 1)) * np.float32(2.0**-23))
    ids = tuple(rng.integers(0, MANY, 5).tolist())
    exact = logits_of(steps_with(table, "stored"))
    certified = steps_with(table, "certified")
    assert_certified(logits_of(certified, best, ids), exact, best, ids)
    assert_same_bits(logits_of(certified), exact)


def test_most_logits_are_not_computed_exactly() -> None:
    logits = logits_of(stepper(LARGE, find_target()), best=1)
    assert (np.isfinite(logits).sum(axis=1) < MANY / 5).all()


def test_what_is_certified_depends_on_nothing_else(target: Target) -> None:
    expected = logits_of(stepper(LARGE, find_target()), best=5, exact_ids=(3, 1004))
    for threads in (1, 3):
        steps = stepper(LARGE, target, threads=threads)
        assert_same_bits(logits_of(steps, best=5, exact_ids=(3, 1004)), expected)
        sequence = KVSequence()
        rows = [
            steps.step([Chunk(sequence, [token], range(1), 5, (3, 1004))]) for token in prompt()[:6]
        ]
        assert_same_bits(np.concatenate(rows), expected)


def test_rows_of_every_wish_share_a_step() -> None:
    steps = stepper(LARGE, find_target(), threads=2)
    exact = logits_of(steps)
    wishes = [(0, ()), (1, (4,)), (30, ()), (0, ()), (2, ())]
    chunks = [
        Chunk(KVSequence(), prompt()[:6], range(i, 6, 2), *wish) for i, wish in enumerate(wishes)
    ]
    logits, at = steps.step(chunks), 0
    for chunk in chunks:
        rows = logits[at : at + len(chunk.wanted)]
        at += len(rows)
        expected = exact[list(chunk.wanted)]
        if chunk.best:
            assert_certified(rows, expected, chunk.best, tuple(chunk.exact_ids))
            assert np.isneginf(rows).any()
        else:
            assert_same_bits(rows, expected)
    assert at == len(logits)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_broken_rows_come_out_as_from_the_stored_head(odd: float) -> None:
    table = table_of(LARGE).astype(np.float32)
    table[[5, 700, 1004], 3] = odd
    with np.errstate(invalid="ignore"):
        exact = logits_of(steps_with(table, "stored"))
    logits = logits_of(steps_with(table, "certified"), best=4)
    for row, full in zip(logits, exact, strict=True):
        np.testing.assert_array_equal(row[[5, 700, 1004]], full[[5, 700, 1004]])
        numbers = np.where(np.isfinite(full), full, -np.inf)
        best = np.argsort(-numbers, kind="stable")[:4]
        assert_same_bits(row[best], full[best])


@pytest.mark.parametrize(
    ("table_scale", "norm_scale"),
    [(1.0, np.nan), (1.0, np.inf), (1e30, 1e20), (1e37, 1.0), (1e-30, 1e-30), (0.0, 1.0), (1, 0)],
)
def test_models_of_any_size_come_out_as_from_the_stored_head(
    table_scale: float, norm_scale: float
) -> None:
    table = table_of(LARGE).astype(np.float32) * np.float32(table_scale)
    norm = np.full(LARGE.spec.hidden_size, norm_scale, np.float32)
    exact = logits_of(steps_with(table, "stored", norm))
    logits = logits_of(steps_with(table, "certified", norm), best=3)
    for row, full in zip(logits, exact, strict=True):
        if np.isfinite(full).all():
            assert_certified(row[None], full[None], 3)
        else:
            np.testing.assert_array_equal(row, full)


@pytest.mark.parametrize("ids", [(-1,), (MANY,)])
def test_wishes_that_no_row_can_have_are_refused(ids: tuple[int, ...]) -> None:
    steps = stepper(LARGE, find_target())
    with pytest.raises(InvalidArgumentError, match="exact id"):
        steps.step([Chunk(KVSequence(), [1], range(1), 1, ids)])
    with pytest.raises(InvalidArgumentError, match="best"):
        steps.step([Chunk(KVSequence(), [1], range(1), -1)])


# -- the choice ----------------------------------------------------------------------------------


def test_large_tables_of_floats_are_certified() -> None:
    large = spec(vocab_size=128_000, tied_head=False)
    assert choose_head(None, "f16", large) == "certified"
    assert choose_head(None, "f16", spec()) == "stored"
    assert choose_head("stored", "f16", large) == "stored"
    assert choose_head("certified", "f32", spec()) == "certified"


def test_blocks_of_a_file_are_used_as_they_are() -> None:
    for asked in (None, "stored", "q6_k"):
        assert choose_head(asked, "q6_k", WIDEST) == "q6_k"
    assert choose_head(None, "q8_0", WIDE) == "q8_0"


@pytest.mark.parametrize(
    ("asked", "table", "width", "reason"),
    [
        ("certified", "q6_k", 256, "stored as q6_k"),
        ("q8_0", "q6_k", 256, "stored as q6_k"),
        ("q8_0", "f16", 72, "multiple of 32 columns, not 72"),
        ("q6_k", "f16", 96, "multiple of 256 columns, not 96"),
        ("int8", "f16", 2**17 + 2, "at most 131072 columns"),
        ("q4_0", "f16", 72, "one of stored, int8"),
    ],
)
def test_what_a_table_cannot_be_is_refused(
    asked: HeadKind, table: str, width: int, reason: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        choose_head(asked, table, spec(hidden_size=width))


def test_a_plan_does_not_run_blocks_as_floats() -> None:
    with pytest.raises(InvalidArgumentError, match="runs as q6_k"):
        Plan(WIDEST, "f16", "q6_k")


@pytest.mark.parametrize(
    ("name", "bits"), [("int8", 8), ("q8_0 as stored", 8.5), ("q6_k of f32", 6.625)]
)
def test_a_plan_knows_what_a_pass_over_the_head_reads(name: str, bits: float) -> None:
    plan, columns = CASES[name].plan(), CASES[name].spec.hidden_size
    assert head_bytes(plan) == pytest.approx(80 * (-(-columns // 64) * 64) * bits / 8, rel=0.4)
    assert head_bytes(plan) < VOCAB * columns * 2


def test_a_stored_head_reads_its_table() -> None:
    plan = replace(CASES["int8"], head_kind="stored").plan()
    assert head_bytes(plan) == VOCAB * plan.spec.hidden_size * 2
