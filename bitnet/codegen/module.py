"""A module: the functions compiled together for one target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llvmlite import ir

from bitnet.codegen import types as t
from bitnet.codegen.function import Function
from bitnet.codegen.value import Value, make_constant

if TYPE_CHECKING:
    from bitnet.codegen.target import Target

VIOLATION = "bounds_violation"  # i64[2]: 1 + number of the first bad access site, its index


class Module:
    """Collects functions.

    checked: add a bounds check to every load and store.
    profiled: add clocks to the phases of a program; `phases` has their names, numbered in order.
    """

    def __init__(self, target: Target, *, checked: bool = False, profiled: bool = False) -> None:
        self.target = target
        self.checked = checked
        self.profiled = profiled
        self.sites: list[str] = []
        self.phases: list[str] = []
        self.llvm = ir.Module(name="bitnet")
        self.llvm.triple = target.triple
        if checked:
            record = ir.GlobalVariable(self.llvm, ir.ArrayType(t.i64, 2), VIOLATION)
            record.initializer = ir.Constant(record.value_type, [0, 0])
            record.type = t.ptr

    def function(
        self,
        name: str,
        args: Sequence[t.Type],
        body: Callable[[Function], None],
        *,
        returns: t.Type = t.void,
        exported: bool = False,
    ) -> ir.Function:
        """The function `name`, written by `body` the first time it is asked for."""
        if name in self.llvm.globals:
            return self.llvm.globals[name]
        function = ir.Function(self.llvm, ir.FunctionType(returns, args), name)
        function.attributes.add("nounwind")
        # Loops stay loops: a call of memset would need libc, which not every target has, and
        # sanitizers of a host would see only that of all that happens here. (llvmlite's own list
        # of attributes lacks this one.)
        set.add(function.attributes, '"no-builtins"')
        if not exported:
            function.linkage = "internal"
        k = Function(self, function)
        body(k)
        if not k.builder.block.is_terminated:
            k.ret()
        return function

    def declare(self, name: str, returns: t.Type, args: Sequence[t.Type]) -> ir.Function:
        """An intrinsic, declared once."""
        if name in self.llvm.globals:
            return self.llvm.globals[name]
        return ir.Function(self.llvm, ir.FunctionType(returns, args), name)

    def record_violation(self, k: Function, buffer: str, index: Value) -> None:
        """Note the first access outside its buffer (site 0 means none)."""
        site = f"{k.function.name}: buffer {buffer}"
        if site not in self.sites:
            self.sites.append(site)
        b = k.builder
        record = self.llvm.globals[VIOLATION]
        none_yet = b.icmp_signed("==", b.load(record, typ=t.i64), make_constant(t.i64, 0))
        with b.if_then(none_yet):
            number = make_constant(t.i64, self.sites.index(site) + 1)
            b.store(index.ir, b.gep(record, [t.i64(1)], source_etype=t.i64))
            b.store(number, record)

    def __str__(self) -> str:
        return str(self.llvm)
