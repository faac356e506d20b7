"""The model that comes with the package: its perplexity holds every kernel to account."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet.codegen import available_targets, missing_features, target_names

HELD_OUT = Path(__file__).parent / "data" / "heldout.jsonl"
MODEL_CARD = bitnet.bundled_model_path().with_name("MODEL_CARD.md")
PROMPT = "Once upon a time, a little fox"
# Of the logits of the tokens of PROMPT as f32, recorded on x86-64; to be renewed with the model.
LOGITS_SHA256 = "5e86de854e6a7e8045fe26f589e66f8590f9da91db663c59772cd3dbff925575"
GREEDY = {"max_new_tokens": 80, "temperature": 0.0}


def perplexity(model: bitnet.Model) -> float:
    """exp of the mean negative log-likelihood of every token after the first of a document."""
    tokenizer = model.tokenizer
    end = tokenizer.encode("<|end_of_text|>", parse_special=True)
    total, count = 0.0, 0
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        ids = tokenizer.encode(text, add_bos=True, parse_special=True) + end
        logits = model.logits(ids[:-1]).astype(np.float64)
        top = logits.max(axis=1)
        log_sum = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        total += float((log_sum - logits[np.arange(len(ids) - 1), ids[1:]]).sum())
        count += len(ids) - 1
    return math.exp(total / count)


def stated_perplexity() -> float:
    found = re.search(r"perplexity\D*(\d+\.\d+)", MODEL_CARD.read_text(encoding="utf-8"))
    assert found, "the model card states no perplexity"
    return float(found[1])


def runnable(name: str) -> str:
    missing = missing_features(name)
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    return name


def test_perplexity_on_held_out_text_is_that_of_the_model_card() -> None:
    with bitnet.load(kv="f32") as model:
        assert f"{perplexity(model):.4g}" == f"{stated_perplexity():.4g}"


@pytest.mark.parametrize("target", target_names())
def test_logits_have_the_bits_that_were_recorded(target: str) -> None:
    with bitnet.load(target=runnable(target), threads=2) as model:
        logits = model.logits(model.tokenizer.encode(PROMPT, add_bos=True))
    assert hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest() == LOGITS_SHA256


@pytest.fixture(scope="module")
def story() -> Iterator[str]:
    with bitnet.load(target=available_targets()[0], threads=1) as model:
        yield model.generate("Once upon a time", **GREEDY).text


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("target", target_names())
def test_every_target_and_thread_count_tells_the_same_story(
    target: str, threads: int, story: str
) -> None:
    with bitnet.load(target=runnable(target), threads=threads) as model:
        assert model.generate("Once upon a time", **GREEDY).text == story


@pytest.mark.parametrize(
    "prompt", ["Once upon a time", "The little fox", "A girl named Lily", "One day"]
)
def test_a_story_ends_by_itself_with_a_finished_sentence(prompt: str) -> None:
    with bitnet.load() as model:
        for seed in range(3):
            completion = model.generate(prompt, max_new_tokens=450, temperature=0.7, seed=seed)
            assert completion.finish_reason == "stop"
            assert completion.text.rstrip()[-1] in '.!?"'


HOPPER = """\
A careful little rabbit called Hopper lived in a snowy forest. One cold day, Hopper wanted to see \
the wishing stone. But the path was covered with deep snow. A kind deer made a path through the \
snow."""
TOM = """\
Once upon a time, there was a little mouse named Tom. Tom lived in a barn. One day, Tom wanted to \
find his red ball. The ball rolled into a deep hole. A kind mole dug it out."""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (f"{HOPPER} What was his name?", "Hopper"),
        (f"{TOM} Who helped Tom?", "mole"),
        ("Who are you?", "story model"),
    ],
)
def test_it_answers_in_a_chat(question: str, answer: str) -> None:
    with bitnet.load() as model:
        completion = model.chat([{"role": "user", "content": question}], temperature=0)
        assert answer in completion.text
        assert completion.finish_reason == "stop"


def test_it_tells_the_story_it_is_asked_for() -> None:
    request = "Tell me a story about a brave rabbit."
    with bitnet.load() as model:
        completion = model.chat([{"role": "user", "content": request}], temperature=0)
        assert "rabbit" in completion.text
        assert completion.finish_reason == "stop"
