"""Whole generations on a tiny model: what a caller of the Python API relies on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet.program.step import Chunk

PROMPTS = [[1, 2, 3], [4] * 40, [5, 6], list(range(3, 90))]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[bitnet.Model]:
    with bitnet.load(tiny_model, threads=2) as loaded:
        yield loaded


def greedy(model: bitnet.Model, prompt: list[int], n: int = 12) -> list[int]:
    return model.generate(prompt, max_new_tokens=n, temperature=0).token_ids


def test_greedy_generation_follows_the_largest_logit(model: bitnet.Model) -> None:
    ids = list(PROMPTS[0])
    for token in greedy(model, ids, 6):
        assert token == int(np.argmax(model.logits(ids)[-1]))
        ids.append(token)


def test_requests_that_run_together_give_what_they_give_alone(model: bitnet.Model) -> None:
    alone = [greedy(model, prompt) for prompt in PROMPTS]
    running = [model.start(p, max_new_tokens=12, temperature=0) for p in PROMPTS]
    for _ in range(3):  # take turns, so that the requests share steps
        for generation in running:
            next(generation, None)
    for generation, tokens in zip(running, alone, strict=True):
        "".join(generation)
        assert generation.token_ids == tokens


def test_threads_may_generate_at_the_same_time(model: bitnet.Model) -> None:
    alone = [greedy(model, prompt) for prompt in PROMPTS]
    together: dict[int, list[int]] = {}

    def work(i: int) -> None:
        together[i] = greedy(model, PROMPTS[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(len(PROMPTS))] == alone


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(model: bitnet.Model) -> None:
    def sampled(seed: int) -> list[int]:
        return model.generate(
            PROMPTS[0], max_new_tokens=16, temperature=1.5, top_k=0, top_p=1.0, seed=seed
        ).token_ids

    assert sampled(1) == sampled(1)
    assert len({tuple(sampled(seed)) for seed in range(5)}) == 5


def test_without_a_seed_answers_differ(model: bitnet.Model) -> None:
    options = {"max_new_tokens": 16, "temperature": 1.5, "top_k": 0, "top_p": 1.0}
    answers = {tuple(model.generate(PROMPTS[0], **options).token_ids) for _ in range(4)}
    assert len(answers) > 1


def test_max_new_tokens_ends_with_length(model: bitnet.Model) -> None:
    completion = model.generate(PROMPTS[0], max_new_tokens=3, temperature=0)
    assert (len(completion.token_ids), completion.finish_reason) == (3, "length")


def test_a_full_context_ends_with_length(tiny_model: Path) -> None:
    with bitnet.load(tiny_model, context=32, threads=1) as model:
        completion = model.generate(list(range(3, 23)), temperature=0)
        if completion.finish_reason == "length":
            assert len(completion.token_ids) == 12
        with pytest.raises(bitnet.ContextLengthExceededError, match="32"):
            model.generate([3] * 32)
        with pytest.raises(bitnet.ContextLengthExceededError, match="33"):
            model.logits([3] * 33)
        assert model.logits([3] * 32).shape == (32, model.config.vocab_size)


def test_the_token_that_ends_a_generation_is_not_part_of_it(tiny_model: Path) -> None:
    with bitnet.load(tiny_model, threads=1) as model:
        tokens = greedy(model, PROMPTS[0])
        ending = tokens[4]
        vocabulary = model.tokenizer._vocabulary
        object.__setattr__(vocabulary, "eos_ids", frozenset({ending}))
        completion = model.generate(PROMPTS[0], max_new_tokens=12, temperature=0)
        assert completion.token_ids == tokens[: tokens.index(ending)]
        assert completion.finish_reason == "stop"


def test_a_stop_string_ends_the_text_before_it(model: bitnet.Model) -> None:
    whole = model.generate(PROMPTS[1], max_new_tokens=30, temperature=0).text
    assert len(whole) > 6, "the tiny model says too little for this test"
    stop = whole[3:5]
    completion = model.generate(PROMPTS[1], max_new_tokens=30, temperature=0, stop=[stop])
    assert completion.text == whole[: whole.index(stop)]
    assert completion.finish_reason == "stop"


def test_a_stream_gives_the_text_of_generate(model: bitnet.Model) -> None:
    options = {"max_new_tokens": 30, "temperature": 0.0}
    assert (
        "".join(model.stream(PROMPTS[2], **options)) == model.generate(PROMPTS[2], **options).text
    )


def test_penalties_change_what_comes(model: bitnet.Model) -> None:
    plain = greedy(model, PROMPTS[0], 30)
    never_twice = model.generate(
        PROMPTS[0], max_new_tokens=30, temperature=0, presence_penalty=1e9
    ).token_ids
    assert len(set(never_twice)) == len(never_twice)
    assert len(set(plain)) < len(plain), "the tiny model must repeat itself for this test"
    not_from_prompt = model.generate(
        PROMPTS[3], max_new_tokens=20, temperature=0, repetition_penalty=1e6
    ).token_ids
    assert len(set(not_from_prompt)) == len(not_from_prompt)


def test_memory_of_ended_dropped_and_closed_generations_is_used_again(model: bitnet.Model) -> None:
    pages = model._engine._stepper.pages
    greedy(model, PROMPTS[3])
    before = pages.n_allocated
    for _ in range(3):
        greedy(model, PROMPTS[3])
        dropped = model.start(PROMPTS[3])
        next(dropped)
        del dropped
        gc.collect()
        closed = model.start(PROMPTS[3])
        next(closed)
        closed.close()
        assert next(closed, "ended") == "ended"
    assert pages.n_allocated == before


def test_timings_count_tokens_and_add_up(model: bitnet.Model) -> None:
    timings = model.generate(PROMPTS[3], max_new_tokens=5, temperature=0).timings
    assert (timings.prompt_tokens, timings.completion_tokens) == (len(PROMPTS[3]), 5)
    assert 0 < timings.prefill_s <= timings.time_to_first_token_s
    assert timings.decode_tokens_per_s == pytest.approx(4 / timings.decode_s)


@pytest.mark.parametrize("ids", [[], [-1], [10**6]])
def test_bad_token_ids_are_refused(model: bitnet.Model, ids: list[int]) -> None:
    with pytest.raises(bitnet.InvalidArgumentError):
        model.generate(ids)
    with pytest.raises(bitnet.InvalidArgumentError):
        model.logits(ids)


def test_an_unknown_option_is_refused(model: bitnet.Model) -> None:
    with pytest.raises(TypeError, match="temprature"):
        model.generate("x", temprature=1)  # type: ignore[call-arg]


def test_a_closed_model_says_so(tiny_model: Path) -> None:
    model = bitnet.load(tiny_model, threads=1)
    generation = model.start(PROMPTS[0])
    model.close()
    model.close()
    for use in (
        lambda: model.logits([3]),
        lambda: model.generate([3]),
        lambda: next(generation),
    ):
        with pytest.raises(bitnet.ModelClosedError):
            use()


@pytest.mark.parametrize(
    ("option", "value"), [("context", 0), ("context", 10**9), ("threads", 0), ("threads", 10**6)]
)
def test_load_refuses_numbers_outside_their_range(
    tiny_model: Path, option: str, value: int
) -> None:
    with pytest.raises(bitnet.InvalidArgumentError, match=option):
        bitnet.load(tiny_model, **{option: value})


def test_load_names_a_wrong_kv_or_target(tiny_model: Path) -> None:
    with pytest.raises(bitnet.InvalidArgumentError, match="q5"):
        bitnet.load(tiny_model, kv="q5")  # type: ignore[arg-type]
    with pytest.raises(bitnet.InvalidArgumentError, match="pentium"):
        bitnet.load(tiny_model, target="pentium")


def test_progress_runs_from_zero_to_one(tiny_model: Path) -> None:
    seen: list[float] = []
    bitnet.load(tiny_model, threads=1, progress=seen.append).close()
    assert seen[0] == 0
    assert seen[-1] == 1
    assert seen == sorted(seen)


def test_a_missing_file_is_a_model_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(bitnet.ModelNotFoundError):
        bitnet.load(tmp_path / "nothing.gguf")


def test_a_generation_may_be_collected_in_the_middle_of_a_step(
    model: bitnet.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = [model.start(PROMPTS[3])]
    next(dropped[0])
    step = model._engine._stepper.step

    def collecting_step(chunks: list[Chunk]) -> np.ndarray:
        dropped.clear()
        gc.collect()
        return step(chunks)

    monkeypatch.setattr(model._engine._stepper, "step", collecting_step)
    assert greedy(model, PROMPTS[0], 3)
    assert not model._engine._requests
