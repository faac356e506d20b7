"""The shapes of the published ternary models compile."""

from __future__ import annotations

import pytest

from bitnet.bench.shapes import SHAPES
from bitnet.codegen import find_target, jit
from bitnet.program import Plan
from bitnet.program.plan import choose_head
from bitnet.program.program import build_module


@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes_compile(name: str) -> None:
    spec = SHAPES[name]
    plan = Plan(spec, head_kind=choose_head(None, "f16", spec))
    image = jit.compile_object(build_module(plan, find_target()))
    assert len(image) < 2**20  # the layers are a loop, so depth costs nothing
