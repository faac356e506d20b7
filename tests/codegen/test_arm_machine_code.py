"""The instructions that the hot loops have on AArch64; LLVM writes them on any machine."""

from __future__ import annotations

import re

import pytest

from bitnet.codegen import Function, Module, Target, jit
from bitnet.codegen import types as t
from bitnet.codegen.arm import make_target
from bitnet.kernels import int8
from bitnet.kernels.layouts import LayoutName
from bitnet.quant.tl_config import Blocks, Cut
from tests.codegen.test_machine_code import (
    attention_loops,
    dot_loops,
    exp_fma,
    head_loops,
    lookup_loops,
    mnemonics,
    multiply,
    per_vector,
)

TRIPLE = "aarch64-unknown-linux-gnu"
DOTS = ("dotprod", "lse")
TARGETS = {
    "i8mm": make_target("dotprod", TRIPLE, (*DOTS, "i8mm")),
    "dotprod": make_target("dotprod", TRIPLE, DOTS),
    "neon": make_target("neon", TRIPLE, ()),
    "scalar": make_target("scalar", TRIPLE, ()),
}


@pytest.fixture(params=["i8mm", "dotprod", "neon"])
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


@pytest.mark.parametrize("name", ["2bit", "i2_s"])
@pytest.mark.parametrize("tokens", [1, 2])
def test_the_ternary_loops_multiply_bytes_and_spill_nothing(
    target: Target, name: LayoutName, tokens: int
) -> None:
    if name == "2bit" and target.name == "dotprod" and tokens == 2:
        pytest.skip("two tokens for two tiles are more than there are registers for")
    loops = dot_loops(target, name, tokens)
    assert loops
    for loop in loops:
        counts = mnemonics(loop)
        tiles = counts["prfm"] + counts["prfum"]
        once = 1 if target.name == "dotprod" else 2  # smlal takes eight bytes
        products = counts[multiply(target)] + counts["smlal2"]
        assert products == 4 * per_vector(target) * once * tiles * tokens
        assert counts["and"] == 4 * per_vector(target) * tiles
        assert "[sp" not in loop
        assert "bl" not in counts


def test_base_3_is_taken_apart_by_look_ups(target: Target) -> None:
    for loop in map(mnemonics, dot_loops(target, "b3", 1)):
        vectors = loop["prfm"] * per_vector(target)
        assert loop["tbl"] == 6 * vectors
        assert loop["umull"] + loop["umull2"] == 4 * vectors
        assert loop[multiply(target)] == 5 * vectors * (1 if target.name == "dotprod" else 2)


@pytest.mark.parametrize(
    ("cut", "vectors"),
    [
        (Cut("TL1", 2560, Blocks(64, 128, 32)), 1),
        (Cut("TL1", 2560, Blocks(64, 128, 64)), 1),
        (Cut("TL2", 2592, Blocks(64, 96, 32)), 2),
    ],
)
def test_64_bytes_of_indexes_need_four_look_ups(target: Target, cut: Cut, vectors: int) -> None:
    loops = [loop for loop in lookup_loops(target, cut) if loop["tbl"]]
    assert loops
    for loop in loops:
        assert loop["tbl"] == 4 * vectors * per_vector(target)
        assert not {"bl", multiply(target)} & loop.keys()


def test_a_head_multiplies_each_vector_of_weights_twice(target: Target) -> None:
    """Without i8mm also what bytes above 127 lack, once for all rows; LLVM may unroll it."""
    (loop,) = head_loops(target, int8)
    vectors = 2 * loop["prfm"]
    lacking = 0 if "i8mm" in target.features else vectors
    instruction, times = ("smull", 2) if target.name == "neon" else (multiply(target), 1)
    assert loop[instruction] + loop["smull2"] <= times * (vectors * per_vector(target) + lacking)
    assert loop[instruction] >= times * vectors * per_vector(target) // 2
    assert "bl" not in loop


@pytest.mark.parametrize("queries", [4, 6])
def test_attention_fuses_and_widens_in_registers(target: Target, queries: int) -> None:
    loops = [x for x in attention_loops(target, queries) if mnemonics(x)["fmla"] == 4 * queries]
    assert len(loops) >= 2
    for loop in loops:
        assert mnemonics(loop)["fcvtl"] == mnemonics(loop)["fcvtl2"] == 2
        assert "[sp" not in loop


@pytest.mark.parametrize("name", TARGETS)
def test_only_what_is_written_as_fma_becomes_one(name: str) -> None:
    ir, assembly = exp_fma(TARGETS[name])
    assert not {"fast", "contract", "reassoc", "nnan", "nsz", "arcp", "afn"} & {*ir.split()}
    fused = len(re.findall(r"\bf(?:mla|mls|madd|msub|nmadd|nmsub)\b", assembly))
    assert fused == (0 if name == "scalar" else 9 * 4)


@pytest.mark.parametrize("name", TARGETS)
def test_the_clock_and_the_pause_are_single_instructions(name: str) -> None:
    module = Module(TARGETS[name])

    def body(k: Function) -> None:
        k.target.pause(k)
        k.ret(k.target.ticks(k))

    module.function("f", [], body, returns=t.i64, exported=True)
    counts = mnemonics(jit.optimized(module)[1])
    assert (counts["isb"], counts["mrs"], counts["bl"]) == (1, 1, 0)


@pytest.mark.parametrize("name", ["dotprod", "neon"])
def test_targets_use_only_what_their_cpus_have(name: str) -> None:
    """Nor what LLVM may choose for the CPU whose schedule is used."""
    beyond = {"usdot", "ldapr", "crc32x", "aese"} | (
        {"sdot", "ldaddal"} if name == "neon" else set()
    )
    for layout in ("b3", "2bit", "i2_s"):
        for loop in dot_loops(TARGETS[name], layout, 1):
            assert not beyond & mnemonics(loop).keys()
