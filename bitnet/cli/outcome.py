"""How a command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bitnet.errors import BitNetError, InvalidArgumentError


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into a line on stderr and an exit code.

    2: what was asked for makes no sense. 1: it cannot be done. 130: Ctrl-C. A reader that has
    seen enough and closes the pipe is no error.
    """
    try:
        yield
    except InvalidArgumentError as error:
        raise failed(error, 2) from error
    except BitNetError as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def failed(error: BitNetError, code: int) -> typer.Exit:
    print_error(error)
    return typer.Exit(code)


def print_error(error: BitNetError) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo("error: " + " ".join(str(error).split()), err=True)
