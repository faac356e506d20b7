"""Buffers and structs, and the checks of checked mode."""

# ruff: noqa: ARG001, ARG005 -- the bodies and operations of a table share a signature

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cffi
import numpy as np
import pytest

from bitnet.codegen import Buffer, Function, Module, Struct, Target, Value
from bitnet.codegen import types as t
from bitnet.errors import BoundsError
from tests.kernels.harness import Native, f32, kernel

KINDS = {"i64": (t.i64, 5), "f32": (t.f32, 0.5), "ptr": (t.ptr, 7)}
LAYOUTS = [
    ("i64", "ptr", "f32"),
    ("f32", "i64", "f32", "f32", "ptr", "f32"),
    ("f32",),
    ("ptr", "f32", "i64", "f32"),
]


@pytest.mark.parametrize("kinds", LAYOUTS)
def test_structs_are_laid_out_as_c_does(target: Target, kinds: tuple[str, ...]) -> None:
    struct = Struct("thing", tuple((f"field{i}", kind) for i, kind in enumerate(kinds)))
    ffi = cffi.FFI()
    ffi.cdef(struct.cdef)
    things: Any = ffi.new("thing[3]")
    for i in range(3):
        for n, kind in enumerate(kinds):
            number = 100 * i + n
            setattr(things[i], f"field{n}", ffi.cast("void *", number) if kind == "ptr" else number)

    def body(k: Function, out: Buffer, address: Value, index: Value) -> None:
        thing = struct.at(k, address.to_pointer(), index)
        for n, kind in enumerate(kinds):
            value = thing[f"field{n}"]
            if kind == "f32":
                value = value.to_int(t.i64)
            elif kind == "ptr":
                value = Value(k.builder, k.builder.ptrtoint(value.ir, t.i64))
            out[n] = value

    parameters = {"out": (t.i64, len(kinds)), "address": t.i64, "index": t.i64}
    read, address = kernel(target, False, parameters, body), int(ffi.cast("intptr_t", things))
    for i in range(3):
        out = np.empty(len(kinds), np.int64)
        read(out, address, i)
        assert out.tolist() == [100 * i + n for n in range(len(kinds))]


def test_a_pointer_field_is_a_buffer_of_its_own_name(target: Target) -> None:
    struct = Struct("thing", (("size", "i64"), ("data", "ptr")))
    ffi = cffi.FFI()
    ffi.cdef(struct.cdef)
    data = f32([1, 2, 3])
    thing: Any = ffi.new("thing *", {"size": 3, "data": ffi.cast("void *", data.ctypes.data)})

    def body(k: Function, out: Buffer, address: Value, index: Value) -> None:
        it = struct.at(k, address.to_pointer())
        out[0] = it.buffer("data", t.f32, it["size"])[index]

    parameters = {"out": (t.f32, 1), "address": t.i64, "index": t.i64}
    read, out = kernel(target, True, parameters, body), np.empty(1, np.float32)
    address = int(ffi.cast("intptr_t", thing))
    read(out, address, 2)
    assert out[0] == 3
    with pytest.raises(BoundsError, match="kernel: buffer data: element 3"):
        read(out, address, 3)


@pytest.mark.parametrize("valid", [1, 2, 7, 15, 16])
def test_lanes_that_are_not_valid_are_zero_and_not_touched(
    target: Target, checked: bool, valid: int
) -> None:
    def body(k: Function, x: Buffer, y: Buffer, short: Buffer) -> None:
        lanes = x.load(0, 16, valid=valid)  # in checked mode, reading more is an error
        y.store(0, lanes)
        short.store(0, lanes, valid=valid)

    parameters = {"x": (t.f32, valid), "y": (t.f32, 16), "short": (t.f32, valid)}
    x, y, short = f32(np.arange(1, valid + 1)), f32(np.full(16, -1)), f32(np.full(valid, -1))
    kernel(target, checked, parameters, body)(x, y, short)
    assert y.tolist() == [*range(1, valid + 1), *[0] * (16 - valid)]
    assert short.tolist() == x.tolist()


def test_parts_and_other_types_see_the_same_memory(target: Target, checked: bool) -> None:
    def body(k: Function, x: Buffer, start: Value) -> None:
        part = x.part(start, 4)
        part[0] = k.const(t.i32, 7)
        narrow = part.as_type(t.i8)
        narrow[narrow.known_count - 1] = k.const(t.i8, 1)

    x = np.zeros(8, np.int32)
    kernel(target, checked, {"x": (t.i32, 8), "start": t.i64}, body)(x, 3)
    assert x.tolist() == [0, 0, 0, 7, 0, 0, 1 << 24, 0]


def test_atomics_change_memory(target: Target) -> None:
    def body(k: Function, x: Buffer, before: Buffer) -> None:
        before[0] = x.atomic_add(1, k.const(t.i64, 5))
        before[1] = x.atomic_load(1)

    x, before = np.array([1, 2], np.int64), np.zeros(2, np.int64)
    kernel(target, False, {"x": (t.i64, 2), "before": (t.i64, 2)}, body)(x, before)
    assert x.tolist() == [1, 7]
    assert before.tolist() == [2, 7]


def test_a_store_of_another_type_is_refused(target: Target) -> None:
    with pytest.raises(TypeError, match="x holds i32, not float"):
        kernel(target, False, {"x": (t.i32, 2)}, lambda k, x: x.store(0, k.const(t.f32, 1)))


# -- checked mode --------------------------------------------------------------------------------

SIZE = 8
OUTSIDE = [-1, -(2**63), SIZE, 2**40, 2**63 - 1]
# Each body accesses element `i` of the buffer x and leaves what it read in y.
LOADS: list[Callable[[Function, Buffer, Buffer, Value], None]] = [
    lambda k, x, y, i: y.store(0, x[i]),
    lambda k, x, y, i: y.store(0, x.load(i, 4)),
    lambda k, x, y, i: y.store(0, x.part(i, 1)[0]),
    lambda k, x, y, i: y.store(0, x.part(i, 4).load(0, 4)),
    lambda k, x, y, i: y.store(0, x.part(i, 4).part(1, 2)[1]),
]
STORES: list[Callable[[Function, Buffer, Buffer, Value], None]] = [
    lambda k, x, y, i: x.store(i, k.const(t.i32, 5)),
    lambda k, x, y, i: x.store(i, k.const(t.vec(t.i32, 4), 5)),
    lambda k, x, y, i: x.part(i, 1).store(0, k.const(t.i32, 5)),
    lambda k, x, y, i: x.part(i, 4).as_type(t.i8).store(0, k.const(t.i8, 5)),
]
PARAMETERS = {"x": (t.i32, SIZE), "y": (t.i32, 4), "i": t.i64}


def arrays() -> tuple[Any, Any]:
    return np.arange(1, SIZE + 1, dtype=np.int32), np.full(4, -1, np.int32)


@pytest.mark.parametrize("body", LOADS)
def test_a_load_outside_reads_zeros_and_is_reported(
    target: Target, body: Callable[..., None]
) -> None:
    load = kernel(target, True, PARAMETERS, body)
    for index in OUTSIDE:
        x, y = arrays()
        with pytest.raises(BoundsError, match=f"^kernel: buffer x: element {index}$"):
            load(x, y, index)
        assert y[0] == 0
        assert set(y.tolist()) <= {0, -1}
    x, y = arrays()
    load(x, y, 2)
    assert y[0] in x[2:6]


@pytest.mark.parametrize("body", STORES)
def test_a_store_outside_changes_nothing_and_is_reported(
    target: Target, body: Callable[..., None]
) -> None:
    store = kernel(target, True, PARAMETERS, body)
    for index in OUTSIDE:
        x, y = arrays()
        with pytest.raises(BoundsError, match=f"^kernel: buffer x: element {index}$"):
            store(x, y, index)
        assert x.tolist() == list(range(1, SIZE + 1))
    x, y = arrays()
    store(x, y, 2)
    assert x[2] == 5


@pytest.mark.parametrize("index", [SIZE - 3, SIZE - 1])
def test_a_vector_that_straddles_the_end_is_outside(target: Target, index: int) -> None:
    for body in (LOADS[1], LOADS[3], STORES[1], STORES[3]):
        x, y = arrays()
        with pytest.raises(BoundsError, match=f"buffer x: element {index}"):
            kernel(target, True, PARAMETERS, body)(x, y, index)
        assert x.tolist() == list(range(1, SIZE + 1))


def test_the_first_violation_is_the_one_reported(target: Target) -> None:
    def body(k: Function, x: Buffer, y: Buffer, i: Value) -> None:
        y[i] = k.const(t.i32, 1)
        x[i] = k.const(t.i32, 1)
        x[i + 50] = k.const(t.i32, 1)

    run = kernel(target, True, PARAMETERS, body)
    for index, buffer in ((4, "y: element 4"), (3, "x: element 53")):
        x, y = arrays()
        with pytest.raises(BoundsError, match=f"buffer {buffer}"):
            run(x, y, index)


def test_a_violation_in_a_called_function_names_that_function(target: Target) -> None:
    module = Module(target, checked=True)

    def inner(k: Function) -> None:
        Buffer(k, k.args[0], t.i32, 4, "inner.x")[k.args[1]] = k.const(t.i32, 1)

    def outer(k: Function) -> None:
        k.call(module.function("inner", [t.ptr, t.i64], inner), *k.args)

    run = Native(module, module.function("outer", [t.ptr, t.i64], outer, exported=True))
    with pytest.raises(BoundsError, match=r"inner: buffer inner\.x: element 4"):
        run(np.zeros(4, np.int32), 4)


def test_unchecked_code_has_no_checks(target: Target) -> None:
    module = Module(target)

    def body(k: Function) -> None:
        x = Buffer(k, k.args[0], t.i32, 4, "x")
        x[k.args[1]] = x[0]

    module.function("f", [t.ptr, t.i64], body, exported=True)
    assert "br " not in str(module)
    assert not module.sites


def test_a_prefetch_may_go_anywhere(target: Target, checked: bool) -> None:
    def body(k: Function, x: Buffer) -> None:
        for index in (0, 3, -(2**40), 2**40):
            x.prefetch(index)
        x[0] = x[1]

    numbers = f32([1, 2])
    kernel(target, checked, {"x": (t.f32, 2)}, body)(numbers)
    assert numbers.tolist() == [2, 2]
