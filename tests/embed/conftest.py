"""The Python half of libbitnet without its C half: functions of cabi/host.h called from here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

import build_cffi
from bitnet.embed import attach
from bitnet.embed.host import Host
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says tiny_model.TEXT again and again after any prompt but "z", which it answers at once."""
    folder = tmp_path_factory.mktemp("models")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    return write_tiny_model(
        folder / "tiny.gguf", first_words={"z": 4}, endless=True, chat_template=template
    )


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    for stream_id in made.streams.all():
        made.streams.remove(stream_id).stop()
    for model_id in made.models.all():
        made.free(model_id)


class Shim:
    """Stands where the C files of libbitnet are: `ffi` and `lib` of its module."""

    BITNET_ERROR_INVALID_ARGUMENT = -1
    BITNET_ERROR_MODEL_NOT_FOUND = -2
    BITNET_ERROR_OUT_OF_MEMORY = -5
    BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED = -8
    BITNET_ERROR_INVALID_MODEL_ID = -7
    BITNET_ERROR_INTERNAL = -10

    def __init__(self) -> None:
        self.ffi = FFI()
        for header in build_cffi.HEADERS:
            self.ffi.cdef(build_cffi.declarations(header.read_text(encoding="utf-8")))
        self.functions: dict[str, Any] = {}
        self.errors: list[str] = []
        self.log: list[tuple[int, str]] = []
        self.num_threads = self.memory_limit = 0
        self.log_level = -1

    def call(self, name: str, *arguments: Any) -> int:
        result = self.ffi.new("int *", -10)
        self.functions[f"bitnet_host_{name}"](*arguments, result)
        return int(result[0])

    def text(self, text: str) -> Any:
        return self.ffi.new("char[]", text.encode())

    def buffer(self, size: int) -> Any:
        return self.ffi.new("char[]", size)

    def read(self, buffer: Any) -> str:
        return self.ffi.string(buffer).decode()

    def config(self, **changes: Any) -> Any:
        """BITNET_INFERENCE_CONFIG_INIT, but greedy and without penalties."""
        values = {"max_length": 2048, "max_new_tokens": 512, "temperature": 1.0, "top_k": 50}
        values |= {"top_p": 0.9, "repetition_penalty": 1.0, "stream_buffer_size": 64}
        return self.ffi.new("bitnet_inference_config_t *", values | changes)

    def stream_config(self, **changes: int) -> Any:
        values = {"buffer_size": 64, "yield_interval": 1, "enable_backpressure": 1}
        return self.ffi.new("bitnet_stream_config_t *", values | {"timeout_ms": 5000} | changes)

    # -- `ffi`, as far as it differs, and `lib` ------------------------------------------------

    def def_extern(self, name: str) -> Any:
        return lambda function: self.functions.setdefault(name, function)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ffi, name)

    def bitnet_report_error(self, code: int, text: bytes, length: int) -> None:
        self.errors.append(text[:length].decode())

    def bitnet_report_log(self, level: int, message: bytes) -> None:
        self.log.append((level, message.decode()))

    def bitnet_setting_num_threads(self) -> int:
        return self.num_threads

    def bitnet_setting_memory_limit(self) -> int:
        return self.memory_limit

    def bitnet_setting_log_level(self) -> int:
        return self.log_level


@pytest.fixture
def shim() -> Iterator[Shim]:
    made = Shim()
    attach(made, made)
    yield made
    made.log_level = -1
    assert made.call("settings_changed") == 0
    made.call("cleanup")


@pytest.fixture
def model(shim: Shim, tiny_model: Path) -> int:
    return shim.call("model_load", shim.text(str(tiny_model)), shim.ffi.NULL)
