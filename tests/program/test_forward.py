"""The compiled forward pass gives the bits of the numpy reference, however it is run."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitnet.codegen import Target, available_targets, find_target
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.head import Kind
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.layouts import LAYOUTS, LayoutName
from bitnet.program.step import Chunk, KVSequence, Stepper
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    ALIGNED,
    CASES,
    LENGTH,
    MAX_TOKENS,
    VOCAB,
    Array,
    Case,
    all_logits,
    prompt,
    reference,
    spec,
    stepper,
)

SMALL = CASES["bitnet-b1.58"]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_every_architecture_on_every_target(case: Case, target: Target) -> None:
    assert_same_bits(all_logits(stepper(case, target), prompt(), LENGTH), reference(case))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(target: Target, layout: LayoutName) -> None:
    for case in CASES.values() if layout != "i2_s" else [ALIGNED]:
        steps = stepper(case, target, layout=layout)
        for chunk in (LENGTH, 5, 2):
            assert_same_bits(all_logits(steps, prompt(), chunk), reference(case))
        one_by_one = all_logits(steps, prompt()[:9], 1)
        assert_same_bits(one_by_one, reference(case)[:9].copy())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checked_code_of_every_layout_stays_inside_its_buffers(layout: LayoutName) -> None:
    steps = stepper(ALIGNED, find_target(), checked=True, layout=layout)
    for chunk in (LENGTH, 3, 1):
        length = LENGTH if chunk > 1 else 9
        logits = all_logits(steps, prompt()[:length], chunk)
        assert_same_bits(logits, reference(ALIGNED)[:length].copy())


def test_only_aligned_shapes_are_used_in_place() -> None:
    with pytest.raises(InvalidArgumentError, match=r"i2_s.*attn_q"):
        SMALL.plan("i2_s")


@pytest.mark.parametrize("chunk", [1, 7, 32, 45])
def test_chunks_do_not_matter(case: Case, target: Target, chunk: int) -> None:
    assert_same_bits(all_logits(stepper(case, target), prompt(), chunk), reference(case))


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_do_not_matter(case: Case, target: Target, threads: int) -> None:
    team = stepper(case, target, threads=threads)
    for chunk in (LENGTH, 7):
        assert_same_bits(all_logits(team, prompt(), chunk), reference(case))
    one_by_one = all_logits(team, prompt()[:9], 1)
    assert_same_bits(one_by_one, reference(case)[:9].copy())


def test_checked_code_stays_inside_its_buffers(case: Case) -> None:
    for threads, chunk in ((1, LENGTH), (3, 7)):
        checked = stepper(case, find_target(), threads=threads, checked=True)
        assert_same_bits(all_logits(checked, prompt(), chunk), reference(case))


def test_checked_code_of_a_target_with_smaller_blocks_stays_inside_too() -> None:
    name = "avx2" if "avx2" in available_targets() else "scalar"
    checked = stepper(SMALL, find_target(name), checked=True)
    for chunk in (LENGTH, 1):
        assert_same_bits(all_logits(checked, prompt(), chunk), reference(SMALL))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65])
def test_prompts_around_every_block_size(target: Target, length: int) -> None:
    logits = all_logits(stepper(SMALL, target), prompt()[:length], length)
    assert_same_bits(logits, reference(SMALL)[:length].copy())


@pytest.mark.parametrize("page_size", [32, 64, 96])
def test_pages_do_not_matter(page_size: int) -> None:
    for chunk in (LENGTH, 5):
        logits = all_logits(stepper(SMALL, find_target(), page_size=page_size), prompt(), chunk)
        assert_same_bits(logits, reference(SMALL))


@pytest.mark.parametrize(
    ("embedding", "head", "kv"),
    [
        ("f16", "f32", "f32"),
        ("f16", "bf16", "f16"),
        ("bf16", "f16", "f32"),
        ("bf16", "f32", "f16"),
        ("f32", "f16", "f16"),
        ("f32", "f32", "f32"),
    ],
)
def test_tables_and_caches_of_every_format(embedding: Kind, head: Kind, kv: KVKind) -> None:
    case = Case(spec(n_layers=1, tied_head=False), embedding, head, kv)
    logits = all_logits(stepper(case, find_target()), prompt()[:20], 20)
    assert_same_bits(logits, reference(case, 20))


def test_the_cache_format_is_seen_in_the_logits() -> None:
    """Else the tests above could not tell f16 from f32."""
    exact = replace(SMALL, kv="f32")
    assert not np.array_equal(reference(SMALL, 20), reference(exact, 20))
    logits = all_logits(stepper(exact, find_target()), prompt()[:20], 20)
    assert_same_bits(logits, reference(exact, 20))


def test_only_wanted_tokens_get_logits(target: Target) -> None:
    steps = stepper(SMALL, target, threads=2)
    first, second = KVSequence(), KVSequence()
    none = steps.step([Chunk(first, prompt()[:9], range(0))])
    assert none.shape == (0, VOCAB)
    some = steps.step(
        [
            Chunk(first, prompt()[9:30], range(20, 21)),
            Chunk(second, prompt(1)[:12], range(3, 12, 4)),
        ]
    )
    assert_same_bits(some[:1].copy(), reference(SMALL)[29:30].copy())
    assert_same_bits(some[1:].copy(), solo(target, 1)[3:12:4].copy())


# -- several sequences ---------------------------------------------------------------------------


class Conversation:
    """A sequence that is fed its tokens bit by bit and checks its logits each time."""

    def __init__(self, seed: int, expected: Array) -> None:
        self.tokens = prompt(seed)
        self.expected = expected
        self.sequence = KVSequence()

    @property
    def left(self) -> int:
        return len(self.tokens) - self.sequence.length

    def chunk(self, n: int) -> Chunk:
        start = self.sequence.length
        part = self.tokens[start : start + n]
        return Chunk(self.sequence, part, range(len(part)))

    def check(self, chunk: Chunk, logits: Array) -> None:
        stop = self.sequence.length
        assert_same_bits(logits, self.expected[stop - len(chunk.tokens) : stop].copy())


def solo(target: Target, seed: int) -> Array:
    """The logits of prompt(seed) on its own."""
    return all_logits(stepper(SMALL, target), prompt(seed), LENGTH)


def advance_together(steps: Stepper, plan: list[tuple[Conversation, int]]) -> None:
    chunks = [conversation.chunk(n) for conversation, n in plan]
    logits, at = steps.step(chunks), 0
    for (conversation, _), chunk in zip(plan, chunks, strict=True):
        conversation.check(chunk, logits[at : at + len(chunk.tokens)])
        at += len(chunk.tokens)
    assert at == len(logits)


def poison(steps: Stepper) -> None:
    """Spoil all memory that a step must not rely on: scratch, and pages nobody holds."""
    for name, array in steps._scratch.items():
        if name != "sync":
            array.view(np.uint8)[:] = 0xFF
    for page in steps.pages._free:
        page[:] = 0xFF


@given(st.randoms(use_true_random=False), st.sampled_from([1, 3]), st.sampled_from([32, 64]))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_sequences_in_one_batch_do_not_touch_each_other(
    rng: random.Random, threads: int, page_size: int
) -> None:
    """They come and go in any order and portions; pages are used again; nothing is left."""
    target = find_target()
    expected = {seed: solo(target, seed) for seed in range(4)}
    steps = stepper(SMALL, target, threads=threads, page_size=page_size)
    running: list[Conversation] = []
    for _ in range(25):
        if len(running) < 4:
            seed = rng.randrange(4)
            running.append(Conversation(seed, expected[seed]))
        chosen = rng.sample(running, rng.randint(1, len(running)))
        room = MAX_TOKENS // len(chosen)
        plan = [(c, rng.choice([1, 1, 2, 5, room])) for c in chosen if c.left]
        if plan:
            advance_together(steps, plan)
        for conversation in [c for c in running if not c.left or rng.random() < 0.1]:
            steps.release(conversation.sequence)
            running.remove(conversation)
        poison(steps)


def test_the_first_of_them_is_the_reference(target: Target) -> None:
    assert_same_bits(solo(target, 0), reference(SMALL))


def test_released_pages_are_used_again() -> None:
    steps = stepper(SMALL, find_target(), page_size=32)
    sequences = [KVSequence() for _ in range(3)]
    for sequence in sequences:
        all_logits(steps, prompt(), LENGTH, sequence)
    used = steps.pages.n_allocated
    assert used == 3 * -(-LENGTH // 32)
    for sequence in sequences:
        steps.release(sequence)
        assert (sequence.length, sequence.pages) == (0, [])
        poison(steps)
    for sequence in reversed(sequences):
        assert_same_bits(all_logits(steps, prompt(), 9, sequence), reference(SMALL))
    assert steps.pages.n_allocated == used
