"""Every test that asks for `target` runs on each target that this CPU can run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitnet.codegen import Target, find_target, missing_features, target_names

# CPUs without some features take other paths, which those that have them can run too.
LESS = {"avx512": ("vnni", ()), "dotprod": ("i8mm", ("dotprod", "lse"))}
LESSER = {f"{name} without {what}": features for name, (what, features) in LESS.items()}


@pytest.fixture(
    scope="session",
    params=[*target_names(), *(x for x in LESSER if x.split()[0] in target_names())],
)
def target(request: pytest.FixtureRequest) -> Target:
    name = request.param.split()[0]
    missing = missing_features(name)
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    found = find_target(name)
    return replace(found, features=LESSER[request.param]) if request.param in LESSER else found


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "checked"])
def checked(request: pytest.FixtureRequest) -> bool:
    return request.param
