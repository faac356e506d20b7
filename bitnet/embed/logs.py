"""Log messages of this package, on their way to a C program."""

from __future__ import annotations

import logging
from collections.abc import Callable

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)  # as in bitnet_ext.h


class LogHandler(logging.Handler):
    """Hands messages to `report`, which takes a level of bitnet_ext.h and a line of UTF-8.

    Where there is no C program to take them it keeps Python from writing them to stderr.
    """

    def __init__(self, report: Callable[[int, bytes], None]) -> None:
        super().__init__()
        self._report = report
        self._logger = logging.getLogger("bitnet")
        self._before = self._logger.level
        self._logger.addHandler(self)

    def want(self, level: int) -> None:
        """Messages up to this level of bitnet_ext.h are wanted; -1 is none."""
        self._logger.setLevel(self._before if level < 0 else _LEVELS[level])

    def emit(self, record: logging.LogRecord) -> None:
        level = next((i for i, least in enumerate(_LEVELS) if record.levelno >= least), 3)
        line = " ".join(record.getMessage().replace("\0", "\\0").splitlines())
        self._report(level, line.encode("utf-8", "backslashreplace"))
