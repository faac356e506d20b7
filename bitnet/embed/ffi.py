"""What is used of the library's cffi module, and how its functions get their bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from bitnet.embed.errors import error_name, error_text


class Ffi(Protocol):
    """The `ffi` object."""

    def string(self, cdata: Any) -> bytes: ...
    def memmove(self, dest: Any, src: Any, n: int) -> None: ...
    def new(self, type: str, init: Any) -> Any: ...
    def unpack(self, cdata: Any, n: int) -> Any: ...
    def buffer(self, cdata: Any, n: int) -> Any: ...
    def def_extern(self, name: str) -> Callable[[Callable[..., None]], object]: ...


class Lib(Protocol):
    """The `lib` object, besides the BITNET_ERROR_ constants."""

    def bitnet_report_error(self, code: int, text: bytes, length: int) -> None: ...
    def bitnet_report_log(self, level: int, message: bytes) -> None: ...
    def bitnet_setting_num_threads(self) -> int: ...
    def bitnet_setting_memory_limit(self) -> int: ...
    def bitnet_setting_log_level(self) -> int: ...


def define(ffi: Ffi, lib: Lib, functions: Iterable[Callable[..., int | None]]) -> None:
    """Give functions of cabi/host.h their bodies: those of the same names."""
    for function in functions:
        ffi.def_extern(f"bitnet_host_{function.__name__}")(answering(function, lib))


def answering(function: Callable[..., int | None], lib: Lib) -> Callable[..., None]:
    """Wrap `function` so that its value, or the code of its exception, goes to *result.

    The pointer `result` is the last argument of the functions in cabi/host.h. No value is 0.
    """

    def call(*arguments: Any) -> None:
        *inputs, result = arguments
        try:
            result[0] = function(*inputs) or 0
        except BaseException as error:  # noqa: BLE001 - C gets a code and a text for all of them
            result[0] = report(lib, error)

    return call


def report(lib: Lib, error: BaseException) -> int:
    """Make an exception the last error of this thread, and return its code."""
    code: int = getattr(lib, f"BITNET_ERROR_{error_name(error)}")
    text = error_text(error)
    lib.bitnet_report_error(code, text, len(text))
    return code


def write_text(ffi: Ffi, buffer: Any, data: bytes) -> None:
    """Copy text, which fits, and a NUL."""
    ffi.memmove(buffer, data + b"\0", len(data) + 1)
