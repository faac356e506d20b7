"""What the system tells: how much memory this process has used, and whether others are busy."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bitnet.codegen.elf import Symbol
from bitnet.errors import UnsupportedOperationError
from bitnet.program.topology import available_cores

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")  # writing 5 forgets the peak
_BUSY = 0.5  # load for each core


class PeakMemory:
    """The most memory that this process has had resident, apart from what `without` covers."""

    def __init__(self) -> None:
        self._before = 0
        self._known = sys.platform == "linux"

    def read(self) -> int | None:
        """Bytes; None where the system cannot tell, or cannot forget what does not count."""
        return max(self._before, _high_water()) if self._known else None

    @contextmanager
    def without(self) -> Iterator[None]:
        """Do not count what happens inside; it must give its memory back."""
        self._before = self.read() or 0
        yield
        if self._known:
            try:
                _RESET.write_text("5")
            except OSError:
                self._known = False


def _high_water() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) * 1024 if found else 0


def busy_warning() -> str | None:
    """A sentence, when other programs seem to use this machine."""
    if not hasattr(os, "getloadavg"):
        return None
    load, cores = os.getloadavg()[0], available_cores()
    if load < _BUSY * cores:
        return None
    return (
        f"the load average of the last minute is {load:.1f} on {cores} cores: "
        "what else runs, takes part in what is measured"
    )


def write_perf_map(functions: Iterable[Symbol], folder: Path) -> Path:
    """Tell Linux's `perf` about generated functions.

    Adds to the file perf-PID.map, which perf looks for in /tmp.
    Raises UnsupportedOperationError on other systems.
    """
    if sys.platform != "linux":
        raise UnsupportedOperationError("perf maps are for Linux's perf")
    path = folder / f"perf-{os.getpid()}.map"
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{f.address:x} {f.size:x} bitnet:{f.name}\n" for f in functions)
    return path
