"""A program beside its forward pass: plans, weights, small functions, checked mode."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from bitnet.codegen import Target, find_target, jit
from bitnet.errors import BoundsError, InvalidArgumentError
from bitnet.kernels.sampling import penalize_reference, sample_reference, scratch_bytes
from bitnet.models.tensors import DenseTensor
from bitnet.program import Plan, Program
from bitnet.program.program import build_module
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    ALIGNED,
    CASES,
    MAX_TOKENS,
    N_POSITIONS,
    VOCAB,
    RandomTensors,
    all_logits,
    program,
    prompt,
    reference,
    spec,
    stepper,
)

CASE = CASES["bitnet-b1.58"]


@pytest.mark.parametrize("page_size", [0, -32, 16, 33, 100])
def test_a_page_holds_whole_blocks(page_size: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"positive multiple of 32, not {page_size}"):
        Plan(spec(), page_size=page_size)


def test_the_cache_is_f16_or_f32() -> None:
    with pytest.raises(InvalidArgumentError, match="kv must be 'f16' or 'f32', not 'q8'"):
        Plan(spec(), kv="q8")


def test_nothing_outside_of_a_program_is_called(target: Target) -> None:
    _, assembly = jit.optimized(build_module(CASE.plan(), target))
    assert re.search(r"\bmem(set|cpy|move)\b", assembly) is None


def test_penalties_and_choices_go_through_the_program(target: Target) -> None:
    compiled = program(CASE, target)
    rng = np.random.default_rng(5)
    logits = rng.standard_normal(VOCAB).astype(np.float32)
    assert compiled.argmax(logits) == logits.argmax()
    scratch = np.empty(scratch_bytes(VOCAB) // 4, np.int32).view(np.uint8)
    for uniform in (0.0, 0.3, 0.99):
        token = compiled.sample(logits, 0.7, 9, 0.9, 0.01, uniform, scratch)
        assert token == sample_reference(logits, 0.7, 9, 0.9, 0.01, uniform)
    ids, counts = np.array([3, 70], np.int32), np.array([1, 4], np.int32)
    expected = penalize_reference(logits, ids, counts, 1.3, 0.1, 0.2)
    compiled.penalize(logits, ids, counts, 1.3, 0.1, 0.2)
    assert_same_bits(logits, expected)


def test_loading_reports_its_progress_from_nothing_to_all() -> None:
    shares: list[float] = []
    Weights(program(CASE, find_target()), CASE.tensors, N_POSITIONS, Workers(1), shares.append)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_weights_take_two_bits_each_or_less() -> None:
    weights = 3 * 128 * (256 + 128 + 768 + 384)  # outputs in whole blocks of 64
    assert ALIGNED.plan("2bit").ternary_bytes == weights // 4
    assert ALIGNED.plan("i2_s").ternary_bytes == weights // 4
    assert weights // 5 < ALIGNED.plan("b3").ternary_bytes < weights * 1.1 // 5


def test_tables_may_lie_anywhere_in_a_file() -> None:
    """Tensors mapped from a file need not be aligned to their numbers."""

    class Unaligned(RandomTensors):
        def dense(self, name: str) -> DenseTensor:
            tensor = super().dense(name)
            raw = b"\xff" + tensor.data.tobytes()
            data = np.frombuffer(raw, np.uint8)[1:].view(tensor.data.dtype)
            return replace(tensor, data=data.reshape(tensor.data.shape))

    compiled = program(CASE, find_target())
    weights = Weights(compiled, Unaligned(CASE), N_POSITIONS, Workers(1))
    steps = Stepper(compiled, weights, Workers(1), MAX_TOKENS)
    assert_same_bits(all_logits(steps, prompt()[:9], 9), reference(CASE)[:9].copy())


@pytest.mark.parametrize("tokens", [[VOCAB], [-1], [], [1] * (MAX_TOKENS + 1)])
def test_a_step_refuses_what_it_has_no_memory_for(tokens: list[int]) -> None:
    with pytest.raises(InvalidArgumentError):
        stepper(CASE, find_target()).step([Chunk(KVSequence(), tokens, range(0))])


def test_a_step_refuses_positions_past_the_tables() -> None:
    steps, sequence = stepper(CASE, find_target()), KVSequence()
    all_logits(steps, [1] * N_POSITIONS, MAX_TOKENS, sequence)
    with pytest.raises(InvalidArgumentError, match="positions"):
        steps.step([Chunk(sequence, [1], range(1))])


def test_a_layer_too_wide_for_its_sums_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="wider"):
        Plan(replace(CASE.spec, ffn_size=2**19 + 1))


# -- checked mode --------------------------------------------------------------------------------


@pytest.fixture
def unchecked_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps through that the stepper would refuse before they reach compiled code."""
    monkeypatch.setattr(Stepper, "_check", lambda *_: None)


@pytest.mark.usefixtures("unchecked_steps")
@pytest.mark.parametrize("token", [VOCAB, -1, 2**31 - 1])
def test_checked_mode_turns_a_wrong_token_into_an_error(token: int) -> None:
    steps = stepper(CASE, find_target(), checked=True, threads=2)
    with pytest.raises(BoundsError, match="forward: buffer embedding"):
        steps.step([Chunk(KVSequence(), [1, token, 2], range(3))])
    assert_same_bits(all_logits(steps, prompt()[:9], 4), reference(CASE)[:9].copy())


@pytest.mark.usefixtures("unchecked_steps")
def test_checked_mode_turns_a_position_past_the_tables_into_an_error() -> None:
    steps = stepper(CASE, find_target(), checked=True)
    sequence = KVSequence()
    all_logits(steps, [1] * N_POSITIONS, MAX_TOKENS, sequence)
    with pytest.raises(BoundsError, match="forward: buffer rope_cos"):
        steps.step([Chunk(sequence, [1], range(1))])


def test_checked_mode_can_be_asked_for_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITNET_DEBUG", "checked")
    compiled = Program(CASE.plan(), find_target())
    logits = np.zeros(VOCAB, np.float32)
    with pytest.raises(BoundsError, match=r"penalize: buffer penalize\.logits"):
        compiled.penalize(logits, np.array([VOCAB], np.int32), np.ones(1, np.int32), 2.0, 1.0, 1.0)
    assert not logits.any()
