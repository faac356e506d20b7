"""From exceptions to codes and texts, and from functions to what C can call."""

from __future__ import annotations

import pytest

from bitnet import errors
from bitnet.embed.errors import UnknownModelError, error_name, error_text
from bitnet.embed.ffi import answering
from bitnet.embed.text import fitting


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.ModelNotFoundError("x"), "MODEL_NOT_FOUND"),
        (errors.InvalidModelError("x", "y"), "MODEL_LOAD_FAILED"),
        (errors.UnsupportedModelError("x", "y"), "MODEL_LOAD_FAILED"),
        (errors.InvalidArgumentError("x"), "INVALID_ARGUMENT"),
        (errors.GenerationError("x"), "INFERENCE_FAILED"),
        (errors.ContextLengthExceededError("x"), "CONTEXT_LENGTH_EXCEEDED"),
        (errors.ModelMemoryError("x"), "OUT_OF_MEMORY"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (errors.ModelClosedError("x"), "INVALID_MODEL_ID"),
        (UnknownModelError(3), "INVALID_MODEL_ID"),
        (errors.UnsupportedOperationError("x"), "UNSUPPORTED_OPERATION"),
        (errors.CompileError("x"), "INTERNAL"),
        (errors.BitNetError("x"), "INTERNAL"),
        (ValueError("x"), "INTERNAL"),
        (FileNotFoundError("x"), "INTERNAL"),
        (KeyboardInterrupt(), "INTERNAL"),
        (SystemExit(0), "INTERNAL"),
    ],
)
def test_exceptions_map_to_codes(error: BaseException, name: str) -> None:
    assert error_name(error) == name


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.GenerationError("too hot"), b"too hot"),
        (ValueError("odd"), b"ValueError: odd"),
        (MemoryError(), b"MemoryError"),
        (KeyboardInterrupt(), b"KeyboardInterrupt"),
        (errors.ModelNotFoundError("no \udcff"), b"no \\udcff"),
        (errors.ModelNotFoundError("\u00e9"), b"\xc3\xa9"),
    ],
)
def test_error_texts_are_utf8(error: BaseException, text: bytes) -> None:
    assert error_text(error) == text


@pytest.mark.parametrize("text", ["", "abc", "été", "10€", "a🙂b", "世界"])
def test_text_is_cut_at_whole_characters(text: str) -> None:
    data = text.encode()
    for size in range(1, len(data) + 3):
        fitted = fitting(data, size)
        assert len(fitted) < size
        assert data.startswith(fitted)
        assert text.startswith(fitted.decode())
        following = text[len(fitted.decode()) :]
        assert not following or len(fitted) + len(following[0].encode()) >= size


class Slot:
    """What C passes to cffi for an `int *`."""

    def __init__(self) -> None:
        self.value = -10

    def __setitem__(self, index: int, value: int) -> None:
        self.value = value


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), RuntimeError("boom")])
def test_nothing_that_is_raised_reaches_c_as_success(error: BaseException) -> None:
    reported: list[tuple[int, bytes]] = []

    class Lib:
        BITNET_ERROR_INTERNAL = -10

        def bitnet_report_error(self, code: int, text: bytes, length: int) -> None:
            assert len(text) == length
            reported.append((code, text))

    def fail() -> int:
        raise error

    slot = Slot()
    answering(fail, Lib())(slot)
    assert slot.value == -10
    assert reported == [(-10, error_text(error))]
