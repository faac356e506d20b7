"""Streams: pulled pieces, callbacks, ends."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

from compat_tests import binding as b
from compat_tests.binding import Library

PROMPT = "Once upon a time"


def test_null_arguments_are_reported_in_order(bn: Library) -> None:
    start, settings = bn.bitnet_start_streaming, b.greedy(1)
    for arguments, text in (
        ((None, None, None), "prompt cannot be null"),
        ((b"\xff", None, None), "config cannot be null"),
        ((b"\xff", settings, None), "stream_config cannot be null"),
        ((b"\xff", settings, b.stream_config()), "Invalid UTF-8 in prompt: "),
    ):
        assert bn.refused(start(0, *arguments), b.INVALID_ARGUMENT, text)


def test_next_token_checks_its_arguments(bn: Library) -> None:
    token = ctypes.create_string_buffer(8)
    take = bn.bitnet_stream_next_token
    assert bn.refused(take(-1, None, 0), b.INVALID_ARGUMENT, "stream_id must be non-negative")
    assert bn.refused(take(0, None, 0), b.INVALID_ARGUMENT, "token cannot be null")
    assert bn.refused(take(0, token, 0), b.INVALID_ARGUMENT, "max_len must be greater than 0")


def test_unknown_streams_are_invalid_arguments(bn: Library) -> None:
    token = ctypes.create_string_buffer(b"kept")
    text = f"Stream ID {b.NO_ID} not found"
    code = bn.bitnet_stream_next_token(b.NO_ID, token, 5)
    assert bn.refused(code, b.INVALID_ARGUMENT, text)
    assert token.value == b"kept"
    assert bn.refused(bn.bitnet_stop_streaming(b.NO_ID), b.INVALID_ARGUMENT, text)
    code = bn.bitnet_stop_streaming(-1)
    assert bn.refused(code, b.INVALID_ARGUMENT, "stream_id must be non-negative")


def test_unknown_model_starts_nothing(bn: Library) -> None:
    code = bn.bitnet_start_streaming(b.NO_ID, b"x", b.greedy(1), b.stream_config())
    assert bn.refused(code, b.INVALID_MODEL_ID, f"Model ID {b.NO_ID} not found")


def test_pieces_make_up_the_text_of_inference(bn: Library, model: int) -> None:
    stream = bn.stream(model, PROMPT, b.greedy(24))
    pieces = bn.pieces(stream)
    assert len(pieces) > 12
    assert "".join(pieces) == bn.infer(model, PROMPT, b.greedy(24))
    assert bn.bitnet_stop_streaming(stream) == 0


def test_seeded_stream_is_the_text_of_inference(bn: Library, model: int) -> None:
    settings = b.inference_config(seed=5, max_new_tokens=20)
    stream = bn.stream(model, PROMPT, settings)
    assert "".join(bn.pieces(stream)) == bn.infer(model, PROMPT, settings)
    assert bn.bitnet_stop_streaming(stream) == 0


def test_pieces_are_whole_characters(bn: Library, wide: int) -> None:
    stream = bn.stream(wide, "x", b.greedy(5))
    assert "".join(bn.pieces(stream)) == bn.infer(wide, "x", b.greedy(5))
    assert bn.bitnet_stop_streaming(stream) == 0


@pytest.mark.parametrize(
    "settings",
    [{"yield_interval": 3}, {"buffer_size": 1}, {"buffer_size": 2, "enable_backpressure": 0}],
)
def test_stream_settings_do_not_change_the_text(
    bn: Library, model: int, settings: dict[str, int]
) -> None:
    stream = bn.stream(model, PROMPT, b.greedy(16), b.stream_config(**settings))
    assert "".join(bn.pieces(stream)) == bn.infer(model, PROMPT, b.greedy(16))
    assert bn.bitnet_stop_streaming(stream) == 0


def test_yield_interval_makes_fewer_pieces(bn: Library, model: int) -> None:
    counts = []
    for interval in (1, 4):
        stream = bn.stream(model, PROMPT, b.greedy(16), b.stream_config(yield_interval=interval))
        counts.append(len(bn.pieces(stream)))
        assert bn.bitnet_stop_streaming(stream) == 0
    assert counts[1] <= counts[0] / 2


def test_end_stays_the_end_until_it_is_stopped(bn: Library, model: int) -> None:
    stream = bn.stream(model, PROMPT, b.greedy(2))
    assert bn.pieces(stream)
    assert [bn.next_piece(stream) for _ in range(3)] == [None] * 3
    assert bn.bitnet_stop_streaming(stream) == 0


def test_stopped_stream_is_gone_for_good(bn: Library, model: int) -> None:
    first = bn.stream(model, PROMPT, b.greedy(100))
    assert bn.next_piece(first) is not None
    assert bn.bitnet_stop_streaming(first) == 0
    text = f"Stream ID {first} not found"
    assert bn.refused(bn.bitnet_stop_streaming(first), b.INVALID_ARGUMENT, text)
    token = ctypes.create_string_buffer(8)
    assert bn.refused(bn.bitnet_stream_next_token(first, token, 8), b.INVALID_ARGUMENT, text)
    second = bn.stream(model, PROMPT, b.greedy(1))
    assert second == first + 1
    assert bn.bitnet_stop_streaming(second) == 0


def test_stream_that_is_never_read_can_be_stopped(bn: Library, model: int) -> None:
    assert bn.bitnet_stop_streaming(bn.stream(model, PROMPT, b.greedy(100))) == 0


def test_streams_of_one_model_do_not_mix(bn: Library, model: int) -> None:
    prompts = [PROMPT, "The cat", "Tom"]
    alone = [bn.infer(model, prompt, b.greedy(12)) for prompt in prompts]
    streams = [bn.stream(model, prompt, b.greedy(12)) for prompt in prompts]
    texts = ["", "", ""]
    for _ in range(12):
        for i, stream in enumerate(streams):
            texts[i] += bn.next_piece(stream) or ""
    for i, stream in enumerate(streams):
        texts[i] += "".join(bn.pieces(stream))
        assert bn.bitnet_stop_streaming(stream) == 0
    assert texts == alone


def test_piece_that_does_not_fit_is_cut_within_the_buffer(bn: Library, model: int) -> None:
    stream = bn.stream(model, PROMPT, b.greedy(8))
    token = ctypes.create_string_buffer(b"########")
    for _ in range(8):
        length = bn.bitnet_stream_next_token(stream, token, 2)
        assert length in (0, 1), bn.last_error()
        assert token.raw[2:8] == b"######"
    assert bn.bitnet_stop_streaming(stream) == 0


# -- callbacks ------------------------------------------------------------------------------------


def test_callback_gets_each_piece_on_the_pulling_thread(bn: Library, model: int) -> None:
    calls: list[tuple[str, int | None, int]] = []

    def receive(token: bytes, user_data: int | None) -> int:
        calls.append((token.decode(), user_data, threading.get_ident()))
        return 0

    how = b.stream_config(callback=b.Callback(receive), user_data=4711)
    stream = bn.stream(model, PROMPT, b.greedy(8), how)
    time.sleep(0.01)
    assert calls == []  # nothing before it is pulled
    pieces = bn.pieces(stream)
    assert [token for token, _, _ in calls] == pieces
    assert {(data, thread) for _, data, thread in calls} == {(4711, threading.get_ident())}
    assert bn.bitnet_stop_streaming(stream) == 0


def test_callback_ends_the_stream(bn: Library, model: int) -> None:
    calls = []

    def stop_at_third(token: bytes, _: int | None) -> int:
        calls.append(token)
        return int(len(calls) == 3)

    how = b.stream_config(callback=b.Callback(stop_at_third))
    stream = bn.stream(model, PROMPT, b.greedy(50), how)
    assert len(bn.pieces(stream)) in (2, 3)
    assert len(calls) == 3
    assert bn.bitnet_stop_streaming(stream) == 0


def test_callback_may_call_the_library(bn: Library, model: int) -> None:
    answers = []

    def ask(_token: bytes, _: int | None) -> int:
        answers.append(bn.bitnet_model_is_loaded(model))
        return 0

    how = b.stream_config(callback=b.Callback(ask))  # which keeps the callback alive
    stream = bn.stream(model, PROMPT, b.greedy(2), how)
    assert len(bn.pieces(stream)) == len(answers)
    assert set(answers) == {1}
    assert bn.bitnet_stop_streaming(stream) == 0


# -- threads --------------------------------------------------------------------------------------


def test_stream_can_be_stopped_while_another_thread_pulls(bn: Library, model: int) -> None:
    stream = bn.stream(model, PROMPT, b.greedy(400, repetition_penalty=1.3))
    codes: list[int] = []
    started = threading.Event()

    def pull() -> None:
        token = ctypes.create_string_buffer(64)
        code = 1
        while code > 0:
            code = bn.bitnet_stream_next_token(stream, token, 64)
            started.set()
        codes.append(code)

    thread = threading.Thread(target=pull)
    thread.start()
    started.wait(10)
    assert bn.bitnet_stop_streaming(stream) == 0
    thread.join(10)
    assert not thread.is_alive()
    assert codes[0] in (0, b.INVALID_ARGUMENT)


def test_cleanup_ends_streams(bn: Library, model: int) -> None:
    stream = bn.stream(model, PROMPT, b.greedy(100))
    assert bn.bitnet_cleanup() == 0
    code = bn.bitnet_stream_next_token(stream, ctypes.create_string_buffer(64), 64)
    assert bn.refused(code, b.INVALID_ARGUMENT, f"Stream ID {stream} not found")
