"""bitnet_inference and bitnet_inference_with_config: arguments, output buffers, settings."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from compat_tests import binding as b
from compat_tests.binding import Library

PROMPT = "Once upon a time"
RULES = [
    ({"max_length": 0}, "max_length must be greater than 0"),
    ({"max_new_tokens": 0}, "max_new_tokens must be greater than 0"),
    ({"temperature": 0}, "temperature must be greater than 0"),
    ({"temperature": -1}, "temperature must be greater than 0"),
    ({"temperature": float("nan")}, "temperature must be greater than 0"),
    ({"top_p": -0.1}, "top_p must be between 0.0 and 1.0"),
    ({"top_p": 2}, "top_p must be between 0.0 and 1.0"),
    ({"top_p": float("nan")}, "top_p must be between 0.0 and 1.0"),
    ({"repetition_penalty": 0}, "repetition_penalty must be greater than 0"),
    ({"repetition_penalty": float("nan")}, "repetition_penalty must be greater than 0"),
    ({"backend_preference": 3}, "backend_preference must be 0 (auto), 1 (cpu), or 2 (gpu)"),
    ({"stream_buffer_size": 0}, "stream_buffer_size must be greater than 0"),
]
NAMES = [f"{next(iter(c))}={next(iter(c.values()))}" for c, _ in RULES]


@pytest.mark.parametrize(("changes", "text"), RULES, ids=NAMES)
def test_config_out_of_range_is_reported_by_name(
    bn: Library, changes: dict[str, Any], text: str
) -> None:
    """By all three calls, and before the model is looked up."""
    settings = b.inference_config(**changes)
    output = ctypes.create_string_buffer(b"kept")
    code = bn.bitnet_inference_with_config(b.NO_ID, b"x", settings, output, 5)
    assert bn.refused(code, b.INVALID_ARGUMENT, text)
    code = bn.bitnet_start_streaming(b.NO_ID, b"x", settings, b.stream_config())
    assert bn.refused(code, b.INVALID_ARGUMENT, text)
    code, texts = bn.batch(b.NO_ID, ["x"], settings, size=4)
    assert bn.refused(code, b.INVALID_ARGUMENT, text)
    assert (output.value, texts) == (b"kept", ["####"])


def test_fields_are_checked_from_first_to_last(bn: Library) -> None:
    settings, output = b.InferenceConfig(), ctypes.create_string_buffer(8)
    settings.top_p, settings.backend_preference = 1.5, 3
    found = []
    for repaired in (None, "max_length", "max_new_tokens", "temperature", "top_p"):
        if repaired is not None:
            setattr(settings, repaired, 1)
        assert bn.bitnet_inference_with_config(b.NO_ID, b"x", settings, output, 8) == -1
        found.append((bn.last_error() or "").split()[2])
    assert found == ["max_length", "max_new_tokens", "temperature", "top_p", "repetition_penalty"]


def test_prompt_must_be_utf8(bn: Library) -> None:
    output = ctypes.create_string_buffer(8)
    for wrong in (b"\x80", b"ab\xc3", b"\xf0\x9f\x99", b"\xff"):
        code = bn.bitnet_inference(0, wrong, output, 8)
        assert bn.refused(code, b.INVALID_ARGUMENT, "Invalid UTF-8 in prompt: ")


def test_unknown_model_is_named(bn: Library) -> None:
    output = ctypes.create_string_buffer(b"kept")
    text = f"Model ID {b.NO_ID} not found"
    code = bn.bitnet_inference(b.NO_ID, b"x", output, 5)
    assert bn.refused(code, b.INVALID_MODEL_ID, text)
    code = bn.bitnet_inference_with_config(b.NO_ID, b"x", b.inference_config(), output, 5)
    assert bn.refused(code, b.INVALID_MODEL_ID, text)
    assert output.value == b"kept"


# -- output ---------------------------------------------------------------------------------------


def test_text_is_new_and_the_same_every_time(bn: Library, model: int) -> None:
    text = bn.infer(model, PROMPT, b.greedy(24))
    assert len(text) > 24
    assert not text.startswith(PROMPT)
    assert bn.infer(model, PROMPT, b.greedy(24)) == text


def test_default_settings_run(bn: Library, model: int) -> None:
    output = ctypes.create_string_buffer(64)
    length = bn.bitnet_inference(model, PROMPT.encode(), output, 64)
    assert 0 < length < 64
    assert len(output.value) == length


@pytest.mark.parametrize("which", ["model", "wide"])
def test_text_is_cut_at_whole_characters_for_every_size(
    bn: Library, which: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    settings = b.greedy(5)
    whole = bn.infer(model, PROMPT, settings)
    data = whole.encode()
    for size in range(1, len(data) + 3):
        fitting = data[: size - 1].decode(errors="ignore")
        assert bn.infer(model, PROMPT, settings, size) == fitting


def test_wide_characters_are_there_to_be_cut(bn: Library, wide: int) -> None:
    lengths = {len(character.encode()) for character in bn.infer(wide, "x", b.greedy(5))}
    assert lengths == {1, 2, 3, 4}


def test_room_for_the_nul_alone_gives_nothing(bn: Library, model: int) -> None:
    assert bn.infer(model, PROMPT, b.greedy(4), size=1) == ""


def test_huge_max_len_is_not_believed_to_be_allocated(bn: Library, model: int) -> None:
    """The size is a promise of the caller's; nothing beyond the text is touched."""
    output = ctypes.create_string_buffer(b"#" * 4096)
    settings = b.greedy(4)
    length = bn.bitnet_inference_with_config(model, b"Once", settings, output, 2**63)
    assert length > 0, bn.last_error()
    assert output.raw[length : length + 2] == b"\0#"


def test_prompts_are_of_any_characters(bn: Library, model: int) -> None:
    for prompt in ("", "\n", "été 世界 🙂", "\x01\x7f", "a" * 300):
        output = ctypes.create_string_buffer(256)
        code = bn.bitnet_inference_with_config(model, prompt.encode(), b.greedy(2), output, 256)
        if prompt:
            assert code >= 0, bn.last_error()
        else:  # some tokenizers make no token of it
            assert code >= 0 or bn.refused(code, code)


# -- limits ---------------------------------------------------------------------------------------


def test_max_new_tokens_limits_the_output(bn: Library, model: int) -> None:
    whole = bn.infer(model, PROMPT, b.greedy(16))
    parts = [bn.infer(model, PROMPT, b.greedy(n)) for n in range(1, 17)]
    assert parts[-1] == whole
    assert all(whole.startswith(part) for part in parts)
    assert len(set(parts)) == 16


def test_max_length_counts_the_prompt_too(bn: Library, model: int) -> None:
    """So it ends sooner, and where it leaves no room at all the call fails."""
    output = ctypes.create_string_buffer(b"kept" + b"\0" * 252)
    whole = bn.infer(model, PROMPT, b.greedy(32))
    texts = []
    for max_length in range(1, 32):
        settings = b.greedy(32, max_length=max_length)
        code = bn.bitnet_inference_with_config(model, PROMPT.encode(), settings, output, 256)
        if code < 0:
            assert not texts
            assert bn.refused(code, b.CONTEXT_LENGTH_EXCEEDED)
            assert output.value == b"kept"
        else:
            texts.append(output.value.decode())
    assert texts
    assert texts[0] == bn.infer(model, PROMPT, b.greedy(1))
    assert all(whole.startswith(text) for text in texts)


def test_prompt_longer_than_the_context_is_an_error(bn: Library, model: int) -> None:
    info = b.ModelInfo()
    assert bn.bitnet_model_get_info(model, info) == 0
    output = ctypes.create_string_buffer(b"kept")
    prompt = b"dog cat " * info.context_length
    code = bn.bitnet_inference_with_config(model, prompt, b.greedy(1, max_length=2**31), output, 5)
    assert bn.refused(code, b.CONTEXT_LENGTH_EXCEEDED)
    assert output.value == b"kept"


def test_context_ends_the_text(bn: Library, model: int) -> None:
    info = b.ModelInfo()
    assert bn.bitnet_model_get_info(model, info) == 0
    huge = {"max_length": 2**32 - 1, "repetition_penalty": 1.3}
    bn.infer(model, PROMPT, b.greedy(2**32 - 1, **huge), size=2**16)
    metrics = b.Metrics()
    assert bn.bitnet_get_performance_metrics(model, metrics) == 0
    assert metrics.prompt_tokens + metrics.tokens_generated <= info.context_length + 1


# -- sampling -------------------------------------------------------------------------------------


def sampled(bn: Library, model: int, **changes: Any) -> str:
    plain = {"max_new_tokens": 24, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    return bn.infer(model, PROMPT, b.inference_config(**(plain | changes)))


def test_seed_decides_the_text(bn: Library, model: int) -> None:
    texts = [sampled(bn, model, seed=seed) for seed in (1, 1, 2**64 - 1, 2**64 - 1)]
    assert texts[0] == texts[1] != texts[2] == texts[3]


def test_seed_0_is_different_every_time(bn: Library, model: int) -> None:
    assert len({sampled(bn, model, temperature=1.5) for _ in range(4)}) > 1


def test_without_do_sample_the_seed_and_temperature_do_not_matter(bn: Library, model: int) -> None:
    plain = bn.infer(model, PROMPT, b.greedy(16))
    assert bn.infer(model, PROMPT, b.greedy(16, temperature=9, seed=5, top_k=3)) == plain


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_narrowest_sampling_is_greedy(bn: Library, model: int, narrow: dict[str, Any]) -> None:
    greedy = bn.infer(model, PROMPT, b.greedy(24))
    assert sampled(bn, model, seed=7, **narrow) == greedy


def test_do_sample_may_be_any_number_but_0(bn: Library, model: int) -> None:
    assert sampled(bn, model, seed=3, do_sample=2**32 - 1) == sampled(bn, model, seed=3)


@pytest.mark.parametrize(
    "penalty", [{"repetition_penalty": 50}, {"frequency_penalty": 50}, {"presence_penalty": 50}]
)
def test_penalties_change_the_text(bn: Library, model: int, penalty: dict[str, Any]) -> None:
    plain = bn.infer(model, PROMPT, b.greedy(48))
    assert bn.infer(model, PROMPT, b.greedy(48, **penalty)) != plain


def test_cpu_may_be_asked_for(bn: Library, model: int) -> None:
    plain = bn.infer(model, PROMPT, b.greedy(8))
    assert bn.infer(model, PROMPT, b.greedy(8, backend_preference=1)) == plain


def test_gpu_that_is_not_there_is_an_error(bn: Library, model: int) -> None:
    if bn.bitnet_is_gpu_available():
        pytest.skip("there is a GPU")
    output = ctypes.create_string_buffer(b"kept")
    settings = b.greedy(1, backend_preference=2)
    code = bn.bitnet_inference_with_config(model, b"x", settings, output, 5)
    assert bn.refused(code, b.UNSUPPORTED_OPERATION)
    assert output.value == b"kept"
