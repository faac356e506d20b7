"""Several requests and several threads: waiting, cancelling, pausing, batches, limits of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.program.step import Chunk
from bitnet.program.topology import available_cores

PROMPTS = [[1, 2, 3], [4] * 40, [5, 6], list(range(3, 90))]
GREEDY: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[bitnet.Model]:
    with bitnet.load(tiny_model, threads=1) as loaded:
        yield loaded


class Gate:
    """Steps of a model that wait until they are let through."""

    def __init__(self, model: bitnet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        step = model._engine._stepper.step

        def gated(chunks: list[Chunk]) -> np.ndarray:
            self.entered.set()
            assert self.open.wait(10)
            return step(chunks)

        monkeypatch.setattr(model._engine._stepper, "step", gated)


@pytest.fixture
def gate(model: bitnet.Model, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(model, monkeypatch)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


def test_a_step_of_others_blocks_neither_start_nor_close_nor_finished_tokens(
    model: bitnet.Model, gate: Gate
) -> None:
    gate.open.set()
    ahead = model.start(PROMPTS[0], **GREEDY)
    ahead.next_token()
    "".join(model.start(PROMPTS[1], **GREEDY))  # takes the other along
    gate.open.clear()
    gate.entered.clear()
    running, _ = in_thread(lambda: model.generate(PROMPTS[2], **GREEDY))
    assert gate.entered.wait(10)
    assert ahead.next_token() is not None
    model.start(PROMPTS[3]).close()
    gate.open.set()
    running.join()


def test_waiting_ends_when_another_thread_closes_the_generation(
    model: bitnet.Model, gate: Gate
) -> None:
    running, _ = in_thread(lambda: model.generate(PROMPTS[0], **GREEDY))
    assert gate.entered.wait(10)
    generation = model.start(PROMPTS[1], **GREEDY)
    waiting, results = in_thread(generation.next_token)
    generation.close()
    waiting.join(10)
    assert results == [None]
    assert generation.finish_reason == "cancelled"
    gate.open.set()
    running.join()


def test_a_closed_generation_leaves_the_step_that_runs(model: bitnet.Model, gate: Gate) -> None:
    generation = model.start(PROMPTS[0], **GREEDY)
    running, results = in_thread(generation.next_token)
    assert gate.entered.wait(10)
    generation.close()
    gate.open.set()
    running.join()
    assert results == [None]
    assert not model._engine._requests


def test_a_token_that_is_late_may_be_asked_for_again(model: bitnet.Model, gate: Gate) -> None:
    expected = model.start(PROMPTS[1], **GREEDY)
    running, _ = in_thread(expected.next_token)
    assert gate.entered.wait(10)
    late = model.start(PROMPTS[1], **GREEDY)
    with pytest.raises(bitnet.GenerationTimeoutError, match="in time"):
        late.next_token(timeout=0.01)
    with pytest.raises(TimeoutError):
        late.next_token(timeout=0)
    gate.open.set()
    running.join()
    "".join(expected)
    assert late.result().token_ids == expected.token_ids


def test_a_paused_generation_stays_that_far_ahead(model: bitnet.Model) -> None:
    paused = model.start(PROMPTS[0], max_ahead=3, **GREEDY)
    free = model.start(PROMPTS[0], **GREEDY)
    whole = model.generate(PROMPTS[2], **GREEDY)
    assert whole.finish_reason == "length"
    assert len(paused._request.output) == 3
    assert len(free._request.output) >= 11
    assert paused.result().token_ids == free.result().token_ids
    with pytest.raises(bitnet.InvalidArgumentError, match="max_ahead must be at least 1, not 0"):
        model.start(PROMPTS[0], max_ahead=0)


def test_a_batch_gives_what_each_prompt_gives_alone_in_shared_steps(
    model: bitnet.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [model.generate(prompt, **GREEDY) for prompt in PROMPTS]
    step, together = model._engine._stepper.step, []

    def counting(chunks: list[Chunk]) -> np.ndarray:
        together.append(len(chunks))
        return step(chunks)

    monkeypatch.setattr(model._engine._stepper, "step", counting)
    outcomes = model.generate_batch(PROMPTS, **GREEDY)
    assert max(together) == len(PROMPTS)
    for outcome, expected in zip(outcomes, alone, strict=True):
        assert isinstance(outcome, bitnet.Completion)
        assert (outcome.text, outcome.token_ids) == (expected.text, expected.token_ids)


def test_a_bad_prompt_of_a_batch_does_not_hurt_the_others(model: bitnet.Model) -> None:
    outcomes = model.generate_batch([[1], [10**6], [2], [3] * 300, []], **GREEDY)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [
        bitnet.Completion,
        bitnet.InvalidArgumentError,
        bitnet.Completion,
        bitnet.ContextLengthExceededError,
        bitnet.InvalidArgumentError,
    ]
    with pytest.raises(bitnet.InvalidArgumentError, match="top_p"):
        model.generate_batch([[1]], top_p=2)


def test_a_limit_of_requests_does_not_change_what_they_say(
    model: bitnet.Model, tiny_model: Path
) -> None:
    with bitnet.load(tiny_model, threads=1, max_requests=2) as limited:
        outcomes = limited.generate_batch(PROMPTS, **GREEDY)
        with pytest.raises(bitnet.InvalidArgumentError, match=r"max_requests must be in 1\.\.128"):
            bitnet.load(tiny_model, max_requests=0)
    for outcome, prompt in zip(outcomes, PROMPTS, strict=True):
        assert isinstance(outcome, bitnet.Completion)
        assert outcome.token_ids == model.generate(prompt, **GREEDY).token_ids


def test_max_length_counts_prompt_and_answer(model: bitnet.Model) -> None:
    completion = model.generate(PROMPTS[0], max_length=8, temperature=0)
    assert (len(completion.token_ids), completion.finish_reason) == (5, "length")
    with pytest.raises(bitnet.ContextLengthExceededError, match="no room in max_length of 3"):
        model.generate(PROMPTS[0], max_length=3)
    with pytest.raises(bitnet.InvalidArgumentError, match="max_length"):
        model.generate(PROMPTS[0], max_length=0)


def test_logprobs_are_those_of_the_logits(tiny_model: Path) -> None:
    for head in ("stored", "certified"):
        with bitnet.load(tiny_model, threads=1, head=head) as model:  # type: ignore[arg-type]
            options: dict[str, Any] = {"max_new_tokens": 5, "temperature": 1.5, "seed": 3}
            completion = model.generate(PROMPTS[0], logprobs=4, repetition_penalty=1.3, **options)
            assert len(completion.logprobs) == len(completion.token_ids) == 5
            logits = model.logits([*PROMPTS[0], *completion.token_ids[:-1]])[2:].astype(float)
            expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            for row, token, found in zip(
                expected, completion.token_ids, completion.logprobs, strict=True
            ):
                assert found.logprob == pytest.approx(row[token], rel=1e-9)
                assert [i for i, _ in found.top] == np.argsort(-row, kind="stable")[:4].tolist()
                assert [p for _, p in found.top] == pytest.approx(np.sort(row)[::-1][:4])
            assert model.generate(PROMPTS[0], **options).logprobs == []
            with pytest.raises(bitnet.InvalidArgumentError, match=r"logprobs must be in 0\.\.20"):
                model.generate(PROMPTS[0], logprobs=21)


def test_hidden_states_are_what_the_logits_come_from(model: bitnet.Model, tiny_model: Path) -> None:
    from bitnet.models import open_checkpoint

    ids = PROMPTS[3]
    states = model.hidden_states(ids)
    assert states.shape == (len(ids), model.config.hidden_size)
    with open_checkpoint(tiny_model) as checkpoint:
        table = checkpoint.dense("token_embd.weight").float32()
    np.testing.assert_allclose(states @ table.T, model.logits(ids), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model.hidden_states(ids[:40]), states[:40])


def test_another_number_of_threads_gives_the_same_tokens(model: bitnet.Model) -> None:
    expected = model.generate(PROMPTS[3], **GREEDY).token_ids
    model.set_threads(1000)
    assert model.threads == available_cores()
    assert model.generate(PROMPTS[3], **GREEDY).token_ids == expected
    with pytest.raises(bitnet.InvalidArgumentError, match="threads"):
        model.set_threads(0)
    model.set_threads(1)


def test_a_model_that_does_not_fit_is_refused_and_one_that_goes_gives_all_back(
    tiny_model: Path,
) -> None:
    memory = bitnet.MemoryBudget()
    with bitnet.load(tiny_model, threads=1, memory=memory) as model:
        loaded = model.memory_usage
        model.generate(PROMPTS[0], **GREEDY)
        assert memory.used == model.memory_usage > loaded
        model.trim()
        assert memory.used == loaded
    assert memory.used == model.memory_usage == 0
    memory.limit = loaded - 1
    with pytest.raises(bitnet.ModelMemoryError, match=f"need {loaded} bytes; of a limit of"):
        bitnet.load(tiny_model, threads=1, memory=memory)
    assert memory.used == 0


def test_a_request_without_memory_fails_and_the_others_go_on(tiny_model: Path) -> None:
    memory = bitnet.MemoryBudget()
    with bitnet.load(tiny_model, threads=1, memory=memory) as model:
        alone = model.generate(PROMPTS[0], **GREEDY)
        memory.limit = memory.used  # the one page that this needed
        outcomes = model.generate_batch([PROMPTS[0], PROMPTS[3]], **GREEDY)
        assert isinstance(outcomes[0], bitnet.Completion)
        assert outcomes[0].token_ids == alone.token_ids
        assert isinstance(outcomes[1], bitnet.ModelMemoryError)
        memory.limit = None
        assert model.generate(PROMPTS[3], **GREEDY).finish_reason == "length"


def test_a_broken_request_fails_alone(model: bitnet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = model._engine._sampler.choose

    def picky(request: Any, logits: np.ndarray) -> int:
        if request.prompt == PROMPTS[1]:
            raise bitnet.GenerationError("not numbers")
        return choose(request, logits)

    monkeypatch.setattr(model._engine._sampler, "choose", picky)
    good, bad = model.generate_batch([PROMPTS[0], PROMPTS[1]], **GREEDY)
    assert isinstance(good, bitnet.Completion)
    assert isinstance(bad, bitnet.GenerationError)


def test_whoever_wants_the_model_alone_waits_for_one_step_at_most(model: bitnet.Model) -> None:
    ended = []

    def run() -> None:
        model.generate(PROMPTS[0], max_new_tokens=240, temperature=0)
        ended.append(True)

    running = threading.Thread(target=run)
    running.start()
    states = [model.hidden_states(PROMPTS[2]) for _ in range(3)]
    model.trim()
    assert not ended
    running.join()
    assert all((state == states[0]).all() for state in states)


def test_threads_that_want_the_model_alone_let_generations_go_on(model: bitnet.Model) -> None:
    stop = threading.Event()

    def embed() -> None:
        while not stop.is_set():
            model.hidden_states(PROMPTS[2])

    threads = [threading.Thread(target=embed) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert model.generate(PROMPTS[0], max_new_tokens=20, temperature=0).finish_reason
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_thread_that_always_generates_lets_others_have_their_tokens(model: bitnet.Model) -> None:
    stop = threading.Event()

    def always() -> None:
        while not stop.is_set():
            model.generate(PROMPTS[0], max_new_tokens=200, temperature=0)

    def once() -> None:
        model.generate(PROMPTS[1], max_new_tokens=2, temperature=0)

    busy = threading.Thread(target=always)
    others = [threading.Thread(target=once) for _ in range(2)]
    for thread in (busy, *others):
        thread.start()
    for thread in others:
        thread.join(timeout=60)
    served = not any(thread.is_alive() for thread in others)
    stop.set()
    busy.join()
    assert served


@pytest.mark.parametrize(
    ("place", "alone"),
    [
        ("_step", False),
        ("_end_step", False),
        ("_leave", False),
        ("_end_step", True),
        ("_leave", True),
    ],
)
def test_an_interrupt_leaves_the_model_free_wherever_it_comes(
    model: bitnet.Model, monkeypatch: pytest.MonkeyPatch, place: str, alone: bool
) -> None:
    """Ctrl-C comes through where functions begin; then another call must not wait for ever."""

    def interrupted(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    def use() -> None:
        if alone:
            model.trim()
        else:
            model.generate(PROMPTS[0], max_new_tokens=3, temperature=0)

    monkeypatch.setattr(model._engine, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        use()
    assert model._engine._owner is None
    assert not model._engine._readers
    assert not model._engine._waiting
    use()
