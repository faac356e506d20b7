"""How far something long has come, on a line of the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

_QUIET_SECONDS = 0.5  # what takes longer shows its progress


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """Give a function that shows a share, 0 to 1, where somebody watches stderr."""
    start, shown = time.perf_counter(), ""

    def show(share: float) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.perf_counter() - start > _QUIET_SECONDS:
            shown = f"\r{what} {share:4.0%}"
            typer.echo(shown, nl=False, err=True)

    try:
        yield show
    finally:
        if shown:
            typer.echo("\r" + " " * (len(shown) - 1) + "\r", nl=False, err=True)
