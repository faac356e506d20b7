"""Progress is shown to whoever watches, and to nobody else."""

from __future__ import annotations

import io

import pytest

from bitnet.cli import progress as module
from bitnet.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress("converting") as show:
        show(0.25)
        show(0.5)
    return stderr.getvalue()


def test_a_terminal_shows_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0)
    text = shown(Terminal(), monkeypatch)
    assert "converting" in text
    assert "50%" in text
    assert text.endswith("\x1b[2K")  # it is wiped out in the end


def test_what_is_short_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "converting" not in shown(Terminal(), monkeypatch)


def test_pipes_stay_quiet_even_if_colours_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(io.StringIO(), monkeypatch) == ""
