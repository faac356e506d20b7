"""Runs one kernel on its own, on numpy arrays.

The kernel sees copies of the arrays that are aligned to no vector and lie between guards:
bytes of 0xFF, which are NaN in every float format, so that reading outside spoils the result,
and which must still be there after the call, so that writing outside is noticed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from llvmlite import ir

from bitnet.codegen import Buffer, Module, Target, jit
from bitnet.codegen import types as t
from bitnet.codegen.module import VIOLATION
from bitnet.errors import BoundsError

few, some = (settings(max_examples=min(n, settings().max_examples)) for n in (8, 25))

Array = np.ndarray[Any, np.dtype[Any]]
# What a kernel takes: a scalar type, or (element type, count) of an array.
Parameter = t.Type | tuple[t.Type, int]

_GUARD = 512
_C = {t.ptr: ctypes.c_void_p, t.i64: ctypes.c_int64, t.f32: ctypes.c_float, t.f64: ctypes.c_double}


class Native:
    """An exported function of a module, called with numpy arrays (changed in place) and numbers.

    Raises BoundsError, naming the function and the buffer, when checked code went outside.
    """

    def __init__(self, module: Module, function: ir.Function) -> None:
        names = [function.name, VIOLATION] if module.checked else [function.name]
        self._library = jit.load(module, names)
        self._sites = module.sites
        signature = function.function_type
        returns = _C.get(signature.return_type)
        prototype = ctypes.CFUNCTYPE(returns, *(_C[a] for a in signature.args))
        self._call = prototype(self._library.address(function.name))
        self._violation = (
            (ctypes.c_int64 * 2).from_address(self._library.address(VIOLATION))
            if module.checked
            else None
        )

    def __call__(self, *arguments: Array | float) -> Any:
        copies = [_Guarded(a) if isinstance(a, np.ndarray) else None for a in arguments]
        passed = [c.address if c else a for c, a in zip(copies, arguments, strict=True)]
        result = self._call(*passed)
        for copy in copies:
            if copy is not None:
                copy.finish()
        if self._violation is not None and self._violation[0]:
            site, index = self._sites[self._violation[0] - 1], self._violation[1]
            self._violation[:] = 0, 0
            raise BoundsError(f"{site}: element {index}")
        return result


class _Guarded:
    def __init__(self, original: Array) -> None:
        self.original = original
        self.memory = np.full(original.nbytes + 2 * _GUARD + 64, 0xFF, np.uint8)
        aligned = -self.memory.ctypes.data % 64
        self.start = aligned + _GUARD + max(original.itemsize, 4)
        self.inside = self.memory[self.start : self.start + original.nbytes]
        self.inside[:] = np.ascontiguousarray(original).reshape(-1).view(np.uint8)

    @property
    def address(self) -> int:
        return self.inside.ctypes.data

    def finish(self) -> None:
        end = self.start + self.original.nbytes
        outside = np.concatenate([self.memory[: self.start], self.memory[end:]])
        assert (outside == 0xFF).all(), "memory around an argument was written"
        self.original[...] = self.inside.view(self.original.dtype).reshape(self.original.shape)


def kernel(
    target: Target, checked: bool, parameters: Mapping[str, Parameter], body: Callable[..., None]
) -> Native:
    """body(k, *arguments), arrays as Buffers and scalars as Values, as a function to call."""
    module = Module(target, checked=checked)

    def write(k: Any) -> None:
        arguments = [
            Buffer(k, value, *parameter, name) if isinstance(parameter, tuple) else value
            for value, (name, parameter) in zip(k.args, parameters.items(), strict=True)
        ]
        body(k, *arguments)

    types = [t.ptr if isinstance(p, tuple) else p for p in parameters.values()]
    return Native(module, module.function("kernel", types, write, exported=True))


def assert_same_bits(result: Array, expected: Array) -> None:
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    if result.tobytes() != expected.tobytes():
        bits = np.dtype(f"u{result.itemsize}")
        different = np.ascontiguousarray(result).view(bits) != np.ascontiguousarray(expected).view(
            bits
        )
        at = tuple(np.argwhere(different)[0])
        raise AssertionError(
            f"{different.sum()} of {result.size} differ, the first at {at}: "
            f"{result[at]!r} is not {expected[at]!r}"
        )


def f32(numbers: object) -> Array:
    return np.asarray(numbers, np.float32)


seeds = st.integers(0, 2**32 - 1)


@st.composite
def floats(draw: st.DrawFn, count: int) -> Array:
    """f32 numbers of one magnitude with zeros, subnormals and large ones sprinkled in."""
    rng = np.random.default_rng(draw(seeds))
    x = rng.standard_normal(count) * 2.0 ** draw(st.integers(-30, 6))
    odd = draw(st.lists(st.sampled_from([0.0, -0.0, 1e-40, -1e-45, 1e11, -3e4, 0.5]), max_size=8))
    x[rng.integers(0, count, len(odd))] = odd
    return f32(x)
