"""Every error bitnet raises on purpose.

BitNetError
├── InvalidArgumentError        a value passed in is outside its documented range
├── ModelNotFoundError          no file or folder at the given path
├── DownloadError               a model could not be fetched
├── ModelFileError              something in a model's files
│   ├── InvalidModelError       broken, truncated, inconsistent or hostile
│   └── UnsupportedModelError   well formed, but nothing here can run it
├── ModelClosedError            the model was closed
├── ModelMemoryError            the machine has not enough memory
├── GenerationError             a running generation failed
│   ├── ContextLengthExceededError
│   └── GenerationTimeoutError      the next token did not come in time; it may be asked for again
├── CodegenError                compiling or running generated code
│   ├── UnsupportedTargetError  this CPU lacks what the target needs
│   ├── CompileError            LLVM refused the code
│   └── BoundsError             checked mode caught an access outside its buffer
└── UnsupportedOperationError   known, but not available in this build
"""

from __future__ import annotations

import os

MAX_RULE_CHARS = 2000


class BitNetError(Exception):
    """Base class of all errors raised by this package."""


class InvalidArgumentError(BitNetError, ValueError):
    """A value passed by the caller is outside its documented range."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(_short(message)))


class ModelNotFoundError(BitNetError, FileNotFoundError):
    """There is no model at the given path."""


class DownloadError(BitNetError):
    """A model could not be fetched: no way to the hub, no access, or not the bytes it promised."""


class ModelFileError(BitNetError):
    """A model's files cannot be used; says which file, which tensor and which rule."""

    def __init__(
        self, path: str | os.PathLike[str], rule: str, *, tensor: str | None = None
    ) -> None:
        where = f"{os.fspath(path)}: " + (f"tensor {_short(tensor)}: " if tensor else "")
        super().__init__(printable(where + _short(rule)))
        self.path = os.fspath(path)
        self.tensor = tensor
        self.rule = rule


def printable(text: str) -> str:
    """Text with codes for what a terminal may obey; names in a hostile file may hold such."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _short(text: str) -> str:
    """Text that quotes what may be as long as a file."""
    left = len(text) - MAX_RULE_CHARS
    return text if left <= 0 else f"{text[:MAX_RULE_CHARS]}... and {left} characters"


class InvalidModelError(ModelFileError):
    """The file is broken, truncated or inconsistent."""


class UnsupportedModelError(ModelFileError):
    """The file is well formed but holds something this engine cannot run."""


class ModelClosedError(BitNetError):
    """The model was closed and can no longer be used."""


class ModelMemoryError(BitNetError, MemoryError):
    """There is not enough memory for the model or its caches."""


class GenerationError(BitNetError):
    """A running generation failed."""


class ContextLengthExceededError(GenerationError):
    """The prompt, or the prompt and its continuation, do not fit the context."""


class GenerationTimeoutError(GenerationError, TimeoutError):
    """The next token did not come in time. The generation goes on and may be asked again."""


class CodegenError(BitNetError):
    """Compiling or running generated code failed."""


class UnsupportedTargetError(CodegenError):
    """The CPU lacks features that the requested target needs."""


class CompileError(CodegenError):
    """LLVM refused the generated code; always a bug in bitnet."""


class BoundsError(CodegenError):
    """Checked mode caught a load or store outside its buffer; always a bug in bitnet."""


class UnsupportedOperationError(BitNetError):
    """The operation is known but not available in this build."""
