"""A certified output head generates what the stored one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.engine import SamplingParams
from bitnet.engine.request import Request
from bitnet.engine.sampler import exact_logits
from bitnet.program.memory import ffi
from bitnet.program.step import Chunk

PROMPT = list(range(3, 30))
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.3, "top_k": 5, "seed": 1},
    {"temperature": 3.0, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "seed": 2},
    {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": 3},
    {"temperature": 0, "repetition_penalty": 1.3},
    {"temperature": 0, "repetition_penalty": 0.5},
    {"temperature": 0, "presence_penalty": 1e9},
    {"temperature": 1.2, "top_k": 3, "frequency_penalty": -0.5, "presence_penalty": 2, "seed": 4},
]


@pytest.fixture(scope="module")
def stored(tiny_model: Path) -> Iterator[bitnet.Model]:
    with bitnet.load(tiny_model, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def certified(tiny_model: Path) -> Iterator[bitnet.Model]:
    with bitnet.load(tiny_model, threads=2, head="certified") as model:
        yield model


def generated(model: bitnet.Model, options: dict[str, Any]) -> list[int]:
    return model.generate(PROMPT, max_new_tokens=40, **options).token_ids


@pytest.mark.parametrize("options", OPTIONS)
def test_certified_and_stored_heads_say_the_same(
    stored: bitnet.Model, certified: bitnet.Model, options: dict[str, Any]
) -> None:
    assert generated(certified, options) == generated(stored, options)


def test_requests_with_all_wishes_run_together(
    stored: bitnet.Model, certified: bitnet.Model
) -> None:
    running = [certified.start(PROMPT, max_new_tokens=12, **options) for options in OPTIONS]
    for _ in range(3):
        for generation in running:
            next(generation, None)
    for generation, options in zip(running, OPTIONS, strict=True):
        "".join(generation)
        assert generation.token_ids == generated(stored, options)[:12]


def test_logits_are_those_of_the_stored_head(stored: bitnet.Model, certified: bitnet.Model) -> None:
    np.testing.assert_array_equal(certified.logits(PROMPT), stored.logits(PROMPT))


def test_greedy_decoding_computes_few_logits_exactly(
    certified: bitnet.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, counts = certified._engine._stepper.step, []

    def counting(chunks: list[Chunk]) -> np.ndarray:
        logits = step(chunks)
        counts.extend(np.isfinite(logits).sum(axis=1))
        return logits

    monkeypatch.setattr(certified._engine._stepper, "step", counting)
    generated(certified, {"temperature": 0})
    assert max(counts) < 130


@pytest.mark.parametrize("head", ["int8", "q8_0"])
def test_quantised_heads_generate(tiny_model: Path, head: str, stored: bitnet.Model) -> None:
    with bitnet.load(tiny_model, threads=2, head=head) as model:  # type: ignore[arg-type]
        assert len(generated(model, {"temperature": 0})) > 1
        difference = model.logits(PROMPT) - stored.logits(PROMPT)
        assert 0 < difference.std() < 0.02 * stored.logits(PROMPT).std()


def test_a_head_that_the_table_cannot_be_is_refused(tiny_model: Path) -> None:
    with pytest.raises(bitnet.InvalidArgumentError, match="multiple of 256 columns, not 128"):
        bitnet.load(tiny_model, head="q6_k")


@pytest.mark.parametrize("head", ["certified", "int8", "stored"])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.0}])
def test_a_broken_model_is_an_error(tiny_model: Path, head: Any, options: dict[str, Any]) -> None:
    with bitnet.load(tiny_model, threads=1, head=head) as model:
        norm = model._engine._stepper.weights.struct.output_norm
        np.frombuffer(ffi.buffer(norm, 4 * 128), np.float32)[7] = np.nan
        with pytest.raises(bitnet.GenerationError, match="not numbers"):
            model.generate(PROMPT, **options)


# -- what a request asks for ---------------------------------------------------------------------


def request(n_output: int = 0, **params: Any) -> Request:
    made = Request([1, 2, 2, 9], SamplingParams(**params), (), 0, 4096)
    made.output.extend(range(100, 100 + n_output))
    return made


@pytest.mark.parametrize(
    ("asked", "best", "ids"),
    [
        (request(temperature=0), 1, []),
        (request(temperature=0, top_k=0), 1, []),
        (request(top_k=40), 40, []),
        (request(top_k=0), 0, []),
        (request(2, top_k=40, repetition_penalty=1.1), 45, [1, 2, 9, 100, 101]),
        (request(2, temperature=0, presence_penalty=0.1), 3, [100, 101]),
        (request(2, temperature=0, frequency_penalty=0.1), 3, [100, 101]),
        (request(top_k=1025), 0, []),
        (request(1023, temperature=0, presence_penalty=0.1), 1024, list(range(100, 1123))),
        (request(1024, temperature=0, presence_penalty=0.1), 0, []),
        (request(5, top_k=0, presence_penalty=0.1), 0, []),
    ],
)
def test_a_request_knows_which_logits_it_depends_on(
    asked: Request, best: int, ids: list[int]
) -> None:
    assert (exact_logits(asked)[0], list(exact_logits(asked)[1])) == (best, ids)
