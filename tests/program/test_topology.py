"""Cores and memory nodes, read from a made-up machine."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from bitnet import InvalidArgumentError, UnsupportedOperationError
from bitnet.program import topology
from bitnet.program.team import regions_of
from bitnet.program.topology import available_cores, nodes, spread


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two nodes of four cores, and one with memory only; this process may not use core 5."""
    for name, cores in (("node0", "0-1,8-9"), ("node1", "4-7"), ("node10", ""), ("node2x", "3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(cores + "\n")
    usable = {0, 1, 4, 6, 7, 8, 9}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: usable, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    return tmp_path


def test_nodes_have_the_cores_that_this_process_may_use(machine: Path) -> None:
    assert nodes(machine) == [[0, 1, 8, 9], [4, 6, 7]]


@pytest.mark.parametrize("text", ["0-", "a", "1-2-3", "-1", "0-9999999", "\xff", "4;7"])
def test_a_list_that_is_none_is_refused(machine: Path, text: str) -> None:
    (machine / "node1" / "cpulist").write_text(text, encoding="latin-1")
    with pytest.raises(UnsupportedOperationError, match="cpulist"):
        nodes(machine)


def test_a_long_list_of_cores_that_are_not_there_takes_no_time(machine: Path) -> None:
    (machine / "node1" / "cpulist").write_text(",".join(["5-999999"] * 5000))
    assert nodes(machine) == [[0, 1, 8, 9], [6, 7]]


def test_a_node_without_its_list_is_told_of(machine: Path) -> None:
    (machine / "node1" / "cpulist").unlink()
    with pytest.raises(UnsupportedOperationError, match=r"cannot read .*node1.*cpulist"):
        nodes(machine)


def test_hardware_threads_of_one_core_do_not_come_one_after_the_other(machine: Path) -> None:
    root = machine / "node"
    root.mkdir()
    (machine / "node0").rename(root / "node0")
    for core, siblings in ((0, "0-1"), (1, "0-1"), (8, "8,9"), (9, "8,9")):
        topology_folder = machine / f"cpu/cpu{core}/topology"
        topology_folder.mkdir(parents=True)
        (topology_folder / "thread_siblings_list").write_text(siblings)
    assert nodes(root) == [[0, 8, 1, 9]]


def test_a_system_that_tells_no_nodes_is_told_of(machine: Path) -> None:
    with pytest.raises(UnsupportedOperationError, match="numa"):
        nodes(machine / "nowhere")
    (machine / "empty").mkdir()
    with pytest.raises(UnsupportedOperationError, match="no core"):
        nodes(machine / "empty")


def test_a_system_that_pins_no_threads_is_told_of(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(UnsupportedOperationError, match="numa"):
        nodes(machine)


def test_threads_of_neighbouring_regions_share_a_node() -> None:
    two = [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert spread([0, 1, 2, 3], two) == [0, 1, 4, 5]
    assert spread([0, 1, 2, 3, 0, 1, 2, 3], two) == [0, 1, 4, 5, 2, 3, 6, 7]
    assert spread([0], two) == [0]


@pytest.mark.parametrize("n_nodes", [1, 2, 3, 4, 6, 8, 12])
def test_threads_and_regions_are_shared_out_evenly(n_nodes: int) -> None:
    on = [list(range(8 * i, 8 * i + 8)) for i in range(n_nodes)]
    threads = 4 * n_nodes
    n_regions = regions_of(threads, n_nodes)
    chosen = spread([thread % n_regions for thread in range(threads)], on)
    assert Counter(core // 8 for core in chosen) == dict.fromkeys(range(n_nodes), 4)
    homes = {thread % n_regions: core // 8 for thread, core in enumerate(chosen)}
    assert set(Counter(homes.values()).values()) == {n_regions // n_nodes}
    assert [homes[region] for region in range(n_regions)] == sorted(homes.values())


def test_a_full_node_lends_none_and_the_others_help_out() -> None:
    assert spread([0, 1, 2], [[0], [4, 5]]) == [0, 4, 5]
    with pytest.raises(InvalidArgumentError, match="3 threads"):
        spread([0, 1, 2], [[0], [4]])


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 7), ("150000 100000", 2), ("50000 100000", 1), ("1 0", 7), ("", 7)],
)
def test_a_container_s_limit_counts(
    machine: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    path = machine / "cpu.max"
    path.write_text(quota)
    monkeypatch.setattr(topology, "_QUOTA", path)
    assert available_cores() == cores
