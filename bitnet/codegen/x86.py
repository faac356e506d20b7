"""x86-64 targets: AVX-512 (VNNI and VBMI when present), AVX2 with and without VNNI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitnet.codegen import types as t
from bitnet.codegen.target import Target
from bitnet.codegen.value import Value

if TYPE_CHECKING:
    from bitnet.codegen.function import Function

# What the x86-64 psABI levels v3 and v4 promise beyond the baseline, in LLVM's names.
_V2 = ["cx16", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"]
_V3 = [*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"]
_V4 = [*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]

# Target name -> (LLVM CPU, features it needs, features it uses when the CPU has them),
# best first.
VARIANTS: dict[str, tuple[str, list[str], list[str]]] = {
    "avx512": ("x86-64-v4", _V4, ["avx512vnni", "avx512vbmi"]),
    "avx2vnni": ("x86-64-v3", [*_V3, "avxvnni"], ["avxvnni"]),
    "avx2": ("x86-64-v3", _V3, []),
    "scalar": ("x86-64", [], []),
}


def make_target(name: str, triple: str, optional: tuple[str, ...]) -> Target:
    """The x86-64 target `name` using the given optional features."""
    cpu = VARIANTS[name][0]
    if name == "scalar":
        return ScalarX86(name, triple, cpu)
    if name == "avx512":
        return X86(name, triple, cpu, optional, gemm_tiles=4, gemm_tokens=4)
    return X86(name, triple, cpu, optional, gemm_tiles=1, gemm_tokens=4)


class ScalarX86(Target):
    """Baseline x86-64: generic IR, plus the instruction that marks a spin-wait."""

    def pause(self, k: Function) -> None:
        k.intrinsic("llvm.x86.sse2.pause", t.void)


@dataclass(frozen=True)
class X86(ScalarX86):
    """AVX2 and AVX-512."""

    def fma(self, k: Function, a: Value, b: Value, c: Value) -> Value:
        return k.intrinsic(f"llvm.fma.{t.suffix(a.type)}", a.type, a, b, c)

    def dot4(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        if "avx512vnni" in self.features:
            return _vpdpbusd(k, 512, acc, a, b)
        if "avxvnni" in self.features:
            return _in_halves(lambda *half: _vpdpbusd(k, 256, *half), acc, a, b)
        if self.name == "avx512":
            return _multiply_add(k, acc, a, b)
        return _in_halves(lambda *half: _multiply_add(k, *half), acc, a, b)

    def dot4_u8(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        if {"avx512vnni", "avxvnni"} & {*self.features}:
            return self.dot4(k, acc, a, b)
        return self.dot4(k, self.dot4(k, acc, a & 127, b), a & 128, b)

    def f16_to_f32(self, k: Function, bits: Value) -> Value:
        return bits.bitcast(t.like(bits.type, t.f16)).widen(t.f32)

    def f32_to_f16(self, k: Function, value: Value) -> Value:
        return value.narrow(t.f16).bitcast(t.like(value.type, t.i16))


def _vpdpbusd(k: Function, width: int, acc: Value, a: Value, b: Value) -> Value:
    return k.intrinsic(f"llvm.x86.avx512.vpdpbusd.{width}", acc.type, acc, a, b)


def _multiply_add(k: Function, acc: Value, a: Value, b: Value) -> Value:
    """dot4 without VNNI. The 16-bit step cannot saturate: 2 * 128 * 127 = 32512."""
    n = t.lanes(a.type)
    pairs_type, sums_type = t.vec(t.i16, n // 2), t.vec(t.i32, n // 4)
    if n == 64:
        pairs = k.intrinsic("llvm.x86.avx512.pmaddubs.w.512", pairs_type, a, b)
        ones = k.const(pairs_type, 1)
        return acc + k.intrinsic("llvm.x86.avx512.pmaddw.d.512", sums_type, pairs, ones)
    pairs = k.intrinsic("llvm.x86.avx2.pmadd.ub.sw", pairs_type, a, b)
    ones = k.const(pairs_type, 1)
    return acc + k.intrinsic("llvm.x86.avx2.pmadd.wd", sums_type, pairs, ones)


def _in_halves(op: Callable[..., Value], acc: Value, a: Value, b: Value) -> Value:
    """Apply a 256-bit operation to the two halves of 512-bit operands."""

    def half(v: Value, which: int) -> Value:
        n = t.lanes(v.type) // 2
        return v.shuffle(list(range(which * n, which * n + n)))

    low, high = (op(half(acc, i), half(a, i), half(b, i)) for i in (0, 1))
    return low.shuffle(list(range(16)), high)
