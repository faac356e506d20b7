"""How a command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from bitnet.errors import (
    BitNetError,
    InvalidArgumentError,
    InvalidModelError,
    UnsupportedModelError,
)


class ExitCode(IntEnum):
    """Every code that a command ends with; those that BitNet-rs has too mean the like there."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done, or the reader of a pipe has closed it"
    FAILED = 1, "it cannot be done; of doctor: something does not work here"
    USAGE = 2, "what was asked for makes no sense: options, settings, texts"
    UNSUPPORTED_MODEL = 3, "the model is sound, but of a kind that this cannot be done with"
    INVALID_MODEL = 8, "a model's files are broken, or not what they are said to be"
    SLOWER = 9, "of bench --baseline: slower than before"
    INTERRUPTED = 130, "Ctrl-C"


EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {c.value:<4} {c.meaning}" for c in ExitCode)

# The first match counts, so leaves come before their bases.
_CODES: tuple[tuple[type[BitNetError], ExitCode], ...] = (
    (InvalidArgumentError, ExitCode.USAGE),
    (UnsupportedModelError, ExitCode.UNSUPPORTED_MODEL),
    (InvalidModelError, ExitCode.INVALID_MODEL),
    (BitNetError, ExitCode.FAILED),
)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into a line on stderr and an exit code."""
    try:
        yield
    except BitNetError as error:
        print_error(error)
        code = next(code for kind, code in _CODES if isinstance(error, kind))
        raise typer.Exit(code) from error
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def print_error(error: BitNetError) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo("error: " + " ".join(str(error).split()), err=True)
