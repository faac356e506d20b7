"""Weights on two memory nodes: a made-up machine that has one core of this one on each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bitnet.codegen import find_target
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.program import topology
from bitnet.program.memory import allocate_pages
from bitnet.program.step import Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import (
    ALIGNED,
    MAX_TOKENS,
    N_POSITIONS,
    all_logits,
    program,
    prompt,
    reference,
)
from tests.program.test_workers import needs_pinning

SMAPS = Path("/proc/self/smaps")
has_huge_pages = Path("/sys/kernel/mm/transparent_hugepage").is_dir() and SMAPS.is_file()
PLAN = ALIGNED.plan("b3")


class Touched(np.ndarray):
    """Memory that remembers who wrote where before anything was packed: (core, start, stop)."""

    first: list[tuple[int, int, int]]

    def __array_finalize__(self, source: Any) -> None:
        self.first = getattr(source, "first", [])

    def __setitem__(self, key: Any, value: Any) -> None:
        (core,) = os.sched_getaffinity(0)
        offset = self.ctypes.data
        self.first.append((core, offset + key.start, offset + key.stop))
        super().__setitem__(key, value)


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The core of each of two nodes."""
    usable = sorted(os.sched_getaffinity(0))[:2]
    if len(usable) < 2:
        pytest.skip("this process may use a single core")
    for number, core in enumerate(usable):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{core}\n")
    found = topology.nodes(tmp_path)
    assert found == [[core] for core in usable]
    monkeypatch.setattr(topology, "nodes", lambda: found)
    return usable


def flags(memory: npt.NDArray[Any]) -> list[str]:
    """What the kernel was told about a mapping."""
    inside = False
    for line in SMAPS.read_text().splitlines():
        if limits := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(limits[1], 16) <= memory.ctypes.data < int(limits[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError("the memory is not mapped")


@needs_pinning
def test_each_region_of_each_matrix_is_first_touched_on_its_node(
    cores: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = np.zeros(PLAN.ternary_bytes, np.uint8).view(Touched)
    monkeypatch.setattr("bitnet.program.ternary_weights.allocate_pages", lambda _, **__: memory)
    workers = Workers(2, numa=True)
    compiled = program(ALIGNED, find_target(), layout="b3")
    weights = Weights(compiled, ALIGNED.tensors, N_POSITIONS, workers)

    expected, start = [], memory.ctypes.data
    for _ in range(PLAN.spec.n_layers):
        for rows, columns in PLAN.matrices().values():
            size = PLAN.tiled.packed_bytes(BLOCK_ROWS, columns)
            blocks = rows // BLOCK_ROWS
            for region, core in enumerate(cores):
                first, last = (blocks * (region + i) * size // 2 for i in (0, 1))
                expected.append((core, start + first, start + last))
            start += blocks * size
    assert sorted(memory.first) == sorted(expected)

    steps = Stepper(compiled, weights, workers, MAX_TOKENS)
    assert_same_bits(all_logits(steps, prompt()[:9], 9), reference(ALIGNED)[:9].copy())


@needs_pinning
@pytest.mark.skipif(not has_huge_pages, reason="this system has no huge pages")
def test_memory_of_several_regions_is_not_in_huge_pages() -> None:
    """A huge page is on one node as a whole, and a matrix may be smaller than that."""
    assert "hg" in flags(allocate_pages(1 << 22))
    for workers in (Workers(1), Workers(1, numa=True)):
        compiled = program(ALIGNED, find_target(), layout="b3")
        weights = Weights(compiled, ALIGNED.tensors, N_POSITIONS, workers)
        assert weights._packer is not None
        assert ("nh" in flags(weights._packer._memory)) == workers.numa
    assert "nh" in flags(workers.near(np.zeros(1 << 22, np.uint8)))
    workers.close()
