"""Which cores this process may use, and to which memory they are near."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from bitnet.errors import InvalidArgumentError, UnsupportedOperationError

NODES = Path("/sys/devices/system/node")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LONGEST_LIST = 1 << 16  # characters


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

    Of hardware threads that share a core, all but one come last. Raises UnsupportedOperationError
    where the system does not tell, tells nonsense, or pins no threads.
    """
    if not hasattr(os, "sched_setaffinity") or not root.is_dir():
        raise UnsupportedOperationError(
            "numa: this system does not tell which cores are near which memory"
        )
    left = os.sched_getaffinity(0)
    found = []
    folders = [path for path in root.glob("node*") if path.name[4:].isdecimal()]
    for folder in sorted(folders, key=lambda path: int(path.name[4:])):
        cores = _listed(folder / "cpulist", left)
        left -= cores
        if cores:  # a node may have memory only
            found.append(sorted(cores, key=lambda core: (_siblings_before(core, root), core)))
    if not found:
        raise UnsupportedOperationError(f"numa: {root} names no core that this process may use")
    return found


def _siblings_before(core: int, root: Path) -> int:
    """How many hardware threads of the same core have a lower number."""
    path = root.parent / f"cpu/cpu{core}/topology/thread_siblings_list"
    return len(_listed(path, set(range(core)))) if path.is_file() else 0


def _listed(path: Path, cores: set[int]) -> set[int]:
    """Those of `cores` that a file lists, in the way of "0-3,8"."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(_LONGEST_LIST).strip()
    except OSError as error:
        raise UnsupportedOperationError(f"numa: cannot read {path}: {error.strerror}") from error
    listed: set[int] = set()
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if match is None:
            raise UnsupportedOperationError(f"numa: {path} is no list of cores: {text[:100]!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        listed |= {core for core in cores if first <= core <= last}
    return listed


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
    """Let the calling thread run on this core only. Raises UnsupportedOperationError."""
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        raise UnsupportedOperationError(
            f"numa: cannot pin a thread to core {core}: {error.strerror}"
        ) from error
