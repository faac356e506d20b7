"""How far something long has come, on a line of the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_QUIET_SECONDS = 0.5  # what takes longer shows its progress


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """Give a function that shows a share, 0 to 1, where somebody watches stderr."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # takes a while, and pipes need none of it
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (f"{what}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=1, visible=False)
        start = time.perf_counter()

        def show(share: float) -> None:
            visible = time.perf_counter() - start > _QUIET_SECONDS
            bars.update(task, completed=share, visible=visible)

        yield show
