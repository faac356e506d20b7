"""Profiled programs: the same results, and the time of each thread adds up."""

from __future__ import annotations

import numpy as np
import pytest

from bitnet.codegen import Module, Target, find_target
from bitnet.kernels.kv_cache import BLOCK
from bitnet.program import Program
from bitnet.program.abi import (
    PROFILE_CALLS,
    PROFILE_COLUMNS,
    PROFILE_ITEMS,
    PROFILE_PHASES,
    PROFILE_WAIT,
    PROFILE_WORK,
)
from bitnet.program.forward import add_forward, n_phases
from bitnet.program.program import build_module
from bitnet.program.step import Stepper
from bitnet.program.timer import empty_profile, phase_times
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    CASES,
    LENGTH,
    MAX_TOKENS,
    N_POSITIONS,
    VOCAB,
    all_logits,
    prompt,
    reference,
)

CASE = CASES["bitnet-b1.58"]
LAYERS = CASE.spec.n_layers


def profiled(target: Target, threads: int, *, checked: bool = False) -> Stepper:
    program = Program(CASE.plan(), target, checked=checked, profiled=True)
    workers = Workers(threads)
    weights = Weights(program, CASE.tensors, N_POSITIONS, workers)
    return Stepper(program, weights, workers, MAX_TOKENS)


def test_a_profiled_program_gives_the_same_bits(target: Target) -> None:
    steps = profiled(target, 2)
    assert_same_bits(all_logits(steps, prompt(), 11), reference(CASE).copy())


def test_every_phase_is_timed_on_every_thread() -> None:
    steps = profiled(find_target(), 2)
    program = steps.program
    before = program.ticks()
    all_logits(steps, prompt(), LENGTH)
    passed = program.ticks() - before
    (table,) = steps.profiles
    times = phase_times(table)
    assert times.shape == (2, PROFILE_PHASES, PROFILE_COLUMNS)
    assert not times[:, len(program.phases) :].any()
    times = times[:, : len(program.phases)]
    calls = dict(zip(program.phases, times[0, :, PROFILE_CALLS].tolist(), strict=True))
    assert sum(calls.values()) == n_phases(CASE.plan())
    assert {name for name, n in calls.items() if n == 1} == {"embed", "output_norm", "head"}
    assert set(calls.values()) == {1, LAYERS}
    items = dict(zip(program.phases, times[:, :, PROFILE_ITEMS].sum(axis=0).tolist(), strict=True))
    assert items["attention"] == LAYERS * -(-LENGTH // BLOCK) * CASE.spec.n_kv_heads
    assert items["embed"] == items["output_norm"] == LENGTH
    assert items["head"] == -(-VOCAB // 64)
    assert (times >= 0).all()
    for thread in times:
        assert thread[:, PROFILE_WORK].sum() + thread[:, PROFILE_WAIT].sum() <= passed
    assert times[0, :, PROFILE_WORK].sum() > 0


def test_a_thread_that_comes_again_takes_the_last_row() -> None:
    """As after a Ctrl-C; nothing outside of the table is written."""
    steps = profiled(find_target(), 1, checked=True)
    forward = steps.program.forward
    steps.program.forward = lambda *args: [forward(*args) for _ in range(3)]
    all_logits(steps, [1, 2], 2)
    (table,) = steps.profiles
    assert table[0] == 3
    assert phase_times(table)[0, 0, PROFILE_CALLS] == 3


def test_a_program_that_is_not_profiled_has_no_clocks() -> None:
    plain, timed = (
        build_module(CASE.plan(), find_target(), profiled=profiled) for profiled in (False, True)
    )
    assert "llvm.readcyclecounter" in str(timed)
    assert "llvm.readcyclecounter" not in str(plain)
    assert plain.phases == []
    assert len(timed.phases) == len(set(timed.phases)) == 13


def test_empty_profiles_have_a_row_for_each_thread() -> None:
    assert phase_times(empty_profile(5)).shape[0] == 5
    assert not np.any(empty_profile(5))


def test_too_many_phases_are_refused() -> None:
    module = Module(find_target(), profiled=True)
    module.phases.extend(str(i) for i in range(PROFILE_PHASES))
    with pytest.raises(ValueError, match="no room"):
        add_forward(module, CASE.plan())
