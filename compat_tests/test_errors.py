"""The last error: one a thread, cleared by every call that returns int, with a frozen prefix."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from compat_tests import binding as b
from compat_tests.binding import Library


class Loaded(NamedTuple):
    """What calls that succeed are made with."""

    model: int
    stream: int
    path: bytes


CALLS_THAT_SUCCEED: dict[str, Callable[[Library, Loaded], int]] = {
    "init": lambda bn, _: bn.bitnet_init(),
    "cleanup": lambda bn, _: bn.bitnet_cleanup(),
    "is_loaded": lambda bn, on: bn.bitnet_model_is_loaded(on.model),
    "is_not_loaded": lambda bn, _: bn.bitnet_model_is_loaded(b.NO_ID),
    "get_info": lambda bn, on: bn.bitnet_model_get_info(on.model, b.ModelInfo()),
    "progress": lambda bn, on: bn.bitnet_get_model_loading_progress(on.model),
    "backend": lambda bn, on: bn.bitnet_switch_model_backend(on.model, 1),
    "threads": lambda bn, _: bn.bitnet_set_num_threads(1),
    "no_gpu": lambda bn, _: bn.bitnet_set_gpu_enabled(0),
    "metrics": lambda bn, on: bn.bitnet_get_performance_metrics(on.model, b.Metrics()),
    "reset": lambda bn, on: bn.bitnet_reset_performance_metrics(on.model),
    "limit": lambda bn, _: bn.bitnet_set_memory_limit(0),
    "collect": lambda bn, _: bn.bitnet_garbage_collect(),
    "inference": lambda bn, on: bn.bitnet_inference_with_config(
        on.model, b"Once", b.greedy(1), ctypes.create_string_buffer(64), 64
    ),
    "batch": lambda bn, on: bn.batch(on.model, ["Once"], b.greedy(1))[0],
    "start": lambda bn, on: bn.bitnet_stop_streaming(bn.stream(on.model, "Once", b.greedy(1))),
    "next_token": lambda bn, on: bn.bitnet_stream_next_token(
        on.stream, ctypes.create_string_buffer(64), 64
    ),
    "stop": lambda bn, on: bn.bitnet_stop_streaming(on.stream),
    "load_and_free": lambda bn, on: bn.bitnet_model_free(bn.bitnet_model_load(on.path)),
}

CALLS_THAT_FAIL: dict[str, Callable[[Library], int]] = {
    "load": lambda bn: bn.bitnet_model_load(None),
    "load_with_config": lambda bn: bn.bitnet_model_load_with_config(None, None),
    "free": lambda bn: bn.bitnet_model_free(-1),
    "is_loaded": lambda bn: bn.bitnet_model_is_loaded(-1),
    "get_info": lambda bn: bn.bitnet_model_get_info(-1, None),
    "inference": lambda bn: bn.bitnet_inference(-1, None, None, 0),
    "inference_with_config": lambda bn: bn.bitnet_inference_with_config(-1, None, None, None, 0),
    "batch": lambda bn: bn.bitnet_batch_inference(-1, None, 0, None, None, None),
    "start": lambda bn: bn.bitnet_start_streaming(-1, None, None, None),
    "next_token": lambda bn: bn.bitnet_stream_next_token(-1, None, 0),
    "stop": lambda bn: bn.bitnet_stop_streaming(-1),
    "metrics": lambda bn: bn.bitnet_get_performance_metrics(-1, None),
    "reset": lambda bn: bn.bitnet_reset_performance_metrics(-1),
    "progress": lambda bn: bn.bitnet_get_model_loading_progress(-1),
    "backend": lambda bn: bn.bitnet_switch_model_backend(-1, 0),
}

CALLS_THAT_LEAVE_IT = (
    "bitnet_abi_version",
    "bitnet_ffi_api_version",
    "bitnet_version",
    "bitnet_get_num_threads",
    "bitnet_is_gpu_available",
    "bitnet_get_memory_usage",
    "bitnet_get_last_error",
)


@pytest.mark.parametrize("call", CALLS_THAT_SUCCEED)
def test_success_clears_it(bn: Library, model: int, story_model: Path, call: str) -> None:
    stream = bn.stream(model, "Once", b.greedy(1))
    threads = bn.bitnet_get_num_threads()
    assert bn.bitnet_model_load(None) == b.INVALID_ARGUMENT
    result = CALLS_THAT_SUCCEED[call](bn, Loaded(model, stream, str(story_model).encode()))
    assert (result >= 0, bn.last_error()) == (True, None)
    bn.bitnet_stop_streaming(stream)
    if call == "threads":
        bn.bitnet_set_num_threads(threads)


@pytest.mark.parametrize("call", CALLS_THAT_FAIL)
def test_failure_replaces_it(bn: Library, call: str) -> None:
    assert bn.bitnet_model_free(b.NO_ID) == b.INVALID_MODEL_ID
    assert bn.refused(CALLS_THAT_FAIL[call](bn), b.INVALID_ARGUMENT)


@pytest.mark.parametrize("name", CALLS_THAT_LEAVE_IT)
def test_calls_that_cannot_fail_leave_it(bn: Library, name: str) -> None:
    assert bn.bitnet_model_load(None) == b.INVALID_ARGUMENT
    getattr(bn, name)()
    assert bn.last_error() == "Invalid argument: path cannot be null"


def test_clearing_leaves_none(bn: Library) -> None:
    assert bn.bitnet_model_load(None) == b.INVALID_ARGUMENT
    bn.bitnet_clear_last_error()
    assert bn.last_error() is None
    bn.bitnet_clear_last_error()
    assert bn.last_error() is None


def test_text_lives_until_the_next_question_of_this_thread(bn: Library) -> None:
    assert bn.bitnet_model_load(None) == b.INVALID_ARGUMENT
    address = bn.bitnet_get_last_error()
    assert bn.bitnet_model_free(b.NO_ID) == b.INVALID_MODEL_ID
    bn.bitnet_clear_last_error()
    assert ctypes.string_at(address) == b"Invalid argument: path cannot be null"


def test_threads_have_their_own(bn: Library) -> None:
    seen: list[str | None] = []

    def look_and_fail() -> None:
        seen.append(bn.last_error())
        bn.bitnet_model_free(b.NO_ID)
        seen.append(bn.last_error())

    assert bn.bitnet_model_load(None) == b.INVALID_ARGUMENT
    thread = threading.Thread(target=look_and_fail)
    thread.start()
    thread.join()
    assert seen == [None, f"Invalid model ID: Model ID {b.NO_ID} not found"]
    assert bn.last_error() == "Invalid argument: path cannot be null"


def test_every_failure_has_the_prefix_of_its_code(
    bn: Library, model: int, story_model: Path, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"Dear diary, this is no model.")
    assert bn.refused(bn.bitnet_model_free(-1), b.INVALID_ARGUMENT)
    assert bn.refused(bn.bitnet_model_load(b"/no/such/model"), b.MODEL_NOT_FOUND)
    assert bn.refused(bn.bitnet_model_load(str(junk).encode()), b.MODEL_LOAD_FAILED)
    limited = b.config(memory_limit=1)
    path = str(story_model).encode()
    assert bn.refused(bn.bitnet_model_load_with_config(path, limited), b.OUT_OF_MEMORY)
    assert bn.refused(bn.bitnet_set_num_threads(0), b.THREAD_SAFETY)
    assert bn.refused(bn.bitnet_model_free(b.NO_ID), b.INVALID_MODEL_ID)
    short = b.greedy(1, max_length=1)
    output = ctypes.create_string_buffer(8)
    too_long = bn.bitnet_inference_with_config(model, b"Once upon a time", short, output, 8)
    assert bn.refused(too_long, b.CONTEXT_LENGTH_EXCEEDED)
    if not bn.bitnet_is_gpu_available():
        assert bn.refused(bn.bitnet_switch_model_backend(model, 2), b.UNSUPPORTED_OPERATION)
