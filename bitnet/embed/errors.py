"""From exceptions to the error codes and texts of bitnet.h."""

from __future__ import annotations

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


class UnknownModelError(BitNetError):
    """No loaded model has this id."""

    def __init__(self, model_id: int) -> None:
        super().__init__(f"Model ID {model_id} not found")


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
