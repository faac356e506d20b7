from __future__ import annotations

import ctypes
import sys

import pytest

from bitnet.codegen import Function, Module, find_target, jit
from bitnet.codegen import types as t
from bitnet.codegen.elf import function_symbols, loaded_functions
from bitnet.errors import UnsupportedOperationError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="object files are ELF on Linux")


def three_functions() -> Module:
    """`inner` is internal, and too large for LLVM to make it a part of the others."""
    module = Module(find_target())

    def inner(k: Function) -> None:
        x = k.var(t.i64, k.args[0])
        with k.loop(0, k.args[0]):
            for n in range(3, 60):
                x.set((x.get() * n) ^ x.get().lshr(7))
        k.ret(x.get())

    def outer(k: Function) -> None:
        function = module.function("inner", [t.i64], inner, returns=t.i64)
        k.ret(k.call(function, k.args[0]) + k.call(function, k.args[0] + 1))

    for name in ("first", "second"):
        module.function(name, [t.i64], outer, returns=t.i64, exported=True)
    return module


def test_functions_have_their_addresses_in_memory() -> None:
    library = jit.load(three_functions(), ["first", "second"])
    functions = {f.name: f for f in loaded_functions(library, "second")}
    assert functions.keys() == {"first", "second", "inner"}
    for name in ("first", "second"):
        assert functions[name].address == library.address(name)
        assert functions[name].size > 0
    # The internal one is where it is said to be, too.
    inner, first = (
        ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(functions[name].address)
        for name in ("inner", "first")
    )
    assert first(9) == ctypes.c_int64(inner(9) + inner(10)).value


@pytest.mark.parametrize("image", [b"", b"\xcf\xfa\xed\xfe", b"\x7fELF\x01\x01"])
def test_other_object_files_are_refused(image: bytes) -> None:
    with pytest.raises(UnsupportedOperationError, match="ELF"):
        function_symbols(image)
