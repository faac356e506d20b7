"""bitnet.h for ctypes: structures, prototypes, and short ways to say what tests say often."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_char_p, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

INVALID_ARGUMENT = -1
MODEL_NOT_FOUND = -2
MODEL_LOAD_FAILED = -3
OUT_OF_MEMORY = -5
THREAD_SAFETY = -6
INVALID_MODEL_ID = -7
CONTEXT_LENGTH_EXCEEDED = -8
UNSUPPORTED_OPERATION = -9
INTERNAL = -10

PREFIXES = {
    INVALID_ARGUMENT: "Invalid argument: ",
    MODEL_NOT_FOUND: "Model not found: ",
    MODEL_LOAD_FAILED: "Model loading failed: ",
    OUT_OF_MEMORY: "Out of memory: ",
    THREAD_SAFETY: "Thread safety violation: ",
    INVALID_MODEL_ID: "Invalid model ID: ",
    CONTEXT_LENGTH_EXCEEDED: "Context length exceeded: ",
    UNSUPPORTED_OPERATION: "Unsupported operation: ",
    INTERNAL: "Internal error: ",
}

MAX_ID = 2**31 - 1  # no library gets this far
NO_ID = MAX_ID - 1


class Config(ctypes.Structure):
    _fields_ = [
        ("model_path", c_char_p),
        ("model_format", c_uint32),
        ("vocab_size", c_uint32),
        ("hidden_size", c_uint32),
        ("num_layers", c_uint32),
        ("num_heads", c_uint32),
        ("intermediate_size", c_uint32),
        ("max_position_embeddings", c_uint32),
        ("quantization_type", c_uint32),
        ("block_size", c_uint32),
        ("precision", c_float),
        ("num_threads", c_uint32),
        ("use_gpu", c_uint32),
        ("batch_size", c_uint32),
        ("memory_limit", c_uint64),
    ]


class InferenceConfig(ctypes.Structure):
    _fields_ = [
        ("max_length", c_uint32),
        ("max_new_tokens", c_uint32),
        ("temperature", c_float),
        ("top_k", c_uint32),
        ("top_p", c_float),
        ("repetition_penalty", c_float),
        ("frequency_penalty", c_float),
        ("presence_penalty", c_float),
        ("seed", c_uint64),
        ("do_sample", c_uint32),
        ("backend_preference", c_uint32),
        ("enable_streaming", c_uint32),
        ("stream_buffer_size", c_uint32),
    ]


class ModelInfo(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("version", c_char_p),
        ("architecture", c_char_p),
        ("vocab_size", c_uint32),
        ("context_length", c_uint32),
        ("hidden_size", c_uint32),
        ("num_layers", c_uint32),
        ("num_heads", c_uint32),
        ("intermediate_size", c_uint32),
        ("quantization_type", c_uint32),
        ("file_size", c_uint64),
        ("memory_usage", c_uint64),
        ("is_gpu_loaded", c_uint32),
    ]


class Metrics(ctypes.Structure):
    _fields_ = [
        ("tokens_per_second", c_float),
        ("latency_ms", c_float),
        ("memory_usage_mb", c_float),
        ("gpu_utilization", c_float),
        ("total_inference_time_ms", c_float),
        ("time_to_first_token_ms", c_float),
        ("tokens_generated", c_uint32),
        ("prompt_tokens", c_uint32),
    ]


Callback = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)


class StreamConfig(ctypes.Structure):
    _fields_ = [
        ("callback", Callback),
        ("user_data", c_void_p),
        ("buffer_size", c_uint32),
        ("yield_interval", c_uint32),
        ("enable_backpressure", c_uint32),
        ("timeout_ms", c_uint32),
    ]


def config(**changes: Any) -> Config:
    """BITNET_CONFIG_INIT, with changes."""
    given = (None, 0, 32000, 4096, 32, 32, 11008, 2048, 0, 64, 1e-4, 0, 0, 1, 0)
    return _changed(Config(*given), changes)


def inference_config(**changes: Any) -> InferenceConfig:
    """BITNET_INFERENCE_CONFIG_INIT, with changes."""
    return _changed(InferenceConfig(2048, 512, 1.0, 50, 0.9, 1.1, 0, 0, 0, 1, 0, 0, 64), changes)


def greedy(max_new_tokens: int, **changes: Any) -> InferenceConfig:
    """The most likely tokens and no penalty: the same text every time."""
    plain = {"max_new_tokens": max_new_tokens, "do_sample": 0, "repetition_penalty": 1.0}
    return inference_config(**(plain | changes))


def stream_config(**changes: Any) -> StreamConfig:
    """BITNET_STREAM_CONFIG_INIT, with changes."""
    return _changed(StreamConfig(Callback(), None, 64, 1, 1, 5000), changes)


def _changed(structure: Any, changes: dict[str, Any]) -> Any:
    for name, value in changes.items():
        getattr(structure, name)  # a misspelt field would be a new attribute
        setattr(structure, name, value)
    return structure


_P = ctypes.POINTER
_RUN = (c_int, c_char_p, _P(InferenceConfig))
PROTOTYPES: dict[str, tuple[Any, ...]] = {  # result, then parameters
    "bitnet_abi_version": (c_uint32,),
    "bitnet_ffi_api_version": (c_uint32,),
    "bitnet_version": (c_void_p,),
    "bitnet_init": (c_int,),
    "bitnet_cleanup": (c_int,),
    "bitnet_model_load": (c_int, c_char_p),
    "bitnet_model_load_with_config": (c_int, c_char_p, _P(Config)),
    "bitnet_model_free": (c_int, c_int),
    "bitnet_model_is_loaded": (c_int, c_int),
    "bitnet_model_get_info": (c_int, c_int, _P(ModelInfo)),
    "bitnet_inference": (c_int, c_int, c_char_p, c_void_p, c_size_t),
    "bitnet_inference_with_config": (c_int, *_RUN, c_void_p, c_size_t),
    "bitnet_get_last_error": (c_void_p,),
    "bitnet_clear_last_error": (None,),
    "bitnet_set_num_threads": (c_int, c_uint32),
    "bitnet_get_num_threads": (c_uint32,),
    "bitnet_set_gpu_enabled": (c_int, c_int),
    "bitnet_is_gpu_available": (c_int,),
    "bitnet_get_performance_metrics": (c_int, c_int, _P(Metrics)),
    "bitnet_reset_performance_metrics": (c_int, c_int),
    "bitnet_batch_inference": (
        c_int,
        c_int,
        _P(c_char_p),
        c_size_t,
        _P(InferenceConfig),
        _P(c_void_p),
        _P(c_size_t),
    ),
    "bitnet_start_streaming": (c_int, *_RUN, _P(StreamConfig)),
    "bitnet_stop_streaming": (c_int, c_int),
    "bitnet_stream_next_token": (c_int, c_int, c_void_p, c_size_t),
    "bitnet_set_memory_limit": (c_int, c_uint64),
    "bitnet_get_memory_usage": (c_uint64,),
    "bitnet_garbage_collect": (c_int,),
    "bitnet_get_model_loading_progress": (c_int, c_int),
    "bitnet_switch_model_backend": (c_int, c_int, c_uint32),
}


class Library:
    """The functions of bitnet.h as attributes, and helpers for what tests do often."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, (result, *parameters) in PROTOTYPES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, parameters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def last_error(self) -> str | None:
        """The text of bitnet_get_last_error()."""
        address = self.bitnet_get_last_error()
        return ctypes.string_at(address).decode() if address else None

    def refused(self, code: int, expected: int, text: str = "") -> bool:
        """Is it the error `expected`, with its prefix and then a text that begins like this?"""
        found = self.last_error()
        assert (code, found) == (expected, found), f"expected {expected}: {text}"
        assert found is not None
        assert found.startswith(PREFIXES[expected] + text), found
        assert len(found) > len(PREFIXES[expected])
        return True

    def load(self, path: Path) -> int:
        model_id: int = self.bitnet_model_load(str(path).encode())
        assert model_id >= 0, self.last_error()
        return model_id

    def infer(self, model: int, prompt: str, settings: InferenceConfig, size: int = 8192) -> str:
        """A run that must succeed; checks the contract of the output buffer."""
        output = ctypes.create_string_buffer(b"#" * (size + 8))
        length = self.bitnet_inference_with_config(
            model, prompt.encode(), ctypes.byref(settings), output, size
        )
        assert 0 <= length < size, self.last_error()
        assert output.raw[length : length + 1] == b"\0"
        assert output.raw[size : size + 8] == b"#" * 8
        assert self.last_error() is None
        return output.raw[:length].decode()

    def batch(
        self, model: int, prompts: Sequence[str], settings: InferenceConfig, size: int = 4096
    ) -> tuple[int, list[str]]:
        """Returns the result and the texts; they begin with # where nothing was written."""
        buffers = [ctypes.create_string_buffer(b"#" * size) for _ in prompts]
        result = self.bitnet_batch_inference(
            model,
            (c_char_p * len(prompts))(*(p.encode() for p in prompts)),
            len(prompts),
            ctypes.byref(settings),
            (c_void_p * len(prompts))(*map(ctypes.addressof, buffers)),
            (c_size_t * len(prompts))(*[size] * len(prompts)),
        )
        return result, [buffer.value.decode() for buffer in buffers]

    def stream(
        self, model: int, prompt: str, settings: InferenceConfig, how: StreamConfig | None = None
    ) -> int:
        """The id of a stream that must start."""
        how = stream_config() if how is None else how
        stream_id: int = self.bitnet_start_streaming(
            model, prompt.encode(), ctypes.byref(settings), ctypes.byref(how)
        )
        assert stream_id >= 0, self.last_error()
        return stream_id

    def next_piece(self, stream: int, size: int = 256) -> str | None:
        """The next piece of a stream; None at its end."""
        token = ctypes.create_string_buffer(b"#" * (size + 8))
        length = self.bitnet_stream_next_token(stream, token, size)
        assert 0 <= length < size, self.last_error()
        assert token.raw[size : size + 8] == b"#" * 8
        if length == 0:
            assert token.raw[:size] == b"#" * size
            return None
        assert token.raw[length : length + 1] == b"\0"
        return token.raw[:length].decode()

    def pieces(self, stream: int) -> list[str]:
        """All that is left of a stream."""
        return list(iter(lambda: self.next_piece(stream), None))
