"""AArch64 targets: NEON, with the dot products of ARMv8.2 or without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitnet.codegen import types as t
from bitnet.codegen.target import Target
from bitnet.codegen.value import Value

if TYPE_CHECKING:
    from bitnet.codegen.function import Function

# A CPU of ARMv8.0 whose schedule, unlike the one of "generic", leaves loops without spills. What it
# has beyond ARMv8.0, instructions for CRC and AES, LLVM does not use by itself.
_TUNED = "cortex-a72"

# Target name -> (LLVM CPU, features it needs, features it uses when the CPU has them),
# best first. ARMv8.2 has lse, atomics without loops.
VARIANTS: dict[str, tuple[str, list[str], list[str]]] = {
    "dotprod": (_TUNED, ["dotprod", "lse"], ["dotprod", "lse", "i8mm"]),
    "neon": (_TUNED, [], []),
    "scalar": ("generic", [], []),
}

_i32x4 = t.vec(t.i32, 4)
_i16x8 = t.vec(t.i16, 8)
_SYSTEM = 15  # the only kind of barrier that there is for instructions


def make_target(name: str, triple: str, optional: tuple[str, ...]) -> Target:
    """The AArch64 target `name` using the given optional features."""
    cpu = VARIANTS[name][0]
    if name == "scalar":
        return ScalarArm(name, triple, cpu)
    if name == "dotprod":
        return DotProd(name, triple, cpu, optional, accumulators=4, attention_queries=6)
    return Neon(name, triple, cpu, optional, accumulators=2, attention_queries=6)


class ScalarArm(Target):
    """Generic IR, plus the instructions for spin-waits and for time."""

    def pause(self, k: Function) -> None:
        # It takes some ten nanoseconds; `yield` takes none on most cores.
        k.intrinsic("llvm.aarch64.isb", t.void, k.const(t.i32, _SYSTEM))

    def ticks(self, k: Function) -> Value:
        return k.intrinsic("llvm.readcyclecounter", t.i64)  # the virtual counter


class VectorArm(ScalarArm):
    """What all CPUs with NEON do alike."""

    def fma(self, k: Function, a: Value, b: Value, c: Value) -> Value:
        return k.intrinsic(f"llvm.fma.{t.suffix(a.type)}", a.type, a, b, c)

    def dot4_u8(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        # a = (a - 128) + 128, and a - 128 is signed. The products with 128 are often those of a
        # broadcast b, so that LLVM computes them once for all parts.
        less = self.dot4(k, acc.constant(0), a.constant(-128), b)
        return self.dot4(k, acc - less, a ^ 128, b)

    @property
    def has_lookup16(self) -> bool:
        return True

    def lookup16(self, k: Function, tables: Value, index: Value) -> Value:
        name = "llvm.aarch64.neon.tbl1.v16i8"
        return _in_parts(lambda x, i: k.intrinsic(name, i.type, x, i), tables, index)

    def f16_to_f32(self, k: Function, bits: Value) -> Value:
        return bits.bitcast(t.like(bits.type, t.f16)).widen(t.f32)

    def f32_to_f16(self, k: Function, value: Value) -> Value:
        return value.narrow(t.f16).bitcast(t.like(value.type, t.i16))


@dataclass(frozen=True)
class Neon(VectorArm):
    """ARMv8.0. Bytes are multiplied as signed ones, so codes are at most 127."""

    @property
    def largest_code(self) -> int:
        return 127

    def dot4(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        def part(acc: Value, a: Value, b: Value) -> Value:
            low, high = (_products(k, a, b, at) for at in (0, 8))
            # Pairs cannot overflow: 2 * 128 * 127 = 32512.
            pairs = k.intrinsic("llvm.aarch64.neon.addp.v8i16", _i16x8, low, high)
            return acc + _sum_pairs(k, pairs)

        return _in_parts(part, acc, a, b)

    @property
    def partial(self) -> t.Type:
        return t.vec(t.i16, 64)

    @property
    def partial_limit(self) -> int | None:
        return (2**15 - 1) // 127

    def dot4_partial(self, k: Function, partial: Value, a: Value, b: Value) -> Value:
        """Products are added up without the others of their four: two instructions, smlal."""

        def part(partial: Value, a: Value, b: Value) -> Value:
            low, high = (_products(k, a, b, at) for at in (0, 8))
            return partial + low.shuffle(list(range(16)), high)

        return _in_parts(part, partial, a, b)

    def widen_partial(self, k: Function, partial: Value) -> Value:
        def part(partial: Value) -> Value:
            low, high = (_sum_pairs(k, partial.shuffle(list(range(at, at + 8)))) for at in (0, 8))
            return k.intrinsic("llvm.aarch64.neon.addp.v4i32", _i32x4, low, high)

        return _in_parts(part, partial)


@dataclass(frozen=True)
class DotProd(VectorArm):
    """ARMv8.2 with sdot; with i8mm, usdot takes all codes."""

    @property
    def _mixes_signs(self) -> bool:
        return "i8mm" in self.features

    @property
    def largest_code(self) -> int:
        return 255 if self._mixes_signs else 127

    def dot4(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        name = f"llvm.aarch64.neon.{'usdot' if self._mixes_signs else 'sdot'}.v4i32.v16i8"
        return _in_parts(lambda *part: k.intrinsic(name, _i32x4, *part), acc, a, b)

    def dot4_u8(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        if self._mixes_signs:
            return self.dot4(k, acc, a, b)
        return super().dot4_u8(k, acc, a, b)


def _products(k: Function, a: Value, b: Value, start: int) -> Value:
    """i16x8: the products of eight of sixteen signed bytes; smull or smull2."""
    low, high = (v.shuffle(list(range(start, start + 8))) for v in (a, b))
    return k.intrinsic("llvm.aarch64.neon.smull.v8i16", _i16x8, low, high)


def _sum_pairs(k: Function, pairs: Value) -> Value:
    """i16x8 added in pairs to i32x4."""
    return k.intrinsic("llvm.aarch64.neon.saddlp.v4i32.v8i16", _i32x4, pairs)


def _in_parts(op: Callable[..., Value], *operands: Value) -> Value:
    """Apply a 128-bit operation to the four parts of 512-bit operands."""

    def part(v: Value, which: int) -> Value:
        n = t.lanes(v.type) // 4
        return v.shuffle(list(range(which * n, which * n + n)))

    parts = [op(*(part(v, i) for v in operands)) for i in range(4)]
    while len(parts) > 1:
        lanes = list(range(2 * t.lanes(parts[0].type)))
        parts = [a.shuffle(lanes, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]
