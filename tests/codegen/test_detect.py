"""Which targets a CPU can run, and the choice of one."""

from __future__ import annotations

from collections.abc import Iterable

import llvmlite.binding as llvm
import pytest

from bitnet.codegen import available_targets, detect, find_target, missing_features, target_names
from bitnet.codegen.x86 import VARIANTS
from bitnet.errors import InvalidArgumentError, UnsupportedTargetError

AVX2 = VARIANTS["avx2"][1]
AVX512 = VARIANTS["avx512"][1]

pytestmark = pytest.mark.skipif(
    not llvm.get_default_triple().startswith("x86_64"), reason="these are the x86-64 targets"
)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterable[object]:
    """Pretend that the CPU has just the given features."""
    monkeypatch.delenv("BITNET_TARGET", raising=False)

    def has(*features: str) -> None:
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


def test_another_architecture_runs_the_scalar_target(
    cpu: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu("neon")
    monkeypatch.setattr(llvm, "get_default_triple", lambda: "aarch64-unknown-linux-gnu")
    assert available_targets() == ["scalar"]
    assert find_target().triple.startswith("aarch64")
    with pytest.raises(UnsupportedTargetError, match="it lacks x86-64"):
        find_target("avx2")


def test_this_cpu_runs_the_scalar_target_at_least() -> None:
    assert available_targets()[-1] == "scalar"
    assert {*available_targets()} <= {*target_names()}
