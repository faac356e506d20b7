"""Which targets this machine can run, and the choice of one."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm

from bitnet import config
from bitnet.codegen import x86
from bitnet.codegen.target import Target
from bitnet.errors import InvalidArgumentError, UnsupportedTargetError


@cache
def host_features() -> frozenset[str]:
    """LLVM's names of the features of the CPU this runs on."""
    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


def missing_features(name: str) -> list[str]:
    """What this CPU lacks to run the target `name`; empty when it can."""
    if name == "scalar":
        return []
    if not llvm.get_default_triple().startswith("x86_64"):
        return ["x86-64"]
    return [f for f in x86.VARIANTS[name][1] if f not in host_features()]


def target_names() -> list[str]:
    """All target names, best first."""
    return list(x86.VARIANTS)


def available_targets() -> list[str]:
    """The targets that this CPU runs, best first."""
    return [name for name in target_names() if not missing_features(name)]


def find_target(name: str | None = None) -> Target:
    """The target `name`, else the one in BITNET_TARGET, else the best that this CPU runs.

    Raises InvalidArgumentError for an unknown name and UnsupportedTargetError, naming the
    missing features, for one that this CPU cannot run.
    """
    name = name or config.target() or available_targets()[0]
    if name not in x86.VARIANTS:
        known = ", ".join(target_names())
        raise InvalidArgumentError(f"unknown target {name!r}; the targets are {known}")
    missing = missing_features(name)
    if missing:
        raise UnsupportedTargetError(
            f"target {name} cannot run on this CPU ({llvm.get_host_cpu_name()}): "
            f"it lacks {', '.join(missing)}"
        )
    triple = llvm.get_default_triple()
    if not triple.startswith("x86_64"):
        return Target(name, triple, "generic")
    optional = x86.VARIANTS[name][2]
    return x86.make_target(name, triple, tuple(f for f in optional if f in host_features()))
