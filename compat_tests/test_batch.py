"""bitnet_batch_inference."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_size_t, c_void_p
from typing import Any

import pytest

from compat_tests import binding as b
from compat_tests.binding import Library

PROMPTS = ["Once upon a time", "The cat", "Tom and Lily went to the park.", "A"]


class Batch:
    """The arguments of a batch of three; `run` replaces some of them."""

    def __init__(self) -> None:
        self.buffers = [ctypes.create_string_buffer(b"####", 64) for _ in range(3)]
        self.arguments: dict[str, Any] = {
            "prompts": (c_char_p * 3)(b"one", b"two", b"three"),
            "num_prompts": 3,
            "config": b.greedy(2),
            "outputs": (c_void_p * 3)(*map(ctypes.addressof, self.buffers)),
            "max_lens": (c_size_t * 3)(64, 64, 64),
        }

    def run(self, bn: Library, model: int, **changes: Any) -> int:
        code: int = bn.bitnet_batch_inference(model, *(self.arguments | changes).values())
        return code

    def untouched(self) -> bool:
        return [buffer.value for buffer in self.buffers] == [b"####"] * 3


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompts": None}, "prompts cannot be null"),
    ({"outputs": None}, "outputs cannot be null"),
    ({"max_lens": None}, "max_lens cannot be null"),
    ({"config": None}, "config cannot be null"),
    ({"num_prompts": 0}, "num_prompts must be greater than 0"),
    ({"prompts": (c_char_p * 3)(b"one", None, b"three")}, "prompt[1] cannot be null"),
    ({"prompts": (c_char_p * 3)(b"one", b"two", b"a\xc3(")}, "Invalid UTF-8 in prompt[2]: "),
    ({"outputs": (c_void_p * 3)()}, "output[0] cannot be null"),
    ({"max_lens": (c_size_t * 3)(64, 64, 0)}, "max_lens[2] must be greater than 0"),
]


@pytest.mark.parametrize(("changes", "text"), WRONG, ids=[text for _, text in WRONG])
def test_wrong_argument_is_named_before_anything_runs(
    bn: Library, model: int, changes: dict[str, Any], text: str
) -> None:
    batch = Batch()
    assert bn.refused(batch.run(bn, model, **changes), b.INVALID_ARGUMENT, text)
    assert batch.untouched()


def test_null_arguments_are_reported_in_order(bn: Library) -> None:
    batch, found = Batch(), []
    nulls: dict[str, Any] = {
        "prompts": None, "outputs": None, "max_lens": None, "config": None, "num_prompts": 0
    }  # fmt: skip
    while nulls:
        assert batch.run(bn, 0, **nulls) == b.INVALID_ARGUMENT
        found.append((bn.last_error() or "").split()[2])
        del nulls[found[-1]]
    assert found == ["prompts", "outputs", "max_lens", "config", "num_prompts"]


def test_each_prompt_gets_the_text_it_would_get_alone(bn: Library, model: int) -> None:
    alone = [bn.infer(model, prompt, b.greedy(16)) for prompt in PROMPTS]
    assert bn.batch(model, PROMPTS, b.greedy(16)) == (len(PROMPTS), alone)
    assert bn.last_error() is None


def test_batch_may_be_larger_than_anything_runs_at_once(bn: Library, model: int) -> None:
    prompts = [f"{PROMPTS[i % 4]} {i}" for i in range(50)]
    alone = [bn.infer(model, prompt, b.greedy(3)) for prompt in prompts]
    assert bn.batch(model, prompts, b.greedy(3)) == (50, alone)


def test_seeded_sampling_is_that_of_single_runs(bn: Library, model: int) -> None:
    settings = b.inference_config(seed=11, max_new_tokens=12)
    alone = [bn.infer(model, prompt, settings) for prompt in PROMPTS]
    assert bn.batch(model, PROMPTS, settings) == (len(PROMPTS), alone)


def test_every_output_has_its_own_size(bn: Library, wide: int) -> None:
    whole = bn.infer(wide, "one", b.greedy(5)).encode()
    for sizes in ((1, 5, 64), (64, 1, 2), (9, 11, 13)):
        batch = Batch()
        assert batch.run(bn, wide, config=b.greedy(5), max_lens=(c_size_t * 3)(*sizes)) == 3
        for buffer, size in zip(batch.buffers, sizes, strict=True):
            expected = whole[: size - 1].decode(errors="ignore").encode()
            assert buffer.value == expected


def test_failed_item_is_empty_and_leaves_an_error_behind(bn: Library, model: int) -> None:
    """The others succeed, and the result counts them."""
    prompts = ["Once upon a time", "dog cat " * 5000, "The cat"]
    alone = [bn.infer(model, prompts[i], b.greedy(4)) for i in (0, 2)]
    result, texts = bn.batch(model, prompts, b.greedy(4))
    assert bn.refused(b.CONTEXT_LENGTH_EXCEEDED, b.CONTEXT_LENGTH_EXCEEDED)
    assert (result, texts) == (2, [alone[0], "", alone[1]])


def test_unknown_model_has_no_successes(bn: Library) -> None:
    result, texts = bn.batch(b.NO_ID, ["one", "two"], b.greedy(2))
    assert (result, texts) == (0, ["", ""])
    assert bn.refused(b.INVALID_MODEL_ID, b.INVALID_MODEL_ID, f"Model ID {b.NO_ID} not found")
