"""x86-64 targets: AVX-512 (VNNI and VBMI when present), AVX2 with and without VNNI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitnet.codegen import types as t
from bitnet.codegen.target import Target, i32x16
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
        return X86(name, triple, cpu, optional, accumulators=16, attention_queries=8)
    return X86(name, triple, cpu, optional, accumulators=4, attention_queries=6)


class ScalarX86(Target):
    """Baseline x86-64: generic IR, plus the instructions for spin-waits and for time."""

    def pause(self, k: Function) -> None:
        k.intrinsic("llvm.x86.sse2.pause", t.void)

    def ticks(self, k: Function) -> Value:
        return k.intrinsic("llvm.readcyclecounter", t.i64)  # the time stamp counter


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

    @property
    def _multiplies_pairs(self) -> bool:
        """Whether products come as 16-bit sums of two."""
        return not {"avx512vnni", "avxvnni"} & {*self.features}

    @property
    def partial(self) -> t.Type:
        return t.vec(t.i16, 32) if self._multiplies_pairs else i32x16

    @property
    def partial_limit(self) -> int | None:
        return (2**15 - 1) // (2 * 127) if self._multiplies_pairs else None

    def dot4_partial(self, k: Function, partial: Value, a: Value, b: Value) -> Value:
        if not self._multiplies_pairs:
            return self.dot4(k, partial, a, b)
        if self.name == "avx512":
            return partial + _pairs(k, a, b)
        return _in_halves(lambda p, *half: p + _pairs(k, *half), partial, a, b)

    def widen_partial(self, k: Function, partial: Value) -> Value:
        if not self._multiplies_pairs:
            return partial
        if self.name == "avx512":
            return _sum_pairs(k, partial)
        return _in_halves(lambda half: _sum_pairs(k, half), partial)

    @property
    def has_lookup(self) -> bool:
        return "avx512vbmi" in self.features

    def lookup(self, k: Function, table: Sequence[int], index: Value) -> Value:
        parts = [k.bytes(table[i : i + 64]) for i in range(0, len(table), 64)]

        def in_128(low: Value, high: Value) -> Value:
            name = "llvm.x86.avx512.vpermi2var.qi.512"
            return k.intrinsic(name, index.type, low, index, high)

        if len(table) == 128:
            return in_128(*parts)
        return (index < 0).select(in_128(*parts[2:]), in_128(*parts[:2]))

    @property
    def has_lookup16(self) -> bool:
        return True

    def lookup16(self, k: Function, tables: Value, index: Value) -> Value:
        if self.name == "avx512":
            return k.intrinsic("llvm.x86.avx512.pshuf.b.512", index.type, tables, index)

        def in_256(tables: Value, index: Value) -> Value:
            return k.intrinsic("llvm.x86.avx2.pshuf.b", index.type, tables, index)

        return _in_halves(in_256, tables, index)

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
    """dot4 without VNNI."""
    return acc + _sum_pairs(k, _pairs(k, a, b))


def _pairs(k: Function, a: Value, b: Value) -> Value:
    """Products of unsigned a and signed b, added in pairs to 16 bits.

    They cannot saturate: 2 * 128 * 127 = 32512.
    """
    n = t.lanes(a.type)
    name = "llvm.x86.avx512.pmaddubs.w.512" if n == 64 else "llvm.x86.avx2.pmadd.ub.sw"
    return k.intrinsic(name, t.vec(t.i16, n // 2), a, b)


def _sum_pairs(k: Function, pairs: Value) -> Value:
    """16-bit numbers added in pairs to 32 bits."""
    n = t.lanes(pairs.type)
    name = "llvm.x86.avx512.pmaddw.d.512" if n == 32 else "llvm.x86.avx2.pmadd.wd"
    return k.intrinsic(name, t.vec(t.i32, n // 2), pairs, pairs.constant(1))


def _in_halves(op: Callable[..., Value], *operands: Value) -> Value:
    """Apply a 256-bit operation to the two halves of 512-bit operands."""

    def half(v: Value, which: int) -> Value:
        n = t.lanes(v.type) // 2
        return v.shuffle(list(range(which * n, which * n + n)))

    low, high = (op(*(half(v, i) for v in operands)) for i in (0, 1))
    return low.shuffle(list(range(2 * t.lanes(low.type))), high)
