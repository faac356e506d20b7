"""Every test that asks for `target` runs on each target that this CPU can run."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from bitnet.codegen import Target, find_target, missing_features, target_names
from bitnet.codegen.x86 import make_target

# AVX-512 machines older than VNNI take another path, which newer ones can run too.
PLAIN_AVX512 = "avx512 without vnni"


@pytest.fixture(scope="session", params=[*target_names(), PLAIN_AVX512])
def target(request: pytest.FixtureRequest) -> Target:
    name = request.param.split()[0]
    missing = missing_features(name)
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    if request.param == PLAIN_AVX512:
        return make_target(name, llvm.get_default_triple(), ())
    return find_target(name)


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "checked"])
def checked(request: pytest.FixtureRequest) -> bool:
    return request.param
