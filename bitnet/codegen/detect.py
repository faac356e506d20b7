"""Which targets this machine can run, and the choice of one."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import llvmlite.binding as llvm

from bitnet import config
from bitnet.codegen import arm, x86
from bitnet.codegen.target import Target
from bitnet.errors import InvalidArgumentError, UnsupportedTargetError

_VARIANTS = {"x86_64": x86.VARIANTS, "aarch64": arm.VARIANTS}
_MAKE = {"x86_64": x86.make_target, "aarch64": arm.make_target}

_AT_HWCAP, _AT_HWCAP2 = 16, 26
# Features of AArch64 CPUs, which LLVM does not tell everywhere: what the auxiliary vector of Linux
# calls each (entry, bit), what macOS does, and what IsProcessorFeaturePresent of Windows does.
_ARM_FEATURES = {
    "lse": ((_AT_HWCAP, 8), "FEAT_LSE", 34),
    "dotprod": ((_AT_HWCAP, 20), "FEAT_DotProd", 43),
    "i8mm": ((_AT_HWCAP2, 13), "FEAT_I8MM", 66),
}


def architecture() -> str:
    """LLVM's name of the architecture of this machine."""
    name = llvm.get_default_triple().split("-")[0]
    return "aarch64" if name == "arm64" else name


@cache
def host_features() -> frozenset[str]:
    """LLVM's names of the features of the CPU this runs on."""
    if architecture() == "aarch64":
        return frozenset(name for name, known in _ARM_FEATURES.items() if _arm_has(*known))
    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


def _arm_has(linux: tuple[int, int], macos: str, windows: int) -> bool:
    """Whether the operating system reports a feature; others than these three report none."""
    if sys.platform == "win32":
        return bool(ctypes.WinDLL("kernel32").IsProcessorFeaturePresent(windows))
    system = ctypes.CDLL(None)
    if sys.platform == "darwin":
        value = ctypes.c_int()
        size = ctypes.c_size_t(ctypes.sizeof(value))
        name = f"hw.optional.arm.{macos}".encode()
        status = system.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0)
        return status == 0 and value.value != 0
    getauxval = getattr(system, "getauxval", None)
    if getauxval is None:
        return False
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    entry, bit = linux
    return bool(getauxval(entry) >> bit & 1)


def useful_features() -> list[str]:
    """Those features of this CPU that some target needs or uses."""
    wanted = {f for _, needs, uses in _variants().values() for f in (*needs, *uses)}
    return sorted(wanted & host_features())


def missing_features(name: str) -> list[str]:
    """What this CPU lacks to run the target `name`; empty when it can."""
    if name == "scalar":
        return []
    if name not in _variants():
        return [family.replace("_", "-") for family, known in _VARIANTS.items() if name in known]
    return [f for f in _variants()[name][1] if f not in host_features()]


def target_names() -> list[str]:
    """The targets for CPUs of this architecture, best first."""
    return list(_variants())


def available_targets() -> list[str]:
    """The targets that this CPU runs, best first."""
    return [name for name in target_names() if not missing_features(name)]


def find_target(name: str | None = None) -> Target:
    """The target `name`, else the one in BITNET_TARGET, else the best that this CPU runs.

    Raises InvalidArgumentError for an unknown name and UnsupportedTargetError, naming the
    missing features, for one that this CPU cannot run.
    """
    name = name or config.target() or available_targets()[0]
    if not any(name in known for known in _VARIANTS.values()):
        known = ", ".join(target_names())
        raise InvalidArgumentError(f"unknown target {name!r}; the targets are {known}")
    missing = missing_features(name)
    if missing:
        raise UnsupportedTargetError(
            f"target {name} cannot run on this CPU ({llvm.get_host_cpu_name()}): "
            f"it lacks {', '.join(missing)}"
        )
    triple = llvm.get_default_triple()
    if architecture() not in _MAKE:
        return Target(name, triple, "generic")
    used = tuple(f for f in _variants()[name][2] if f in host_features())
    return _MAKE[architecture()](name, triple, used)


def _variants() -> dict[str, tuple[str, list[str], list[str]]]:
    """Those for CPUs of this architecture."""
    return _VARIANTS.get(architecture(), {"scalar": ("generic", [], [])})
