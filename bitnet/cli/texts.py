"""Texts that commands read from files."""

from __future__ import annotations

from pathlib import Path

from bitnet.errors import InvalidArgumentError


def read_file(file: Path) -> str:
    """The text of a file in UTF-8, to its last byte. Raises InvalidArgumentError."""
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{file} is not UTF-8: {error}") from error


def split_lines(text: str) -> list[str]:
    """Lines end with a line feed, and a carriage return before it belongs to the end."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
