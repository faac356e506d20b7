"""The function under construction: variables, control flow, calls and scalar maths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from llvmlite import ir

from bitnet.codegen import types as t
from bitnet.codegen.value import Dim, Number, Operand, Value, make_constant

if TYPE_CHECKING:
    from bitnet.codegen.module import Module

# Adding and subtracting 1.5 * 2**23 rounds an f32 of magnitude below 2**22 to the nearest
# integer, ties to even, with nothing but IEEE additions: the same on every CPU.
ROUND_MAGIC = 12582912.0
_ROUND_MAGIC_BITS = 0x4B400000


def stack_slot(builder: ir.IRBuilder, of: t.Type) -> Value:
    """The address of stack memory for one `of`, a cache line or more."""
    with builder.goto_entry_block():
        slot = builder.alloca(of)
    slot.align = 64
    slot.type = t.ptr  # llvmlite would keep the type of what it points at
    return Value(builder, slot)


class Var:
    """A mutable variable; LLVM turns it into registers."""

    __slots__ = ("_b", "_slot", "_type")

    def __init__(self, builder: ir.IRBuilder, of: t.Type) -> None:
        self._b = builder
        self._type = of
        self._slot = stack_slot(builder, of).ir

    def get(self) -> Value:
        return Value(self._b, self._b.load(self._slot, typ=self._type))

    def set(self, value: Value) -> None:
        if value.type != self._type:
            raise TypeError(f"variable holds {self._type}, not {value.type}")
        self._b.store(value.ir, self._slot)


class Function:
    """Emits the body of one LLVM function.

    Kernels are plain Python functions that take one of these as their first argument `k` and
    write code through it; `k.module.target` is the machine they write for.
    """

    def __init__(self, module: Module, function: ir.Function) -> None:
        self.module = module
        self.function = function
        self.target = module.target
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.args = [Value(self.builder, a) for a in function.args]

    # -- constants and variables ------------------------------------------------------------

    def const(self, of: t.Type, number: Number) -> Value:
        return Value(self.builder, make_constant(of, number))

    def index(self, dim: Dim) -> Value:
        """A size or index as an i64 value."""
        if isinstance(dim, int):
            return self.const(t.i64, dim)
        return dim if dim.type == t.i64 else dim.sext(t.i64)

    def var(self, of: t.Type, initial: Value | Number = 0) -> Var:
        variable = Var(self.builder, of)
        variable.set(initial if isinstance(initial, Value) else self.const(of, initial))
        return variable

    # -- control flow -----------------------------------------------------------------------

    @contextmanager
    def loop(self, start: Dim, stop: Dim, step: int = 1) -> Iterator[Value]:
        """`for i in range(start, stop, step)`; `i` is an i64."""
        counter = self.var(t.i64, self.index(start))
        last = self.index(stop)
        with self.while_(lambda: counter.get() < last):
            i = counter.get()
            yield i
            counter.set(i + step)

    @contextmanager
    def while_(self, condition: Callable[[], Value]) -> Iterator[None]:
        """Repeat the body as long as `condition()`, evaluated before each pass, is set."""
        b = self.builder
        head = b.append_basic_block("loop")
        body = b.append_basic_block("body")
        done = b.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(condition().ir, body, done)
        b.position_at_end(body)
        yield
        b.branch(head)
        b.position_at_end(done)

    @contextmanager
    def if_(self, condition: Value) -> Iterator[None]:
        with self.builder.if_then(condition.ir):
            yield

    # -- calls ------------------------------------------------------------------------------

    def call(self, function: ir.Function, *args: Value) -> Value:
        return Value(self.builder, self.builder.call(function, [a.ir for a in args]))

    def call_pointer(self, pointer: Value, returns: t.Type, *args: Value) -> Value:
        """Call the C function at address `pointer`."""
        signature = ir.FunctionType(returns, [a.type for a in args])
        # llvmlite calls only through pointers that know the function's type.
        number = self.builder.ptrtoint(pointer.ir, t.i64)
        typed = self.builder.inttoptr(number, signature.as_pointer())
        return Value(self.builder, self.builder.call(typed, [a.ir for a in args]))

    def intrinsic(self, name: str, returns: t.Type, *args: Value) -> Value:
        """Call the LLVM intrinsic `name`, spelled in full."""
        callee = self.module.declare(name, returns, [a.type for a in args])
        return self.call(callee, *args)

    def ret(self, value: Value | None = None) -> None:
        if value is None:
            self.builder.ret_void()
        else:
            self.builder.ret(value.ir)

    # -- maths ------------------------------------------------------------------------------

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a*b + c rounded once; scalars spread over the lanes of the others."""
        count = max(t.lanes(v.type) for v in (a, b, c))
        wide = [v if t.lanes(v.type) == count else v.splat(count) for v in (a, b, c)]
        return self.target.fma(self, wide[0], wide[1], wide[2])

    def sqrt(self, x: Value) -> Value:
        return self.intrinsic(f"llvm.sqrt.{t.suffix(x.type)}", x.type, x)

    def abs(self, x: Value) -> Value:
        return self.intrinsic(f"llvm.fabs.{t.suffix(x.type)}", x.type, x)

    def max(self, a: Value, b: Operand) -> Value:
        """The larger one; `b` when either is NaN."""
        return (a > b).select(a, b)

    def min(self, a: Value, b: Operand) -> Value:
        """The smaller one; `b` when either is NaN."""
        return (a < b).select(a, b)

    def round_to_int(self, x: Value) -> Value:
        """f32 of magnitude below 2**22 to i32, ties to even."""
        return (x + ROUND_MAGIC).bitcast(t.like(x.type, t.i32)) - _ROUND_MAGIC_BITS

    def reduce(self, x: Value, how: Literal["add", "max", "or"]) -> Value:
        """All lanes of a power-of-two vector into one by the fixed tree n/2, ..., 2, 1."""
        combine = {"add": Value.__add__, "max": self.max, "or": Value.__or__}[how]
        count = t.lanes(x.type)
        while count > 1:
            count //= 2
            low, high = x.shuffle(list(range(count))), x.shuffle(list(range(count, 2 * count)))
            x = combine(low, high)
        return x

    def iota(self, of: t.Type) -> Value:
        """0, 1, 2, ... in the lanes of the integer vector type `of`."""
        return Value(self.builder, ir.Constant(of, list(range(t.lanes(of)))))

    def vector(self, of: t.Type, numbers: Sequence[int]) -> Value:
        """A constant vector of the signed integers given, `of` being the type of one."""
        return Value(self.builder, ir.Constant(t.vec(of, len(numbers)), list(numbers)))

    def bytes(self, numbers: Sequence[int]) -> Value:
        """A constant vector of the bytes 0..255 given."""
        return self.vector(t.i8, [n - (n & 128) * 2 for n in numbers])

    def concat(self, scalars: Sequence[Value]) -> Value:
        """A vector of the given scalars."""
        out = ir.Constant(t.vec(scalars[0].type, len(scalars)), ir.Undefined)
        for i, scalar in enumerate(scalars):
            out = self.builder.insert_element(out, scalar.ir, t.i32(i))
        return Value(self.builder, out)
