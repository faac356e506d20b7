"""Values of the kernel language: LLVM values that know Python's operators.

Integers are signed unless a method's name says otherwise, except that `//` and `%` (used on
sizes and indices) are unsigned. Python numbers and scalars are spread over vectors as needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir

from bitnet.codegen import types as t

Number: TypeAlias = "int | float"
# A size or an index: known now (a Python int) or only when the code runs.
Dim: TypeAlias = "int | Value"
Operand: TypeAlias = "Value | int | float"


class Value:
    """One SSA value, tied to the builder of the function that computes it."""

    __slots__ = ("b", "ir")

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.b = builder
        self.ir = value

    @property
    def type(self) -> t.Type:
        return self.ir.type

    # -- bringing operands to one type ------------------------------------------------------

    def constant(self, number: Number) -> Value:
        """`number` as a constant of this value's type, in every lane."""
        return Value(self.b, make_constant(self.type, number))

    def splat(self, count: int) -> Value:
        """This scalar in each of `count` lanes."""
        if count == 1:
            return self
        vector = t.vec(self.type, count)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), self.ir, t.i32(0))
        mask = ir.Constant(t.vec(t.i32, count), [0] * count)
        return Value(self.b, self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask))

    def _pair(self, other: Operand) -> tuple[Value, Value]:
        if not isinstance(other, Value):
            return self, self.constant(other)
        mine, theirs = t.lanes(self.type), t.lanes(other.type)
        if mine == theirs:
            return self, other
        return (self.splat(theirs), other) if mine == 1 else (self, other.splat(mine))

    def _apply(self, other: Operand, on_int: str, on_float: str) -> Value:
        a, b = self._pair(other)
        if a.type != b.type:
            raise TypeError(f"operands of different types: {a.type} and {b.type}")
        op: Callable[[Any, Any], Any] = getattr(self.b, on_int if t.is_int(a.type) else on_float)
        return Value(self.b, op(a.ir, b.ir))

    # -- arithmetic -------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Value:
        return self._apply(other, "add", "fadd")

    def __sub__(self, other: Operand) -> Value:
        return self._apply(other, "sub", "fsub")

    def __mul__(self, other: Operand) -> Value:
        return self._apply(other, "mul", "fmul")

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Number) -> Value:
        return self.constant(other) - self

    def __truediv__(self, other: Operand) -> Value:
        if t.is_int(self.type):
            raise TypeError("use // on integers")
        return self._apply(other, "sdiv", "fdiv")

    def __rtruediv__(self, other: Number) -> Value:
        return self.constant(other) / self

    def __floordiv__(self, other: Operand) -> Value:
        return self._apply(other, "udiv", "fdiv")

    def __mod__(self, other: Operand) -> Value:
        return self._apply(other, "urem", "frem")

    def __neg__(self) -> Value:
        return Value(self.b, (self.b.neg if t.is_int(self.type) else self.b.fneg)(self.ir))

    def __and__(self, other: Operand) -> Value:
        return self._apply(other, "and_", "and_")

    def __or__(self, other: Operand) -> Value:
        return self._apply(other, "or_", "or_")

    def __xor__(self, other: Operand) -> Value:
        return self._apply(other, "xor", "xor")

    def __lshift__(self, other: Operand) -> Value:
        return self._apply(other, "shl", "shl")

    def ashr(self, count: Operand) -> Value:
        """Shift right, copying the sign."""
        return self._apply(count, "ashr", "ashr")

    def lshr(self, count: Operand) -> Value:
        """Shift right, filling with zeros."""
        return self._apply(count, "lshr", "lshr")

    # -- comparison: i1 in every lane; NaN compares as false ---------------------------------

    def _compare(self, op: str, other: Operand) -> Value:
        a, b = self._pair(other)
        compare = self.b.icmp_signed if t.is_int(a.type) else self.b.fcmp_ordered
        return Value(self.b, compare(op, a.ir, b.ir))

    def __lt__(self, other: Operand) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare(">=", other)

    def equals(self, other: Operand) -> Value:
        return self._compare("==", other)

    def below(self, other: Operand) -> Value:
        """Unsigned `<` of integers."""
        a, b = self._pair(other)
        return Value(self.b, self.b.icmp_unsigned("<", a.ir, b.ir))

    def at_least(self, other: Operand) -> Value:
        """Unsigned `>=` of integers."""
        a, b = self._pair(other)
        return Value(self.b, self.b.icmp_unsigned(">=", a.ir, b.ir))

    def select(self, if_true: Operand, if_false: Operand) -> Value:
        """Lane by lane: where this i1 is set `if_true`, else `if_false`."""
        if isinstance(if_true, Value):
            a, b = if_true._pair(if_false)
        elif isinstance(if_false, Value):
            b, a = if_false._pair(if_true)
        else:
            raise TypeError("one side of a select must be a Value")
        return Value(self.b, self.b.select(self.ir, a.ir, b.ir))

    # -- conversion -------------------------------------------------------------------------

    def _convert(self, how: str, to: t.Type) -> Value:
        return Value(self.b, getattr(self.b, how)(self.ir, t.like(self.type, to)))

    def zext(self, to: t.Type) -> Value:
        return self._convert("zext", to)

    def sext(self, to: t.Type) -> Value:
        return self._convert("sext", to)

    def trunc(self, to: t.Type) -> Value:
        return self._convert("trunc", to)

    def to_float(self, to: t.Type = t.f32) -> Value:
        """Signed integer to float, rounded to nearest even."""
        return self._convert("sitofp", to)

    def to_int(self, to: t.Type) -> Value:
        """Float to signed integer, cut towards zero; the value must fit."""
        return self._convert("fptosi", to)

    def widen(self, to: t.Type) -> Value:
        """Float to a wider float; exact."""
        return self._convert("fpext", to)

    def narrow(self, to: t.Type) -> Value:
        """Float to a narrower float, rounded to nearest even."""
        return self._convert("fptrunc", to)

    def bitcast(self, to: t.Type) -> Value:
        """The same bits as the whole type `to` (not lane by lane)."""
        return Value(self.b, self.b.bitcast(self.ir, to))

    def to_pointer(self) -> Value:
        """An address that came in as an i64."""
        return Value(self.b, self.b.inttoptr(self.ir, t.ptr))

    # -- lanes ------------------------------------------------------------------------------

    def lane(self, index: int) -> Value:
        return Value(self.b, self.b.extract_element(self.ir, t.i32(index)))

    def shuffle(self, indices: list[int], other: Value | None = None) -> Value:
        """The lanes `indices` of this vector followed by `other` (default: zeros).

        A single lane comes out as a scalar.
        """
        if len(indices) == 1:
            return self.lane(indices[0])
        second = other.ir if other else make_constant(self.type, 0)
        mask = ir.Constant(t.vec(t.i32, len(indices)), indices)
        return Value(self.b, self.b.shuffle_vector(self.ir, second, mask))


def make_constant(of: t.Type, number: Number) -> Any:
    """An LLVM constant of type `of` with `number` in every lane."""
    scalar = _signed(int(number), t.bits(of)) if t.is_int(of) else float(number)
    return ir.Constant(of, [scalar] * t.lanes(of) if t.lanes(of) > 1 else scalar)


def _signed(number: int, bits: int) -> int:
    """`number` modulo 2**bits, as the signed number with the same bits."""
    half = 1 << (bits - 1)
    return (number + half) % (2 * half) - half if bits > 1 else number & 1
