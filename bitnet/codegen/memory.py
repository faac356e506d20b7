"""Memory as kernels see it: bounded buffers and C structs with named fields.

In checked mode every access compares its index with the bounds of the buffer it was declared
on. A bad load gives zeros, a bad store does nothing, and the first of them is recorded; the
caller raises `BoundsError` with the kernel's and the buffer's name (`Program.check`).
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from bitnet.codegen import types as t
from bitnet.codegen.function import Function, stack_slot
from bitnet.codegen.value import Dim, Value, make_constant


class Buffer:
    """`count` elements of one scalar type at an address."""

    def __init__(
        self, k: Function, base: Value, element: t.Type, count: Dim, name: str = "buffer"
    ) -> None:
        self.k = k
        self.base = base
        self.element = element
        self.count = count
        self.name = name
        # What accesses are compared with: `count`, or 0 for a part that lies outside its whole.
        self._limit = count

    @staticmethod
    def local(k: Function, element: t.Type, count: int, name: str) -> Buffer:
        """Scratch on the stack of the running thread; not initialised."""
        return Buffer(k, stack_slot(k.builder, ir.ArrayType(element, count)), element, count, name)

    @property
    def known_count(self) -> int:
        """`count`, where the code being written depends on it."""
        if not isinstance(self.count, int):
            raise TypeError(f"the size of {self.name} must be known when the code is written")
        return self.count

    def part(self, start: Dim, count: Dim) -> Buffer:
        """The `count` elements from `start` on, as a buffer of their own."""
        part = Buffer(self.k, self._address(start), self.element, count, self.name)
        ok = self._in_bounds(start, count)
        if ok is not None:
            part._limit = ok.select(self.k.index(count), self.k.index(0))
        return part

    def at_address(self, k: Function, base: Value) -> Buffer:
        """A buffer like this one at `base`, in the code of another function."""
        return Buffer(k, base, self.element, self.known_count, self.name)

    def as_type(self, element: t.Type) -> Buffer:
        """The same bytes seen as elements of another type."""
        old, new = t.size(self.element), t.size(element)
        seen = Buffer(self.k, self.base, element, self.count * old // new, self.name)
        seen._limit = self._limit * old // new
        return seen

    def load(self, index: Dim, width: int = 1, valid: int | None = None) -> Value:
        """`width` neighbouring elements from `index` on; lanes from `valid` on are zero.

        Lanes that are not valid are not read.
        """
        if valid is not None and valid < width:
            part = self.load(index, valid)
            if valid == 1:
                zeros = make_constant(t.vec(self.element, width), 0)
                b = self.k.builder
                return Value(b, b.insert_element(zeros, part.ir, t.i32(0)))
            return part.shuffle([min(i, valid) for i in range(width)])
        vector = t.vec(self.element, width)
        b = self.k.builder
        ok = self._in_bounds(index, width)
        if ok is None:
            return Value(b, self._load(index, vector))
        before = b.block
        with b.if_then(ok.ir):
            loaded = self._load(index, vector)
            inside = b.block
        result = b.phi(vector)
        result.add_incoming(loaded, inside)
        result.add_incoming(make_constant(vector, 0), before)
        return Value(b, result)

    def store(self, index: Dim, value: Value, valid: int | None = None) -> None:
        """Write the lanes of `value` (the first `valid` of them) from `index` on."""
        if valid is not None and valid < t.lanes(value.type):
            value = value.shuffle(list(range(valid)))
        ok = self._in_bounds(index, t.lanes(value.type))
        if ok is None:
            self._store(index, value)
        else:
            with self.k.if_(ok):
                self._store(index, value)

    def __getitem__(self, index: Dim) -> Value:
        return self.load(index)

    def __setitem__(self, index: Dim, value: Value) -> None:
        self.store(index, value)

    def atomic_add(self, index: Dim, amount: Value) -> Value:
        """Add to an element as one atomic step; gives the value before."""
        self._in_bounds(index, 1)
        b = self.k.builder
        return Value(b, b.atomic_rmw("add", self._address(index).ir, amount.ir, "acq_rel"))

    def atomic_load(self, index: Dim) -> Value:
        self._in_bounds(index, 1)
        b = self.k.builder
        address = self._address(index).ir
        return Value(b, b.load_atomic(address, "acquire", t.size(self.element), typ=self.element))

    def prefetch(self, index: Dim, *, again: bool = False) -> None:
        """Ask for the cache line of an element that is read soon; it need not exist.

        again: it will be read more than once, so that caches should keep it.
        """
        k = self.k
        to_read, locality, data = (k.const(t.i32, n) for n in (0, 3 if again else 0, 1))
        address = self._address(index)
        k.intrinsic("llvm.prefetch.p0", t.void, address, to_read, locality, data)

    # -- inside -----------------------------------------------------------------------------

    def _address(self, index: Dim) -> Value:
        b = self.k.builder
        at = b.gep(self.base.ir, [self.k.index(index).ir], source_etype=self.element)
        return Value(b, at)

    def _load(self, index: Dim, vector: t.Type) -> object:
        return self.k.builder.load(self._address(index).ir, typ=vector, align=t.size(self.element))

    def _store(self, index: Dim, value: Value) -> None:
        if t.element(value.type) != self.element:
            raise TypeError(f"{self.name} holds {self.element}, not {value.type}")
        self.k.builder.store(value.ir, self._address(index).ir, align=t.size(self.element))

    def _in_bounds(self, index: Dim, width: Dim) -> Value | None:
        """In checked mode: an i1 that is set when the access is inside, else recorded."""
        if not self.k.module.checked:
            return None
        at, end = self.k.index(index), self.k.index(index) + self.k.index(width)
        limit = self.k.index(self._limit)
        ok = at.below(limit + 1) & (end <= limit)
        with self.k.builder.if_then(self.k.builder.not_(ok.ir), likely=False):
            self.k.module.record_violation(self.k, self.name, at)
        return ok


@dataclass(frozen=True)
class Struct:
    """A C struct, declared once; LLVM, C and Python all read this declaration.

    Field kinds: "i64", "f32" and "ptr". Fields are laid out as C does for the same types.
    """

    name: str
    fields: tuple[tuple[str, str], ...]

    @property
    def type(self) -> t.Type:
        return ir.LiteralStructType([getattr(t, kind) for _, kind in self.fields])

    @property
    def cdef(self) -> str:
        """The declaration in C."""
        spelling = {"i64": "int64_t ", "f32": "float ", "ptr": "void *"}
        lines = [f"    {spelling[kind]}{name};" for name, kind in self.fields]
        return "typedef struct {\n" + "\n".join(lines) + f"\n}} {self.name};\n"

    def at(self, k: Function, base: Value, index: Dim = 0) -> StructRef:
        """The struct at address `base`, or the `index`-th of an array of them there."""
        address = k.builder.gep(base.ir, [k.index(index).ir], source_etype=self.type)
        return StructRef(k, self, Value(k.builder, address))


class StructRef:
    """A struct in memory; `ref["field"]` loads a field."""

    def __init__(self, k: Function, struct: Struct, base: Value) -> None:
        self.k = k
        self.struct = struct
        self.base = base

    def __getitem__(self, field: str) -> Value:
        names = [name for name, _ in self.struct.fields]
        number = names.index(field)
        b = self.k.builder
        address = b.gep(
            self.base.ir, [t.i32(0), t.i32(number)], source_etype=self.struct.type, inbounds=True
        )
        return Value(b, b.load(address, typ=getattr(t, self.struct.fields[number][1])))

    def buffer(self, field: str, element: t.Type, count: Dim) -> Buffer:
        """The pointer field as a buffer of `count` elements."""
        return Buffer(self.k, self[field], element, count, field)
