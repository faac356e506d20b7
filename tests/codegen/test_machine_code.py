"""The instructions that the hot loops are made of, as LLVM's assembly shows them."""

from __future__ import annotations

import re
from collections import Counter
from types import ModuleType

import pytest

from bitnet.codegen import Buffer, Function, Module, Target, jit
from bitnet.codegen import types as t
from bitnet.kernels import int8, q6_k, q8_0, ternary
from bitnet.kernels.hilo import Split
from bitnet.kernels.numerics import exp, f32xL

COLUMNS = 2560


def hot_loops(assembly: str) -> list[Counter[str]]:
    """The mnemonics of each basic block that jumps back to its own start."""
    parts = re.split(r"^(\.LBB\w+):", assembly, flags=re.MULTILINE)
    loops = []
    for label, block in zip(parts[1::2], parts[2::2], strict=True):
        body, jump, _ = re.split(rf"(\bj\w+\s+{re.escape(label)}\b|\Z)", block, maxsplit=1)
        if jump:
            loops.append(
                Counter(re.findall(r"^\s+(?:\{vex\}\s+)?([a-z]\w+)", body, flags=re.MULTILINE))
            )
    return loops


def dot_loops(target: Target, tokens: int) -> list[Counter[str]]:
    module = Module(target)

    def body(k: Function) -> None:
        weights = Buffer(k, k.args[0], t.i8, ternary.group_bytes(COLUMNS), "weights")
        q = Buffer(k, k.args[1], t.i8, tokens * COLUMNS, "q")
        sums = Buffer(k, k.args[2], t.i32, tokens * ternary.GROUP_ROWS, "sums")
        ternary.block_dot(k, weights, q, sums, COLUMNS, tokens)

    module.function("dot", [t.ptr] * 3, body, exported=True)
    return hot_loops(jit.optimized(module)[1])


def multiply(target: Target) -> str:
    """The instruction that a target multiplies bytes with."""
    if target.name == "scalar":
        return "pmaddwd"
    return "vpdpbusd" if {"avx512vnni", "avxvnni"} & {*target.features} else "vpmaddubsw"


def per_vector(target: Target) -> int:
    """Registers for the 64 bytes of a tile."""
    return 1 if target.name == "avx512" else 2


@pytest.mark.parametrize("one", [True, False], ids=["one token", "block"])
def test_the_ternary_loop_multiplies_bytes(target: Target, one: bool) -> None:
    loops = dot_loops(target, 1 if one else target.gemm_tokens)
    assert len(loops) == ternary.GROUP_TILES // target.gemm_tiles
    wrong = {"vpdpbusd", "vpmaddubsw", "pmaddwd"} - {multiply(target)}
    for loop in loops:
        assert loop[multiply(target)]
        assert not wrong & loop.keys()
        assert not {"call", "callq"} & loop.keys()


def test_decoding_needs_an_and_and_a_multiply_for_each_64_weights(target: Target) -> None:
    if target.name == "scalar":
        pytest.skip("plain SSE2 has to widen bytes first")
    for loop in dot_loops(target, 1):
        n = 4 * target.gemm_tiles * per_vector(target)
        assert loop[multiply(target)] == n
        assert loop["vpand"] + loop["vpandd"] + loop["vpandq"] == n
        assert not [name for name in loop if name.startswith(("vpsr", "vpsl"))]
        assert loop["vpbroadcastd"] == 4


def head_loops(target: Target, head: ModuleType) -> list[Counter[str]]:
    """The loops of a head's products with one row of activations."""
    module, form = Module(target), head.split_format(COLUMNS)

    def body(k: Function) -> None:
        tile = Buffer(k, k.args[0], t.i8, head.tile_bytes(COLUMNS), "tile")
        q = Buffer(k, k.args[1], t.i8, 2 * COLUMNS, "q")
        offsets = Buffer(k, k.args[2], t.i32, 2 * form.n_blocks, "offsets")
        out = Buffer(k, k.args[3], t.f32, 16, "out")
        scales = (out.load(0, 16),) if head is int8 else ()
        x = Split(form, q, offsets, out.part(0, 1))
        out.store(0, head.dots(k, tile, *scales, x, 1)[0])

    module.function("head", [t.ptr] * 4, body, exported=True)
    return hot_loops(jit.optimized(module)[1])


@pytest.mark.parametrize(("head", "vectors"), [(int8, 2), (q8_0, 8), (q6_k, 4)])
def test_a_head_multiplies_each_vector_of_weights_twice(
    target: Target, head: ModuleType, vectors: int
) -> None:
    """Once for each part of the activations; without VNNI, bytes above 127 twice as often."""
    if target.name == "scalar":
        pytest.skip("plain SSE2 has to widen bytes first")
    (loop,) = head_loops(target, head)
    split = multiply(target) == "vpmaddubsw" and head is not q6_k
    once = 2 * vectors * per_vector(target) * (1 + split)
    assert loop[multiply(target)] in (once, 2 * once)  # LLVM may unroll it
    assert not {"call", "callq"} & loop.keys()
    if target.name == "avx512" and head is q6_k and not split:
        assert sum(loop.values()) < 60, "unpacking must not cost more than memory"


def exp_fma(target: Target) -> tuple[str, str]:
    module = Module(target)

    def body(k: Function) -> None:
        x = Buffer(k, k.args[0], t.f32, 16, "x")
        v = x.load(0, 16)
        x.store(0, exp(k, k.fma(v, v, v * v + v)))

    assert f32xL.count == 16
    module.function("f", [t.ptr], body, exported=True)
    return jit.optimized(module)


def test_only_what_is_written_as_fma_becomes_one(target: Target) -> None:
    ir, assembly = exp_fma(target)
    assert not {"fast", "contract", "reassoc", "nnan", "nsz", "arcp", "afn"} & {*ir.split()}
    fused = len(re.findall(r"\bvfn?m(?:add|sub)\d+ps\b", assembly))
    # exp has two for the remainder, five for the polynomial, one at its end; ours is the ninth.
    assert fused == (0 if target.name == "scalar" else 9 * per_vector(target))


def test_targets_stay_within_their_registers(target: Target) -> None:
    """A target must not use instructions that the CPUs it is for may lack."""
    _, assembly = exp_fma(target)
    widest = {"scalar": "xmm", "avx2": "ymm", "avx2vnni": "ymm", "avx512": "zmm"}[target.name]
    used = {register for register in ("xmm", "ymm", "zmm") if f"%{register}" in assembly}
    assert max(used) == widest
    if target.name == "scalar":
        assert not re.search(r"^\s+v[a-z]", assembly, flags=re.MULTILINE)
