"""What a target must offer, and the portable version of each primitive.

A `Target` names the machine for LLVM and supplies the few primitives that generic vector IR
does not express well. The base class is itself a target: `scalar`, plain IR that LLVM lowers
for any CPU, giving the same bits as every other target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitnet.codegen import types as t
from bitnet.codegen.value import Value

if TYPE_CHECKING:
    from bitnet.codegen.function import Function

i32x16 = t.vec(t.i32, 16)
i8x64 = t.vec(t.i8, 64)


@dataclass(frozen=True)
class Target:
    """A machine to compile for.

    features: LLVM's names of the CPU features that the code may use beyond `cpu`.
    accumulators: how many i32x16 or f32x16 sums a kernel may keep in registers.
    attention_queries: how many queries share a pass over keys and values.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...] = ()
    accumulators: int = 2
    attention_queries: int = 1

    @property
    def feature_string(self) -> str:
        """The features as LLVM's target machine wants them."""
        return ",".join(f"+{feature}" for feature in self.features)

    def fma(self, k: Function, a: Value, b: Value, c: Value) -> Value:
        """f32 a*b + c rounded once, without an FMA unit.

        The product is exact in f64; the sum is rounded to odd there, which makes the final
        rounding to f32 right (Boldo and Melquiond, "Emulation of FMA and correctly rounded
        sums", 2008).
        """
        product = a.widen(t.f64) * b.widen(t.f64)
        addend = c.widen(t.f64)
        total = product + addend
        back = total - product
        error = (product - (total - back)) + (addend - back)
        bits = total.bitcast(t.like(total.type, t.i64))
        even = (bits & 1).equals(0)
        inexact = (error > 0.0) | (error < 0.0)
        away = (error > 0.0) ^ (total < 0.0)
        odd = bits + away.select(bits.constant(1), bits.constant(-1))
        return (inexact & even).select(odd, bits).bitcast(total.type).narrow(t.f32)

    @property
    def largest_code(self) -> int:
        """What the bytes `a` of `dot4` may be at most: 127 where it takes them as signed."""
        return 128

    def dot4(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        """acc[i] + sum over c of a[4i+c] * b[4i+c], modulo 2**32.

        acc i32x16; a i8x64 unsigned, at most `largest_code`; b i8x64 signed, within -127..127.
        """
        a32, b32 = a.bitcast(i32x16), b.bitcast(i32x16)
        for c in range(4):
            acc = acc + (a32.lshr(8 * c) & 255) * (b32 << (24 - 8 * c)).ashr(24)
        return acc

    # Products of codes and activations, summed up in a "partial" that may be narrower than 32
    # bits: after at most `partial_limit` / (largest code) of them it has to be widened.

    @property
    def partial(self) -> t.Type:
        """The type of partial sums."""
        return i32x16

    @property
    def partial_limit(self) -> int | None:
        """How many products with codes of at most 1 a partial can take; None is any number."""
        return None

    def dot4_partial(self, k: Function, partial: Value, a: Value, b: Value) -> Value:
        """The partial with the products of `dot4` added."""
        return self.dot4(k, partial, a, b)

    def widen_partial(self, k: Function, partial: Value) -> Value:
        """The partial as i32x16."""
        return partial

    @property
    def has_lookup(self) -> bool:
        """Whether `lookup` is there, and fast."""
        return False

    def lookup(self, k: Function, table: Sequence[int], index: Value) -> Value:
        """table[index] for each byte of `index` i8x64; table: 128 or 256 bytes.

        With 128 entries the top bit of the index is ignored.
        """
        raise NotImplementedError(f"{self.name} has no byte look-up")

    @property
    def has_lookup16(self) -> bool:
        """Whether `lookup16` is there."""
        return False

    def lookup16(self, k: Function, tables: Value, index: Value) -> Value:
        """tables[i // 16 * 16 + index[i]] for each byte i.

        tables: i8x64, four of 16 bytes; index: i8x64 of 0..15, or 128..255, which give 0.
        """
        raise NotImplementedError(f"{self.name} has no look-up in tables of 16 bytes")

    def dot4_u8(self, k: Function, acc: Value, a: Value, b: Value) -> Value:
        """`dot4` for all values 0..255 of `a`."""
        return self.dot4(k, acc, a, b)

    def f16_to_f32(self, k: Function, bits: Value) -> Value:
        """IEEE half precision, given as i16 bits, to f32; exact."""
        wide = t.like(bits.type, t.i32)
        half = bits.zext(t.i32)
        magnitude = half & 0x7FFF
        # Moving the exponent into place and multiplying by 2**112 also normalises subnormals.
        scaled = (magnitude << 13).bitcast(t.like(bits.type, t.f32)) * float(2**112)
        special = (magnitude << 13) | 0x7F800000
        value = (magnitude > 0x7BFF).select(special, scaled.bitcast(wide))
        return (value | ((half & 0x8000) << 16)).bitcast(t.like(bits.type, t.f32))

    def f32_to_f16(self, k: Function, value: Value) -> Value:
        """f32 to half precision as i16 bits, rounded to nearest even; too large becomes inf."""
        wide, real = t.like(value.type, t.i32), value.type
        bits = value.bitcast(wide)
        magnitude = bits & 0x7FFFFFFF
        normal = (magnitude - (112 << 23) + 0xFFF + ((magnitude.lshr(13)) & 1)).lshr(13)
        # Adding 0.5 leaves a subnormal half's bits, correctly rounded, at the bottom.
        subnormal = (magnitude.bitcast(real) + 0.5).bitcast(wide) - 0x3F000000
        half = (magnitude < 0x38800000).select(subnormal, normal)
        half = (magnitude >= 0x47800000).select(0x7C00, half)
        half = (magnitude > 0x7F800000).select(0x7E00, half)
        return (half | (bits.lshr(16) & 0x8000)).trunc(t.i16)

    def pause(self, k: Function) -> None:
        """Tell the core that this is a spin-wait."""

    def ticks(self, k: Function) -> Value:
        """A clock of constant rate that all cores share, as i64; for measurements."""
        return k.intrinsic("llvm.readsteadycounter", t.i64)
