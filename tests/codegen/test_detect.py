"""Which targets a CPU can run, and the choice of one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import pytest

from bitnet.codegen import available_targets, detect, find_target, missing_features, target_names
from bitnet.codegen.x86 import VARIANTS
from bitnet.errors import InvalidArgumentError, UnsupportedTargetError

AVX2 = VARIANTS["avx2"][1]
AVX512 = VARIANTS["avx512"][1]


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterable[object]:
    """Pretend that the CPU has just the given features."""
    monkeypatch.delenv("BITNET_TARGET", raising=False)

    def has(*features: str, triple: str = "x86_64-unknown-linux-gnu") -> None:
        monkeypatch.setattr(llvm, "get_default_triple", lambda: triple)
        monkeypatch.setattr(detect, "host_features", lambda: frozenset(features))

    return has


@pytest.mark.parametrize(
    ("features", "targets"),
    [
        ([], ["scalar"]),
        (AVX2[:-1], ["scalar"]),
        (AVX2, ["avx2", "scalar"]),
        ([*AVX2, "avxvnni"], ["avx2vnni", "avx2", "scalar"]),
        (AVX512, ["avx512", "avx2", "scalar"]),
        ([*AVX512, "avxvnni"], ["avx512", "avx2vnni", "avx2", "scalar"]),
    ],
)
def test_the_best_target_the_cpu_can_run_is_chosen(
    cpu: object, features: list[str], targets: list[str]
) -> None:
    cpu(*features)
    assert available_targets() == targets
    assert find_target().name == targets[0]


def test_vnni_and_vbmi_are_used_when_present(cpu: object) -> None:
    cpu(*AVX512)
    assert find_target("avx512").features == ()
    cpu(*AVX512, "avx512vbmi", "avx512vnni", "amx-int8")
    assert find_target("avx512").features == ("avx512vnni", "avx512vbmi")


def test_a_target_the_cpu_lacks_is_refused_by_name_of_what_is_missing(cpu: object) -> None:
    cpu(*[f for f in AVX512 if f not in ("avx512bw", "avx512vl")])
    assert missing_features("avx512") == ["avx512bw", "avx512vl"]
    with pytest.raises(
        UnsupportedTargetError, match=r"target avx512 cannot run .* it lacks avx512bw, avx512vl$"
    ):
        find_target("avx512")


def test_an_unknown_target_is_refused_with_the_list_of_known_ones(cpu: object) -> None:
    cpu(*AVX2)
    with pytest.raises(
        InvalidArgumentError,
        match="unknown target 'avx1024'; the targets are avx512, avx2vnni, avx2, scalar",
    ):
        find_target("avx1024")


def test_the_environment_overrides_the_choice_and_the_argument_both(
    cpu: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu(*AVX512)
    monkeypatch.setenv("BITNET_TARGET", "avx2")
    assert find_target().name == "avx2"
    assert find_target("scalar").name == "scalar"
    monkeypatch.setenv("BITNET_TARGET", "avx2vnni")
    with pytest.raises(UnsupportedTargetError, match="it lacks avxvnni"):
        find_target()


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "arm64-apple-darwin24.0.0"])
@pytest.mark.parametrize(
    ("features", "targets", "used"),
    [
        ([], ["neon", "scalar"], ()),
        (["dotprod"], ["neon", "scalar"], ()),
        (["dotprod", "lse"], ["dotprod", "neon", "scalar"], ("dotprod", "lse")),
        (["dotprod", "lse", "i8mm"], ["dotprod", "neon", "scalar"], ("dotprod", "lse", "i8mm")),
    ],
)
def test_arm_runs_its_own_targets(
    cpu: object, triple: str, features: list[str], targets: list[str], used: tuple[str, ...]
) -> None:
    cpu(*features, triple=triple)
    assert available_targets() == targets
    assert find_target().name == targets[0]
    assert find_target().triple == triple
    assert find_target().features == used


def test_targets_of_other_architectures_are_refused(cpu: object) -> None:
    cpu(triple="aarch64-unknown-linux-gnu")
    with pytest.raises(UnsupportedTargetError, match="it lacks x86-64"):
        find_target("avx2")
    cpu(*AVX2)
    with pytest.raises(UnsupportedTargetError, match="it lacks aarch64"):
        find_target("neon")


def test_another_architecture_runs_the_scalar_target(cpu: object) -> None:
    cpu(triple="riscv64-unknown-linux-gnu")
    assert available_targets() == ["scalar"]
    assert find_target().triple.startswith("riscv64")
    with pytest.raises(UnsupportedTargetError, match="it lacks x86-64"):
        find_target("avx2")


class Linux:
    """glibc on a CPU with some bits set in the auxiliary vector."""

    def __init__(self, entries: dict[int, int]) -> None:
        self.getauxval = partial(entries.get)  # which, unlike the method, takes new attributes


def sysctlbyname(name: bytes, value: Any, *_: Any) -> int:
    """That of macOS on a CPU with dot products, but without i8mm."""
    known = {b"hw.optional.arm.FEAT_LSE": 1, b"hw.optional.arm.FEAT_DotProd": 1}
    if name not in known:
        return -1
    value._obj.value = known[name]
    return 0


@pytest.mark.parametrize(
    ("system", "library", "features"),
    [
        ("linux", Linux({16: 1 << 8 | 1 << 20, 26: 1 << 13}), {"lse", "dotprod", "i8mm"}),
        ("linux", Linux({16: 1 << 8, 26: 1 << 20}), {"lse"}),
        ("linux", SimpleNamespace(), set()),  # not glibc
        ("darwin", SimpleNamespace(sysctlbyname=sysctlbyname), {"lse", "dotprod"}),
    ],
)
def test_the_system_is_asked_what_an_arm_cpu_has(
    monkeypatch: pytest.MonkeyPatch, system: str, library: object, features: set[str]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(llvm, "get_default_triple", lambda: "aarch64-unknown-any")
    assert detect.host_features.__wrapped__() == features


def test_windows_is_asked_what_an_arm_cpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel32 = SimpleNamespace(IsProcessorFeaturePresent=lambda number: number in (34, 43))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda _: kernel32, raising=False)
    monkeypatch.setattr(llvm, "get_default_triple", lambda: "aarch64-pc-windows-msvc")
    assert detect.host_features.__wrapped__() == {"lse", "dotprod"}


def test_this_cpu_runs_the_scalar_target_at_least() -> None:
    assert available_targets()[-1] == "scalar"
    assert {*available_targets()} <= {*target_names()}
