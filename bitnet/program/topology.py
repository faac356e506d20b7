"""Which cores this process may use, and to which memory they are near."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from bitnet.errors import InvalidArgumentError, UnsupportedOperationError

NODES = Path("/sys/devices/system/node")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """How many cores this process may use: those it may run on, or less by a container's limit."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota(_QUOTA, cores)))


def _quota(path: Path, otherwise: int) -> int:
    """Linux's limit for this container: "MICROSECONDS PERIOD", or "max PERIOD" for none."""
    try:
        time, period = map(int, path.read_text().split())
        return math.ceil(time / period)
    except (OSError, ValueError, ZeroDivisionError):
        return otherwise


def nodes(root: Path = NODES) -> list[list[int]]:
    """The cores that this process may use, by the memory that they are near.

    Raises UnsupportedOperationError where the system does not tell, or pins no threads.
    """
    if not hasattr(os, "sched_setaffinity") or not root.is_dir():
        raise UnsupportedOperationError(
            "numa: this system does not tell which cores are near which memory"
        )
    usable = os.sched_getaffinity(0)
    found = []
    for folder in sorted(root.glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        cores = _core_list(folder / "cpulist") & usable
        if cores:
            found.append(sorted(cores))
    if not found:
        raise UnsupportedOperationError(f"numa: {root} names no core that this process may use")
    return found


def _core_list(path: Path) -> set[int]:
    """Numbers such as "0-3,8"."""
    text = path.read_text(encoding="ascii", errors="replace").strip()
    cores: set[int] = set()
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if match is None:
            raise UnsupportedOperationError(f"numa: {path} is no list of cores: {text[:100]!r}")
        cores.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return cores


def spread(regions: list[int], on: list[list[int]]) -> list[int]:
    """A core of its own for each thread, near the memory of its region.

    regions: of each thread; neighbouring regions go to the same of the nodes `on`, and each node
    gets about the same number of them. Raises InvalidArgumentError when there are too few cores.
    """
    n_regions = max(regions) + 1
    free = [list(cores) for cores in on]
    chosen = []
    for region in regions:
        home = region * len(on) // n_regions
        node = next((n for n in (home, *range(len(on))) if free[n]), None)
        if node is None:
            raise InvalidArgumentError(
                f"numa: {len(regions)} threads need as many cores; there are {sum(map(len, on))}"
            )
        chosen.append(free[node].pop(0))
    return chosen


def pin(core: int) -> None:
    """Let the calling thread run on this core only."""
    os.sched_setaffinity(0, {core})
