from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from bitnet.bench import machine
from bitnet.bench.machine import PeakMemory, busy_warning, write_perf_map
from bitnet.codegen.elf import Symbol
from bitnet.errors import UnsupportedOperationError


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_peak_memory_counts_what_is_used_but_not_what_is_left_out() -> None:
    size = 1 << 28
    memory = PeakMemory()
    with memory.without():
        np.ones(size // 8).sum()
    before = memory.read()
    if before is None:
        pytest.skip("this system does not let processes forget their peak")
    with memory.without():
        np.ones(size // 8).sum()
    assert memory.read() - before < size / 2
    np.ones(size // 8).sum()
    after = memory.read()
    assert after - before > size / 2
    with memory.without():
        pass
    assert memory.read() >= after


def test_peak_memory_is_unknown_where_the_system_cannot_forget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_RESET", tmp_path / "no" / "such")
    memory = PeakMemory()
    with memory.without():
        pass
    assert memory.read() is None


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="no load average")
def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    assert "load average of the last minute is 3.0 on 4 cores" in busy_warning()
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 9.0, 9.0))
    assert busy_warning() is None


def test_a_perf_map_has_a_line_for_each_function(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    path = write_perf_map([Symbol("f", 5, 0x7F10, 0x40)], tmp_path)
    write_perf_map([Symbol("g", 5, 0x8000, 0x8)], tmp_path)
    assert path == tmp_path / f"perf-{os.getpid()}.map"
    assert path.read_text() == "7f10 40 bitnet:f\n8000 8 bitnet:g\n"
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnsupportedOperationError, match="perf"):
        write_perf_map([], tmp_path)
