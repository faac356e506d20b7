"""What a model takes is known before it is allocated, and is refused beyond a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitnet.codegen import find_target
from bitnet.errors import ModelMemoryError
from bitnet.kernels.layouts import LayoutName
from bitnet.program.footprint import model_bytes
from bitnet.program.memory import MemoryBudget
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from tests.program.random_models import (
    ALIGNED,
    CASES,
    MAX_TOKENS,
    N_POSITIONS,
    Case,
    program,
    spec,
)

WIDE = spec(n_layers=1, hidden_size=256, tied_head=False)


def allocated_bytes(stepper: Stepper) -> int:
    weights = stepper.weights
    arrays = [*weights._keep, *weights._head.packed.values(), *stepper._scratch.values()]
    if weights._packer is not None:
        arrays.append(weights._packer._memory)
    return sum(array.nbytes for array in arrays)


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        (CASES["bitnet-b1.58"], "2bit"),
        (CASES["llama"], "b3"),
        (ALIGNED, "i2_s"),
        (Case(WIDE, "q8_0", "q6_k", "f16", "q6_k"), "b3"),
        (Case(replace(WIDE, hidden_size=72), "f32", "bf16", "f16", "certified"), "b3"),
    ],
)
def test_every_byte_is_known_before(case: Case, layout: LayoutName) -> None:
    compiled = program(case, find_target(), layout=layout)
    weights = Weights(compiled, case.tensors, N_POSITIONS, Workers(1))
    stepper = Stepper(compiled, weights, Workers(1), MAX_TOKENS)
    assert model_bytes(compiled.plan, N_POSITIONS, MAX_TOKENS) == allocated_bytes(stepper)


def test_kv_pages_are_counted_refused_and_given_back() -> None:
    compiled = program(CASES["bitnet-b1.58"], find_target())
    weights = Weights(compiled, CASES["bitnet-b1.58"].tensors, N_POSITIONS, Workers(1))
    memory = MemoryBudget()
    stepper = Stepper(compiled, weights, Workers(1), MAX_TOKENS, memory)
    sequence = KVSequence()
    stepper.step([Chunk(sequence, [1] * 70, range(0))])  # two pages of 64
    page = memory.used // 2
    assert memory.used == sum(p.nbytes for p in sequence.pages) == 2 * page
    memory.limit = memory.used
    other = KVSequence()
    with pytest.raises(ModelMemoryError, match=f"of a limit of {2 * page}, {2 * page} are in use"):
        stepper.reserve(other, 1)
    stepper.release(sequence)
    stepper.reserve(other, 1)
    assert memory.used == 2 * page, "a page that is kept is used again"
    stepper.pages.trim()
    assert memory.used == page


def test_a_budget_within_another_obeys_both_limits() -> None:
    whole = MemoryBudget(100)
    first, second = MemoryBudget(80, whole), MemoryBudget(None, whole)
    first.take(60, "weights")
    with pytest.raises(ModelMemoryError, match="weights need 21 bytes; of a limit of 80, 60"):
        first.take(21, "weights")
    with pytest.raises(ModelMemoryError, match="pages need 41 bytes; of a limit of 100, 60"):
        second.take(41, "pages")
    second.take(40, "pages")
    assert (first.used, second.used, whole.used) == (60, 40, 100)
    first.give_back(10)
    first.close()
    assert (first.used, second.used, whole.used) == (0, 40, 40)
