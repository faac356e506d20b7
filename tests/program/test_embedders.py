"""The forward pass of embedding models gives the bits of the numpy reference, however it is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitnet.codegen import Target, available_targets, find_target
from bitnet.kernels.layouts import LAYOUTS, LayoutName
from bitnet.program.step import Chunk, KVSequence, Stepper
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    EMBEDDERS,
    LENGTH,
    Array,
    Case,
    hidden_states,
    prompt,
    stepper,
)


@pytest.fixture(params=EMBEDDERS)
def case(request: pytest.FixtureRequest) -> Case:
    return EMBEDDERS[request.param]


def states(steps: Stepper, chunk: int, length: int = LENGTH) -> Array:
    """Hidden states of the first tokens of `prompt()`, fed `chunk` tokens at a time."""
    sequence, tokens = KVSequence(), prompt()[:length]
    parts = [tokens[i : i + chunk] for i in range(0, length, chunk)]
    return np.concatenate(
        [steps.hidden_states([Chunk(sequence, part, range(len(part)))]) for part in parts]
    )


def test_every_embedder_on_every_target(case: Case, target: Target) -> None:
    for chunk in (LENGTH, 7):
        assert_same_bits(states(stepper(case, target), chunk), hidden_states(case))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(case: Case, layout: LayoutName) -> None:
    if layout == "i2_s":
        sizes = {"hidden_size": 128, "ffn_size": 384, "head_dim": 32}
        case = replace(case, spec=replace(case.spec, **sizes))
    for chunk in (LENGTH, 3):
        assert_same_bits(
            states(stepper(case, find_target(), layout=layout), chunk), hidden_states(case)
        )


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_matter(case: Case, threads: int) -> None:
    team = stepper(case, find_target(), threads=threads)
    for chunk in (LENGTH, 7):
        assert_same_bits(states(team, chunk), hidden_states(case))


def test_checked_code_stays_inside_its_buffers(case: Case) -> None:
    names = [name for name in ("avx512", "avx2", "scalar") if name in available_targets()]
    name = names[0] if case.spec.post_norms else names[-2:][0]
    checked = stepper(case, find_target(name), threads=2, checked=True)
    assert_same_bits(states(checked, 33), hidden_states(case))
