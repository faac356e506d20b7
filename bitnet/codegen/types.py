"""The types of the kernel language: a few scalars and fixed-width vectors of them."""

from __future__ import annotations

from llvmlite import ir
from llvmlite.ir import Type

__all__ = ["Type"]  # the rest is used as `types.f32` and so on

i1 = ir.IntType(1)
i8 = ir.IntType(8)
i16 = ir.IntType(16)
i32 = ir.IntType(32)
i64 = ir.IntType(64)
f16 = ir.HalfType()
f32 = ir.FloatType()
f64 = ir.DoubleType()
ptr = ir.PointerType()
void = ir.VoidType()

_BITS = {f16: 16, f32: 32, f64: 64, ptr: 64}


def vec(element: Type, count: int) -> Type:
    """The vector of `count` lanes of `element`; a single lane is the scalar itself."""
    return ir.VectorType(element, count) if count > 1 else element


def element(t: Type) -> Type:
    """The lane type of a vector, or the scalar itself."""
    return t.element if isinstance(t, ir.VectorType) else t


def lanes(t: Type) -> int:
    """How many lanes `t` has; 1 for a scalar."""
    return int(t.count) if isinstance(t, ir.VectorType) else 1


def like(t: Type, new_element: Type) -> Type:
    """`new_element` with as many lanes as `t`."""
    return vec(new_element, lanes(t))


def is_int(t: Type) -> bool:
    return isinstance(element(t), ir.IntType)


def bits(t: Type) -> int:
    """Width of one lane in bits."""
    e = element(t)
    return int(e.width) if isinstance(e, ir.IntType) else _BITS[e]


def size(t: Type) -> int:
    """Bytes that a value of type `t` takes in memory."""
    return bits(t) // 8 * lanes(t)


def suffix(t: Type) -> str:
    """The type's spelling in the names of LLVM's overloaded intrinsics, e.g. `v16f32`."""
    n = f"v{lanes(t)}" if lanes(t) > 1 else ""
    return n + ("i" if is_int(t) else "f") + str(bits(t))
