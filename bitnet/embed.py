"""The Python half of libbitnet: what the functions of bitnet.h ask of this package.

The C half (cabi/) has checked every argument by the time it calls here. This module keeps the
table of models, turns C settings into those of `Model.generate`, and turns exceptions into error
codes. It is of no use from Python.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

import bitnet
from bitnet.errors import (
    BitNetError,
    ContextLengthExceededError,
    GenerationError,
    InvalidArgumentError,
    ModelClosedError,
    ModelFileError,
    ModelNotFoundError,
    UnsupportedOperationError,
)

BACKEND_GPU = 2
INT_MAX = 2**31 - 1


class UnknownModelError(BitNetError):
    """No loaded model has this id."""


# The first match counts, so leaves come before their bases. Anything else is INTERNAL.
ERROR_NAMES: tuple[tuple[type[BaseException], str], ...] = (
    (UnknownModelError, "INVALID_MODEL_ID"),
    (ModelClosedError, "INVALID_MODEL_ID"),
    (ModelNotFoundError, "MODEL_NOT_FOUND"),
    (ModelFileError, "MODEL_LOAD_FAILED"),
    (InvalidArgumentError, "INVALID_ARGUMENT"),
    (ContextLengthExceededError, "CONTEXT_LENGTH_EXCEEDED"),
    (GenerationError, "INFERENCE_FAILED"),
    (MemoryError, "OUT_OF_MEMORY"),
    (UnsupportedOperationError, "UNSUPPORTED_OPERATION"),
)


def error_name(error: BaseException) -> str:
    """What follows BITNET_ERROR_ in the code for this exception."""
    for kind, name in ERROR_NAMES:
        if isinstance(error, kind):
            return name
    return "INTERNAL"


def error_text(error: BaseException) -> bytes:
    """The exception in words, as UTF-8."""
    text = str(error)
    if not text or not isinstance(error, (BitNetError, MemoryError)):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text.encode("utf-8", "backslashreplace")


def fitting(text: str, size: int) -> bytes:
    """The longest start of the text that fits `size` bytes with a NUL, in whole characters."""
    data = text.encode("utf-8", "replace")
    return data[: min(size - 1, INT_MAX)].decode("utf-8", "ignore").encode("utf-8")


class InferenceConfig(Protocol):
    """bitnet_inference_config_t, valid; see bitnet.h."""

    max_length: int
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int
    do_sample: int
    backend_preference: int


class Host:
    """The models that C programs have loaded, by id. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[int, bitnet.Model] = {}
        self._next_id = 0

    def load(self, path: bytes) -> int:
        """Load a model and return its id; a failed load uses up no id."""
        name = os.fsdecode(path)
        if not os.path.exists(name):
            raise ModelNotFoundError(f"Model file not found: {name}")
        model = bitnet.load(name)
        with self._lock:
            model_id = self._next_id
            self._next_id += 1
            self._models[model_id] = model
        return model_id

    def free(self, model_id: int) -> None:
        """Unload a model; runs on it that are under way end with ModelClosedError."""
        with self._lock:
            model = self._find(model_id)
            del self._models[model_id]
        model.close()

    def is_loaded(self, model_id: int) -> bool:
        with self._lock:
            return model_id in self._models

    def generate(self, model_id: int, prompt: str, config: InferenceConfig) -> str:
        """Continue a prompt and return the new text."""
        with self._lock:
            model = self._find(model_id)
        if config.backend_preference == BACKEND_GPU:
            raise UnsupportedOperationError("backend_preference 2 (gpu): there is no GPU backend")
        return generate(model, prompt, config)

    def _find(self, model_id: int) -> bitnet.Model:
        try:
            return self._models[model_id]
        except KeyError:
            raise UnknownModelError(f"Model ID {model_id} not found") from None


def generate(model: bitnet.Model, prompt: str, config: InferenceConfig) -> str:
    """One run with the settings of bitnet.h: max_length counts the prompt's tokens too."""
    ids = model.tokenizer.encode(prompt, add_bos=model.tokenizer.add_bos)
    room = min(config.max_length, model.context) - len(ids)
    if room <= 0:
        raise ContextLengthExceededError(
            f"the prompt has {len(ids)} tokens; max_length is {config.max_length} and the "
            f"model's context {model.context}"
        )
    completion = model.generate(
        ids,
        max_new_tokens=min(config.max_new_tokens, room),
        temperature=config.temperature if config.do_sample else 0.0,
        top_k=config.top_k,
        top_p=config.top_p or 1.0,
        repetition_penalty=config.repetition_penalty,
        frequency_penalty=config.frequency_penalty,
        presence_penalty=config.presence_penalty,
        seed=config.seed or None,
    )
    return completion.text


class Ffi(Protocol):
    """What is used of the `ffi` object of the library's cffi module."""

    def string(self, cdata: object) -> bytes: ...
    def memmove(self, dest: object, src: bytes, n: int) -> None: ...
    def def_extern(self, name: str) -> Callable[[Callable[..., None]], object]: ...


class Lib(Protocol):
    """What is used of its `lib` object, besides the BITNET_ERROR_ constants."""

    def bitnet_report_error(self, code: int, text: bytes, length: int) -> None: ...


def attach(ffi: Ffi, lib: Lib) -> None:
    """Give the functions of cabi/host.h their bodies. Called once, when the library starts."""
    host = Host()

    def model_load(path: object) -> int:
        return host.load(ffi.string(path))

    def model_free(model_id: int) -> int:
        host.free(model_id)
        return 0

    def model_is_loaded(model_id: int) -> int:
        return int(host.is_loaded(model_id))

    def inference(
        model_id: int, prompt: object, config: InferenceConfig, output: object, max_len: int
    ) -> int:
        data = fitting(host.generate(model_id, ffi.string(prompt).decode(), config), max_len)
        ffi.memmove(output, data + b"\0", len(data) + 1)
        return len(data)

    for function in (model_load, model_free, model_is_loaded, inference):
        ffi.def_extern(f"bitnet_host_{function.__name__}")(_answering(function, lib))


def _answering(function: Callable[..., int], lib: Lib) -> Callable[..., None]:
    """Wrap `function` so that its value, or the code of its exception, goes to *result.

    The pointer `result` is the last argument of every function in cabi/host.h.
    """

    def call(*arguments: Any) -> None:
        *inputs, result = arguments
        try:
            result[0] = function(*inputs)
        except BaseException as error:  # noqa: BLE001 - C gets a code and a text for all of them
            code: int = getattr(lib, f"BITNET_ERROR_{error_name(error)}")
            text = error_text(error)
            lib.bitnet_report_error(code, text, len(text))
            result[0] = code

    return call
