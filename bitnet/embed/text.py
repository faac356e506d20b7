"""Text in the buffers of C programs."""

from __future__ import annotations

INT_MAX = 2**31 - 1


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def fitting(data: bytes, size: int) -> bytes:
    """The longest start of UTF-8 text that fits `size` bytes with a NUL, in whole characters."""
    return data[: min(max(size - 1, 0), INT_MAX)].decode("utf-8", "ignore").encode("utf-8")
