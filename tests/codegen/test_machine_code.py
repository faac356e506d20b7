"""The instructions that the hot loops have on x86-64; LLVM writes them on any machine."""

from __future__ import annotations

import re
from collections import Counter
from types import ModuleType

import pytest

from bitnet.codegen import Buffer, Function, Module, Target, Value, jit
from bitnet.codegen import types as t
from bitnet.codegen.x86 import VARIANTS, make_target
from bitnet.kernels import int8, q6_k, q8_0, ternary, ternary_rows
from bitnet.kernels.attention import attend_span
from bitnet.kernels.hilo import Split
from bitnet.kernels.kv_cache import Cached, KVLayout
from bitnet.kernels.layouts import LAYOUTS, InPlace, LayoutName, TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.numerics import exp, f32xL
from bitnet.kernels.span_merge import partial_size
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, unit_block
from bitnet.quant.tl_config import Blocks, Cut

COLUMNS = 2560
JUMPS = r"(?:j\w+|b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,\s*#\d+,)"


@pytest.fixture(params=[*VARIANTS, "avx512 without vnni"])
def target(request: pytest.FixtureRequest) -> Target:
    name, *less = request.param.split()
    return make_target(name, "x86_64-unknown-linux-gnu", () if less else (*VARIANTS[name][2],))


def loop_bodies(assembly: str) -> list[str]:
    """Each basic block that jumps back to its own start."""
    parts = re.split(r"^(\.LBB\w+):", assembly, flags=re.MULTILINE)
    loops = []
    for label, block in zip(parts[1::2], parts[2::2], strict=True):
        end = rf"(\b{JUMPS}\s*{re.escape(label)}\b|\Z)"
        body, jump, _ = re.split(end, block, maxsplit=1)
        if jump:
            loops.append(body)
    return loops


def mnemonics(body: str) -> Counter[str]:
    return Counter(re.findall(r"^\s+(?:\{vex\}\s+)?([a-z]\w+)", body, flags=re.MULTILINE))


def hot_loops(assembly: str) -> list[Counter[str]]:
    """The mnemonics of each loop."""
    return [mnemonics(body) for body in loop_bodies(assembly)]


def dot_loops(target: Target, name: LayoutName, tokens: int) -> list[str]:
    """The loops in which weights are multiplied."""
    module, layout = Module(target), LAYOUTS[name]

    def body(k: Function) -> None:
        q = Buffer(k, k.args[1], t.i8, tokens * layout.q_width(COLUMNS), "q")
        sums = Buffer(k, k.args[2], t.i32, tokens * ternary.BLOCK_ROWS, "sums")
        if isinstance(layout, TiledLayout):
            size = layout.packed_bytes(ternary.BLOCK_ROWS, COLUMNS)
            weights = Buffer(k, k.args[0], t.i8, size, "weights")
            ternary.tiled_dot(k, layout, weights, q, sums, COLUMNS, tokens)
        elif isinstance(layout, InPlace):
            strips = Buffer(k, k.args[0], t.i64, 4, "strips")
            ternary_rows.rows_dot(k, layout, strips, q, sums, COLUMNS, tokens)

    module.function("dot", [t.ptr] * 3, body, exported=True)
    loops = loop_bodies(jit.optimized(module)[1])
    return [loop for loop in loops if mnemonics(loop)[multiply(target)]]


def multiply(target: Target) -> str:
    """The instruction that a target multiplies bytes with."""
    if target.triple.startswith("aarch64"):
        dots = "usdot" if "i8mm" in target.features else "sdot"
        return {"dotprod": dots, "neon": "smlal", "scalar": "mla"}[target.name]
    if target.name == "scalar":
        return "pmaddwd"
    return "vpdpbusd" if {"avx512vnni", "avxvnni"} & {*target.features} else "vpmaddubsw"


def per_vector(target: Target) -> int:
    """Registers for the 64 bytes of a tile."""
    if target.triple.startswith("aarch64"):
        return 4
    return 1 if target.name == "avx512" else 2


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_the_ternary_loops_multiply_bytes(target: Target, name: LayoutName, tokens: int) -> None:
    loops = dot_loops(target, name, min(tokens, target.accumulators))
    wrong = {"vpdpbusd", "vpmaddubsw", "pmaddwd"} - {multiply(target)}
    assert loops
    for loop in loops:
        assert not wrong & mnemonics(loop).keys()
        assert not {"call", "callq"} & mnemonics(loop).keys()


@pytest.mark.parametrize("name", LAYOUTS)
def test_decoding_keeps_its_sums_in_registers(target: Target, name: LayoutName) -> None:
    """Nothing is spilled to the stack, and weights are asked for ahead of their use."""
    if target.name == "scalar":
        pytest.skip("plain SSE2 has too few registers, and has to widen bytes first")
    if name == "b3" and not target.has_lookup:
        pytest.skip("taking b3 apart without large look-ups needs more registers than there are")
    for loop in dot_loops(target, name, 1):
        assert "(%rsp" not in loop
        assert "(%rbp" not in loop
        assert "prefetchnta" in loop


@pytest.mark.parametrize("name", ["2bit", "i2_s"])
def test_decoding_needs_an_and_and_a_multiply_for_each_64_weights(
    target: Target, name: LayoutName
) -> None:
    if target.name == "scalar":
        pytest.skip("plain SSE2 has to widen bytes first")
    for loop in map(mnemonics, dot_loops(target, name, 1)):
        vectors = loop["prefetchnta"] * per_vector(target)
        assert loop[multiply(target)] == 4 * vectors
        assert loop["vpand"] + loop["vpandd"] + loop["vpandq"] == 4 * vectors
        shifts = sum(n for op, n in loop.items() if op.startswith(("vpsr", "vpsl")))
        # Without many registers, the upper half of each byte is moved down once.
        many = target.accumulators == 16 and target.partial_limit is None
        assert shifts <= 1 if many else vectors <= shifts <= vectors + 1


def test_decoding_base_3_needs_three_look_ups_and_five_multiplies(target: Target) -> None:
    if not target.has_lookup:
        pytest.skip(f"{target.name} has no look-up of bytes")
    for loop in map(mnemonics, dot_loops(target, "b3", 1)):
        tiles = loop["prefetchnta"]
        assert loop["vpermi2b"] + loop["vpermt2b"] == 3 * tiles
        assert loop[multiply(target)] == 5 * tiles
        assert sum(loop.values()) <= 25 * tiles


def test_decoding_base_3_without_large_look_ups_divides_by_9(target: Target) -> None:
    if target.has_lookup or not target.has_lookup16:
        pytest.skip(f"{target.name} has other look-ups of bytes")
    for loop in map(mnemonics, dot_loops(target, "b3", 1)):
        vectors = loop["prefetchnta"] * per_vector(target)
        assert loop["vpshufb"] == 6 * vectors
        assert loop["vpmulhuw"] + loop["vpmulhw"] == 2 * vectors
        assert loop["vpminub"] == 2 * vectors
        assert loop[multiply(target)] == 5 * vectors


@pytest.mark.parametrize(
    ("cut", "vectors"),
    [
        (Cut("TL1", 2560, Blocks(64, 128, 32)), 1),
        (Cut("TL1", 2560, Blocks(64, 128, 64)), 1),
        (Cut("TL2", 2592, Blocks(64, 96, 32)), 2),
    ],
)
def test_64_bytes_of_indexes_need_four_look_ups(target: Target, cut: Cut, vectors: int) -> None:
    if not target.has_lookup16:
        pytest.skip(f"{target.name} has no look-up in tables of 16 bytes")
    again = "prefetcht0" if cut.blocks.bmm == 64 else "prefetchnta"  # lines are read twice, or once
    loops = [loop for loop in lookup_loops(target, cut) if loop[again]]
    assert loops
    for loop in loops:
        assert loop["vpshufb"] == 4 * vectors * per_vector(target)
        assert not {"call", "callq", multiply(target)} & loop.keys()


def lookup_loops(target: Target, cut: Cut) -> list[Counter[str]]:
    """The loops of a token's products with 64 rows of TL1 or TL2."""
    module, layout = Module(target), LookUp(cut.name, (cut,))

    def body(k: Function) -> None:
        units = Buffer(k, k.args[0], t.i64, 2 * UNIT_FIELDS, "units")
        q = Buffer(k, k.args[1], t.i8, layout.q_width(cut.columns), "q")
        sums = Buffer(k, k.args[2], t.i32, ternary.BLOCK_ROWS, "sums")

        def use(_: Value, dots: list[Value]) -> None:
            for i, dot in enumerate(dots):
                sums.store(i * t.lanes(dot.type), dot)

        unit_block(k, layout, units, q, cut.columns, 16, 1, use)

    module.function("dot", [t.ptr] * 3, body, exported=True)
    return hot_loops(jit.optimized(module)[1])


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


def attention_loops(target: Target, queries: int) -> list[str]:
    """The loops of attention over a block of keys or values."""
    module = Module(target)
    kv = KVLayout(n_kv_heads=5, head_dim=128, page_size=64, kind="f16")

    def body(k: Function) -> None:
        pages, layer, head, start, *rows = k.args
        counts = (queries * kv.head_dim, queries, queries * partial_size(kv))
        q, seen, out = (
            Buffer(k, row, element, count)
            for row, element, count in zip(rows, (t.f32, t.i64, t.f32), counts, strict=True)
        )
        cached = Cached(kv, Buffer(k, pages, t.i64, 64), 30, layer)
        after = cached.page(start)[0].part(kv.keys_start(head, 0), 0)
        attend_span(k, cached, head, start, q, seen, out, after)

    module.function("attention", [t.ptr] + [t.i64] * 3 + [t.ptr] * 3, body, exported=True)
    bodies = loop_bodies(jit.optimized(module)[1])
    # The loop for the last few positions, which not all queries see, looks up their pages itself.
    widens = re.compile(r"\bvcvtph2ps\b.*\bvfmadd|\bfcvtl\b.*\bfmla\b", re.DOTALL)
    return [b for b in bodies if widens.search(b) and not re.search(r"\t(?:shr|udiv)", b)]


@pytest.mark.parametrize("queries", [1, 4, 6])
def test_attention_multiplies_without_spills(target: Target, queries: int) -> None:
    if target.name == "scalar":
        pytest.skip("plain SSE2 has no FMA")
    loops = attention_loops(target, queries)
    assert len(loops) >= 2
    for loop in loops:
        sums = re.findall(r"^\s+vfmadd\d+ps.*, (%[yz]mm\d+)$", loop, flags=re.MULTILINE)
        assert len(set(sums)) >= 2 * queries
        assert not re.search(r"^\s+v?mov\w+\s.*\)$", loop, flags=re.MULTILINE), "a store"
        assert "(%rsp)" not in loop, "a load of something spilled"
        assert "prefetcht0" in loop
        assert not {"call", "callq"} & mnemonics(loop).keys()


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
