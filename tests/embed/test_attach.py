"""The functions of cabi/host.h, with C's values and structures."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest

import bitnet
from tests.embed.conftest import Shim
from tests.tiny_model import CONTEXT, EOS, FFN, HEADS, HIDDEN, TEXT

SAY = [ord(letter) for letter in "Say"]


def test_info_is_that_of_the_file(shim: Shim, model: int, tiny_model: Path) -> None:
    info = shim.ffi.new("bitnet_model_t *")
    assert shim.call("model_get_info", model, info) == 0
    texts = [shim.read(text) for text in (info.name, info.version, info.architecture)]
    assert texts == ["tiny", "", "llama"]
    assert (info.vocab_size, info.context_length) == (EOS + 1, CONTEXT)
    assert (info.hidden_size, info.num_layers) == (HIDDEN, 1)
    assert (info.num_heads, info.intermediate_size) == (HEADS, FFN)
    assert (info.quantization_type, info.is_gpu_loaded) == (0, 0)
    assert info.file_size == tiny_model.stat().st_size
    assert info.memory_usage > HIDDEN * (EOS + 1) * 8
    again = shim.ffi.new("bitnet_model_t *")
    assert shim.call("model_get_info", model, again) == 0
    assert again.name == info.name
    assert shim.call("model_get_info", 9, info) == -7


def test_metrics_are_zero_before_the_first_run_and_after_a_reset(shim: Shim, model: int) -> None:
    metrics, output = shim.ffi.new("bitnet_performance_metrics_t *"), shim.buffer(200)

    def numbers() -> list[float]:
        assert shim.call("get_metrics", model, metrics) == 0
        return [getattr(metrics, name) for name, _ in shim.ffi.typeof(metrics[0]).fields]

    empty = [-1.0 if i == 3 else 0 for i in range(8)]
    assert numbers() == empty
    config = shim.config(max_new_tokens=10)
    length = shim.call("inference", model, shim.text("Say"), config, output, 200)
    assert (length, shim.read(output)) == (len((TEXT * 2).encode()), TEXT * 2)
    measured = numbers()
    assert (measured[6], measured[7]) == (10, 3)
    assert measured[0] == pytest.approx(10 / measured[4] * 1000, rel=1e-3)
    assert 0 < measured[5] < measured[4]
    assert measured[1] == pytest.approx((measured[4] - measured[5]) / 9, rel=1e-3)
    assert measured[2] > 0
    assert shim.call("reset_metrics", model) == 0
    assert numbers() == empty


def test_a_batch_counts_successes_and_tells_the_last_failure(shim: Shim, model: int) -> None:
    prompts = [shim.text(p) for p in ("Say", "x" * CONTEXT, "zz", "x" * (CONTEXT + 1))]
    outputs = [shim.ffi.new("char[]", b"#" * 20) for _ in prompts]
    count = shim.call(
        "batch_inference",
        model,
        prompts,
        len(prompts),
        shim.config(max_new_tokens=2),
        outputs,
        [20, 20, 5, 20],
    )
    assert count == 2
    assert [shim.read(output) for output in outputs] == [" été 10€", "", " fin", ""]
    assert [str(CONTEXT) in error for error in shim.errors] == [True, True]
    assert "65" in shim.errors[-1]


def test_a_stream_tells_its_callback(shim: Shim, model: int) -> None:
    ffi, token = shim.ffi, shim.buffer(50)
    callback = ffi.callback("int(const char *, void *)", lambda *_: 0)
    settings = shim.stream_config()
    settings.callback, settings.user_data = callback, ffi.cast("void *", 4711)
    stream = shim.call("start_streaming", model, shim.text("Say"), shim.config(), settings)
    to, data = ffi.new("bitnet_stream_callback_t *"), ffi.new("void **")
    assert shim.call("stream_next", stream, token, 50, to, data) == len(" été".encode())
    assert shim.read(token) == " été"
    assert (to[0], int(ffi.cast("intptr_t", data[0]))) == (callback, 4711)
    assert shim.call("end_stream", stream) == 0
    assert shim.call("stream_next", stream, token, 50, to, data) == 0
    assert shim.call("stop_streaming", stream) == 0
    assert shim.call("stop_streaming", stream) == -1
    assert shim.errors == [f"Stream ID {stream} not found"]


def test_settings_reach_models_and_memory(shim: Shim, tiny_model: Path) -> None:
    usage = shim.ffi.new("uint64_t *")
    shim.memory_limit = 5
    assert shim.call("settings_changed") == 0
    assert shim.call("model_load", shim.text(str(tiny_model)), shim.ffi.NULL) == -5
    assert "of a limit of 5, 0 are in use" in shim.errors[-1]
    shim.memory_limit, shim.num_threads = 0, 2
    assert shim.call("settings_changed") == 0
    assert shim.call("model_load", shim.text(str(tiny_model)), shim.ffi.NULL) == 0
    shim.functions["bitnet_host_get_memory_usage"](usage)
    assert usage[0] > 0
    assert shim.call("model_loading_progress", 0) == 100
    assert shim.call("model_loading_progress", 1) == -7
    assert shim.call("model_is_loaded", 0) == 1
    assert shim.call("garbage_collect") == 0
    assert shim.call("model_free", 0) == 0
    shim.functions["bitnet_host_get_memory_usage"](usage)
    assert usage[0] == 0


# -- bitnet_ext.h --------------------------------------------------------------------------------


def request(shim: Shim, **fields: object) -> object:
    made = shim.ffi.new("bitnet_ext_request_t *", {"cancellation": -1, **fields})
    made.size = shim.ffi.sizeof("bitnet_ext_request_t")
    return made


def test_text_becomes_tokens_and_text_again(shim: Shim, model: int) -> None:
    ids, text = shim.ffi.new("int32_t[]", [-5] * 4), shim.buffer(8)
    null = shim.ffi.NULL
    assert shim.call("context_length", model) == CONTEXT
    assert shim.call("tokenize", model, shim.text("Say"), 0, null, 0) == 3
    assert shim.call("tokenize", model, shim.text("Say"), 1, ids, 2) == 3
    assert list(ids) == [*SAY[:2], -5, -5]
    assert shim.call("tokenize", model, shim.text("<eos>"), 2, ids, 4) == 1
    assert ids[0] == EOS
    words = shim.ffi.new("int32_t[]", [258, EOS])
    whole = len(" 世界".encode())
    assert shim.call("detokenize", model, words, 2, 0, null, 0) == whole
    assert shim.call("detokenize", model, words, 2, 1, null, 0) == whole + len("<eos>")
    assert shim.call("detokenize", model, words, 2, 0, text, 7) == whole
    assert shim.read(text) == " 世"
    assert shim.call("detokenize", model, null, 0, 0, text, 7) == 0
    assert shim.read(text) == ""
    assert shim.call("detokenize", model, shim.ffi.new("int32_t[]", [-1]), 1, 0, text, 7) == -1


def test_a_result_tells_text_tokens_and_reason(shim: Shim, model: int) -> None:
    prompt, stop = shim.text("Say"), shim.text("世")
    stops = shim.ffi.new("const char *[]", [stop])
    asked = request(shim, prompt=prompt, stop=stops, n_stop=1, logprobs=2)
    result = shim.call("generate", model, asked, shim.config())
    assert result == 0, shim.errors
    info = shim.ffi.new("bitnet_ext_result_info_t *")
    assert shim.call("result_get_info", result, info) == 0
    assert (info.finish_reason, info.prompt_tokens, info.tokens_generated) == (0, 3, 3)
    text, whole = shim.buffer(8), " été 10€ "
    assert info.text_length == len(whole.encode())
    assert 0 < info.time_to_first_token_ms < info.total_time_ms
    assert shim.call("result_text", result, text, 5) == len(whole.encode())
    assert shim.read(text) == " ét"
    token = shim.ffi.new("bitnet_ext_token_t *")
    lengths = []
    for i in range(3):
        assert shim.call("result_token", result, i, token) == 0
        assert (token.id, token.n_top, token.top[0].id) == (256 + i, 2, 256 + i)
        assert token.top[0].logprob == token.logprob > token.top[1].logprob
        lengths.append(token.text_length)
    assert lengths == [6, 6, 1]
    assert shim.call("result_token", result, 3, token) == -1
    assert shim.call("result_free", result) == 0
    assert shim.call("result_text", result, text, 6) == -1
    assert shim.errors[-1] == "Result ID 0 not found"


def test_a_conversation_and_tokens_are_prompts_too(shim: Shim, model: int) -> None:
    role, content = shim.text("user"), shim.text("z")
    messages = shim.ffi.new("bitnet_ext_message_t[]", [(role, content)])
    ids, text = shim.ffi.new("int32_t[]", [ord("z")]), shim.buffer(50)
    config = shim.config(max_new_tokens=1)
    for asked in (
        request(shim, messages=messages, n_messages=1),
        request(shim, ids=ids, n_ids=1),
    ):
        result = shim.call("generate", model, asked, config)
        assert result >= 0, shim.errors
        shim.call("result_text", result, text, 50)
        assert shim.read(text) == " fin"
    bad = shim.ffi.new("int32_t[]", [10**6])
    assert shim.call("generate", model, request(shim, ids=bad, n_ids=1), config) == -1


def test_a_stream_of_tokens(shim: Shim, model: int) -> None:
    token, text = shim.ffi.new("bitnet_ext_token_t *"), shim.buffer(50)
    prompt = shim.text("Say")
    stream = shim.call(
        "start_token_streaming",
        model,
        request(shim, prompt=prompt),
        shim.config(max_new_tokens=2),
        shim.stream_config(),
    )
    assert shim.call("stream_next_token", stream, token, text, 3) == -1
    assert shim.call("stream_next_token", stream, token, text, 50) == 1
    assert (token.id, shim.read(text), token.n_top) == (256, " été", 0)
    assert math.isnan(token.logprob)
    assert shim.call("stream_next_token", stream, token, text, 50) == 1
    assert shim.call("stream_next_token", stream, token, text, 50) == 0
    assert (token.id, shim.read(text)) == (257, " 10€")


def test_a_cancelled_handle_ends_requests(shim: Shim, model: int) -> None:
    handle, info = shim.call("cancellation_new"), shim.ffi.new("bitnet_ext_result_info_t *")
    assert shim.call("cancel", handle) == 0
    prompt = shim.text("Say")
    asked = request(shim, prompt=prompt, cancellation=handle)
    result = shim.call("generate", model, asked, shim.config())
    assert shim.call("result_get_info", result, info) == 0
    assert (info.finish_reason, info.tokens_generated) == (2, 0)
    assert shim.call("cancellation_free", handle) == 0
    assert shim.call("cancel", handle) == -1


def test_logits_and_embeddings_are_those_of_the_model(
    shim: Shim, model: int, tiny_model: Path
) -> None:
    ids, vocab = shim.ffi.new("int32_t[]", SAY), EOS + 1
    out = shim.ffi.new("float[]", 3 * HIDDEN)

    def rows(width: int, n: int) -> np.ndarray:
        return np.frombuffer(shim.ffi.buffer(out, 4 * n * width), np.float32).reshape(n, width)

    with bitnet.load(tiny_model, threads=1) as expected:
        assert shim.call("logits", model, ids, 3, out, 3 * vocab) == 0
        np.testing.assert_array_equal(rows(vocab, 3), expected.logits(SAY))
        states = expected.hidden_states(SAY)
    assert shim.call("embeddings", model, ids, 3, 0, out, 3 * HIDDEN) == 0
    np.testing.assert_array_equal(rows(HIDDEN, 3), states)
    assert shim.call("embeddings", model, ids, 3, 1, out, HIDDEN) == 0
    np.testing.assert_allclose(rows(HIDDEN, 1)[0], states.mean(axis=0), rtol=1e-6)
    assert shim.call("embeddings", model, ids, 3, 2, out, HIDDEN) == 0
    np.testing.assert_array_equal(rows(HIDDEN, 1)[0], states[-1])
    assert shim.call("logits", model, ids, 3, out, 3 * vocab - 1) == -1
    assert f"at least {3 * vocab} floats, not {3 * vocab - 1}" in shim.errors[-1]
    assert shim.call("embeddings", model, ids, 3, 0, out, 3 * HIDDEN - 1) == -1
    assert shim.call("logits", model, ids, CONTEXT + 1, out, 10**9) == -8


def test_log_messages_go_to_the_program_alone(
    shim: Shim, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("bitnet.codegen")
    logger.warning("nobody %s", "listens")
    shim.log_level = 2
    assert shim.call("settings_changed") == 0
    shim.log.clear()
    shim.call("model_load", shim.text(str(tiny_model)), shim.ffi.NULL)
    logger.error("two\nlines\0")
    assert shim.log[0][0] == 2
    assert shim.log[0][1].startswith(f"model 0: loaded {tiny_model} in ")
    assert shim.log[-1] == (0, "two lines\\0")
    shim.log_level = -1
    assert shim.call("settings_changed") == 0
    shim.log.clear()
    shim.call("model_free", 0)
    assert shim.log == []
    assert capsys.readouterr() == ("", "")
