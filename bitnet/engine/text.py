"""Stop strings in a stream of text."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text through up to the first stop string.

    Text that may turn out to be the start of a stop string is held back until it is decided.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """More text; gives what is now certain to come before any stop string."""
        self._held += text
        starts = [at for s in self._stop if (at := self._held.find(s)) >= 0]
        if starts:
            self.found = True
            out, self._held = self._held[: min(starts)], ""
            return out
        keep = self._undecided()
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        out, self._held = self._held, ""
        return out

    def _undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(s) for s in self._stop), default=1) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-n:]) for s in self._stop):
                return n
        return 0
