"""The probes: what they measure is a speed, and their loops are what they claim to be."""

from __future__ import annotations

import math

import pytest

from bitnet.bench import probes
from bitnet.bench.probes import WAYS_TO_MULTIPLY, Limits, Probes, probe_module
from bitnet.codegen import Target, find_target, jit
from bitnet.program.workers import Workers
from tests.codegen.test_machine_code import hot_loops, multiply, per_vector


@pytest.mark.parametrize("threads", [1, 2])
def test_limits_are_positive_numbers(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_BYTES_PER_THREAD", 1 << 24)
    monkeypatch.setattr(probes, "_SECONDS", 1e-4)
    workers = Workers(threads)
    limits = Probes(find_target(), workers).measure()
    workers.close()
    for limit in (limits.bandwidth, limits.peak):
        assert math.isfinite(limit)
        assert limit > 0


def test_of_two_measurements_the_better_one_counts() -> None:
    assert Limits(2.0, 3.0).best(Limits(1.0, 5.0)) == Limits(2.0, 5.0)


def test_a_multiplying_loop_multiplies_and_spills_nothing(target: Target) -> None:
    """With as many accumulators as suit the target; more may not fit its registers."""
    if target.name == "scalar":
        pytest.skip("plain SSE2 has to widen bytes first")
    suits = {"avx2": 6, "avx2vnni": 6, "avx512": 12}[target.name]
    assert suits in WAYS_TO_MULTIPLY
    _, assembly = jit.optimized(probe_module(target))
    body = assembly.split(f"\nmultiply_{suits}:", 1)[1].split(".Lfunc_end", 1)[0]
    (loop,) = [loop for loop in hot_loops(body) if loop[multiply(target)]]
    assert loop[multiply(target)] % (suits * per_vector(target)) == 0  # LLVM may unroll it
    moves = {name: n for name, n in loop.items() if name.startswith("vmov")}
    assert sum(moves.values()) <= 1, moves  # the ones that pairs are added up with
