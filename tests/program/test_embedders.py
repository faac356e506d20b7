"""The forward pass of embedding models gives the bits of the numpy reference, however it is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitnet.codegen import Target, available_targets, find_target
from bitnet.errors import InvalidArgumentError, UnsupportedOperationError
from bitnet.kernels.layouts import LAYOUTS, LayoutName
from bitnet.program.footprint import model_bytes
from bitnet.program.plan import choose_head
from bitnet.program.reference import hidden_reference
from bitnet.program.step import Chunk, KVSequence, Stepper
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    EMBEDDERS,
    LENGTH,
    MAX_TOKENS,
    N_POSITIONS,
    Array,
    Case,
    hidden_states,
    prompt,
    stepper,
)
from tests.program.test_footprint import allocated_bytes


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


def test_several_texts_share_a_step(case: Case, target: Target) -> None:
    steps, tokens = stepper(case, target), prompt()
    alone = states(steps, 30, 30)
    first, second = KVSequence(), KVSequence()
    both = steps.hidden_states(
        [Chunk(first, tokens[:17], range(17)), Chunk(second, tokens[:9], range(3, 5))]
    )
    assert_same_bits(both, np.concatenate([alone[:17], alone[3:5]]))
    rest = [Chunk(second, tokens[9:30], range(21)), Chunk(first, tokens[17:20], range(0, 3, 2))]
    both = steps.hidden_states(rest)
    assert_same_bits(both, np.concatenate([alone[9:30], alone[17:20:2]]))


def test_there_are_no_logits(case: Case) -> None:
    steps = stepper(case, find_target())
    with pytest.raises(UnsupportedOperationError, match="no output head, so it gives no logits"):
        steps.step([Chunk(KVSequence(), [1, 2], range(1, 2))])
    assert steps.step([Chunk(KVSequence(), [1, 2], range(0))]).size == 0


def test_there_is_no_head_to_choose(case: Case) -> None:
    assert choose_head(None, "q6_k", case.spec) == "stored"
    with pytest.raises(InvalidArgumentError, match=r"'int8' is of no use: .* no output head"):
        choose_head("int8", "f16", case.spec)


def test_every_byte_is_known_before(case: Case) -> None:
    steps = stepper(case, find_target(), layout="b3")
    expected = model_bytes(steps.program.plan, N_POSITIONS, MAX_TOKENS)
    assert expected == allocated_bytes(steps)


def test_norms_and_scales_are_seen_in_the_hidden_states(case: Case) -> None:
    """Else the tests above could not tell whether they are there."""
    changes = [{"qk_norms": False}, {"input_norms": False}, {"activation": "relu2"}]
    if case.spec.post_norms:
        changes += [{"post_norms": False}, {"scaled_embedding": False}]
    for change in changes:
        other = replace(case, spec=replace(case.spec, **change))
        found = hidden_reference(other.spec, case.tensors, np.array(prompt()[:9]), case.kv)
        assert not np.allclose(found, hidden_states(case)[:9], rtol=1e-2)
