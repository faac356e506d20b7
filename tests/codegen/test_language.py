"""The kernel language: what its expressions and statements compute."""

# ruff: noqa: ARG001, ARG005 -- the bodies and operations of a table share a signature

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Module, Target, Value
from bitnet.codegen import types as t
from bitnet.codegen.value import Dim
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, kernel, seeds

N = 16
f32x16, i32x16 = t.vec(t.f32, N), t.vec(t.i32, N)


def numbers(
    target: Target, body: Callable[..., None], *arguments: int, room: int = 24
) -> list[int]:
    """What `body(k, out, *arguments)` writes to `out`; -1 where it writes nothing."""
    parameters = {"out": (t.i64, 24)} | {f"argument{i}": t.i64 for i in range(len(arguments))}
    out = np.full(24, -1, np.int64)
    kernel(target, True, parameters, body)(out, *arguments)
    return out.tolist()


# -- statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, 5, 1), (3, 20, 4), (2, 2, 1), (5, 2, 1), (-3, 3, 2)]
)
def test_loop_is_pythons_range(target: Target, start: int, stop: int, step: int) -> None:
    def body(k: Function, out: Buffer, first: Dim, last: Dim) -> None:
        at = k.var(t.i64)
        for begin, end in ((first, last), (start, stop)):  # known when run, known now
            with k.loop(begin, end, step) as i:
                out[at.get()] = i
                at.set(at.get() + 1)

    expected = [*range(start, stop, step)] * 2
    assert numbers(target, body, start, stop)[: len(expected) + 1] == [*expected, -1]


def test_loops_nest(target: Target) -> None:
    def body(k: Function, out: Buffer, n: Value) -> None:
        at = k.var(t.i64)
        with k.loop(0, n) as i, k.loop(i, n) as j:
            out[at.get()] = i * 10 + j
            at.set(at.get() + 1)

    assert numbers(target, body, 3)[:7] == [0, 1, 2, 11, 12, 22, -1]


def test_while_looks_before_each_pass(target: Target) -> None:
    def body(k: Function, out: Buffer, n: Value) -> None:
        steps, x = k.var(t.i64), k.var(t.i64, n)
        with k.while_(lambda: x.get() > 1):
            x.set((x.get() & 1).equals(0).select(x.get() // 2, x.get() * 3 + 1))
            steps.set(steps.get() + 1)
        out[0] = steps.get()

    assert numbers(target, body, 27)[0] == 111
    assert numbers(target, body, 1)[0] == 0


def test_if_runs_its_body_only_when_set(target: Target) -> None:
    def body(k: Function, out: Buffer, n: Value) -> None:
        with k.if_(n > 3):
            out[0] = n
        with k.if_(n <= 3):
            out[1] = n

    assert numbers(target, body, 4)[:2] == [4, -1]
    assert numbers(target, body, 3)[:2] == [-1, 3]


@cache
def dot_kernel(target: Target) -> Native:
    def body(k: Function, acc: Buffer, a: Buffer, b: Buffer) -> None:
        total = k.target.dot4_u8(k, acc.load(0, N), a.load(0, 4 * N), b.load(0, 4 * N))
        acc.store(0, total)

    parameters = {"acc": (t.i32, N), "a": (t.i8, 4 * N), "b": (t.i8, 4 * N)}
    return kernel(target, True, parameters, body)


@given(seeds, st.booleans())
@few
def test_dot4_u8_takes_all_bytes(target: Target, seed: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    a = rng.choice([0, 127, 128, 255], 4 * N) if extreme else rng.integers(0, 256, 4 * N)
    b = rng.choice([-127, 127], 4 * N) if extreme else rng.integers(-127, 128, 4 * N)
    start = rng.integers(-(2**30), 2**30, N)
    expected = start + (a * b).reshape(N, 4).sum(axis=1)
    acc = start.astype(np.int32)
    dot_kernel(target)(acc, a.astype(np.uint8), b.astype(np.int8))
    assert_same_bits(acc, expected.astype(np.int32))


@cache
def lookup_kernel(target: Target) -> Native:
    def body(k: Function, tables: Buffer, index: Buffer) -> None:
        index.store(0, k.target.lookup16(k, tables.load(0, 64), index.load(0, 64)))

    return kernel(target, True, {"tables": (t.i8, 64), "index": (t.i8, 64)}, body)


@given(seeds)
@few
def test_lookup16_takes_16_bytes_from_each_of_four_tables(target: Target, seed: int) -> None:
    if not target.has_lookup16:
        pytest.skip(f"{target.name} has no look-up in tables of 16 bytes")
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, 256, (4, 16), np.uint8)
    index = rng.integers(0, 16, (4, 16), np.uint8)
    outside = rng.random((4, 16)) < 0.2
    expected = np.where(outside, 0, np.take_along_axis(tables, index, 1)).reshape(-1)
    found = (index | outside * np.uint8(128)).reshape(-1)
    lookup_kernel(target)(tables.reshape(-1), found)
    assert_same_bits(found, expected.astype(np.uint8))


def test_a_prefetch_changes_nothing(target: Target) -> None:
    def body(k: Function, out: Buffer) -> None:
        for index in (0, 10**6, -(10**6)):
            out.prefetch(index)

    assert numbers(target, body) == [-1] * 24


def test_a_variable_keeps_its_type(target: Target) -> None:
    k = Function(Module(target), Module(target).declare("f", t.void, []))
    with pytest.raises(TypeError, match="variable holds i64, not float"):
        k.var(t.i64).set(k.const(t.f32, 1))


def test_functions_call_each_other_and_are_written_once(target: Target) -> None:
    module, written = Module(target), []

    def square(k: Function) -> None:
        written.append(k)
        k.ret(k.args[0] * k.args[0])

    def squared(k: Function, x: Value) -> Value:
        return k.call(module.function("square", [t.i64], square, returns=t.i64), x)

    def body(k: Function) -> None:
        k.ret(squared(k, k.args[0]) + squared(k, k.const(t.i64, 3)))

    function = module.function("f", [t.i64], body, returns=t.i64, exported=True)
    assert Native(module, function)(5) == 34
    assert len(written) == 1


def test_compiled_code_calls_back_through_a_pointer(target: Target) -> None:
    seen: list[int] = []
    callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda n: seen.append(n) or n + 1)

    def body(k: Function, out: Buffer, address: Value) -> None:
        out[0] = k.call_pointer(address.to_pointer(), t.i64, k.const(t.i64, 41))

    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert numbers(target, body, address)[0] == 42
    assert seen == [41]


# -- integers ------------------------------------------------------------------------------------

INTEGER_OPS: list[Callable[..., Value]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a // b,
    lambda a, b: a % b,
    lambda a, b: a & b,
    lambda a, b: a | b,
    lambda a, b: a ^ b,
    lambda a, b: -a,
    lambda a, b: 7 - b,
    lambda a, b: a << (b & 63),
    lambda a, b: a.ashr(b & 63),
    lambda a, b: a.lshr(b & 63),
    lambda a, b: (a < b).zext(t.i64),
    lambda a, b: (a >= b).zext(t.i64),
    lambda a, b: a.below(b).zext(t.i64),
    lambda a, b: a.equals(b).zext(t.i64),
    lambda a, b: (a < b).select(a, b),
    lambda a, b: a.trunc(t.i8).sext(t.i64),
    lambda a, b: a.trunc(t.i8).zext(t.i64),
]


def signed(n: int) -> int:
    return (n + 2**63) % 2**64 - 2**63


@cache
def integer_kernel(target: Target) -> Native:
    def body(k: Function, out: Buffer, a: Value, b: Value) -> None:
        for i, op in enumerate(INTEGER_OPS):
            out[i] = op(a, b)

    parameters = {"out": (t.i64, len(INTEGER_OPS)), "a": t.i64, "b": t.i64}
    return kernel(target, False, parameters, body)


integers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-5, 300))


@given(integers, integers.filter(bool))
@few
def test_integers_are_signed_but_for_division(target: Target, a: int, b: int) -> None:
    u, v, s = a % 2**64, b % 2**64, b & 63
    expected = [
        *(a + b, a - b, a * b, u // v, u % v, a & b, a | b, a ^ b, -a, 7 - b),
        *(a << s, a >> s, u >> s, a < b, a >= b, u < v, a == b, min(a, b)),
        *((a + 128) % 256 - 128, a % 256),
    ]
    out = np.empty(len(expected), np.int64)
    integer_kernel(target)(out, a, b)
    assert out.tolist() == [signed(n) for n in expected]


# -- floats and lanes ----------------------------------------------------------------------------

LANE_OPS: list[
    tuple[Callable[[Function, Value, Value], Value], Callable[[Array, Array], Array]]
] = [
    (lambda k, a, b: a + b, lambda a, b: a + b),
    (lambda k, a, b: a - b, lambda a, b: a - b),
    (lambda k, a, b: a * b, lambda a, b: a * b),
    (lambda k, a, b: a / b, lambda a, b: a / b),
    (lambda k, a, b: 1.0 / b, lambda a, b: f32(1) / b),
    (lambda k, a, b: -a, lambda a, b: -a),
    (lambda k, a, b: a * b.lane(3), lambda a, b: a * b[3]),
    (lambda k, a, b: k.sqrt(k.abs(a)), lambda a, b: np.sqrt(np.abs(a))),
    (lambda k, a, b: k.max(a, b), np.maximum),
    (lambda k, a, b: k.min(a, b), np.minimum),
    (lambda k, a, b: (a < b).select(a, 0.5), lambda a, b: np.where(a < b, a, f32(0.5))),
    (lambda k, a, b: (a < b).select(2.0, b), lambda a, b: np.where(a < b, f32(2), b)),
    (lambda k, a, b: k.round_to_int(a).to_float(), lambda a, b: np.rint(a) + f32(0)),
    (lambda k, a, b: a.to_int(t.i32).to_float(), lambda a, b: np.trunc(a) + f32(0)),
    (lambda k, a, b: a.widen(t.f64).narrow(t.f32), lambda a, b: a),
    (lambda k, a, b: a.shuffle(list(range(N))[::-1]), lambda a, b: a[::-1]),
    (
        lambda k, a, b: a.shuffle(list(range(0, 2 * N, 2)), b),
        lambda a, b: np.concatenate([a, b])[::2],
    ),
    (lambda k, a, b: a.shuffle([0] * 8 + [N] * 8), lambda a, b: f32([a[0]] * 8 + [0] * 8)),
    (lambda k, a, b: k.concat([a.lane(i % 2) for i in range(N)]), lambda a, b: f32([*a[:2]] * 8)),
    (lambda k, a, b: b.lane(5).splat(N), lambda a, b: np.repeat(b[5], N)),
    (lambda k, a, b: (k.iota(i32x16) + 3).to_float(), lambda a, b: f32(np.arange(3, N + 3))),
    (lambda k, a, b: a.bitcast(i32x16).bitcast(f32x16), lambda a, b: a),
]


@cache
def lane_kernel(target: Target) -> Native:
    def body(k: Function, a: Buffer, b: Buffer, out: Buffer) -> None:
        for i, (op, _) in enumerate(LANE_OPS):
            out.store(i * N, op(k, a.load(0, N), b.load(0, N)))

    parameters = {"a": (t.f32, N), "b": (t.f32, N), "out": (t.f32, N * len(LANE_OPS))}
    return kernel(target, False, parameters, body)


@given(seeds, st.integers(-10, 18))
@few
def test_vectors_compute_lane_by_lane_as_numpy_does(target: Target, seed: int, power: int) -> None:
    a, b = f32(np.random.default_rng(seed).standard_normal((2, N)) * 2.0**power)
    out = np.empty((len(LANE_OPS), N), np.float32)
    lane_kernel(target)(a, b, out)
    assert_same_bits(out, f32([reference(a, b) for _, reference in LANE_OPS]))


def test_rounding_to_int_takes_ties_to_even(target: Target) -> None:
    def body(k: Function, x: Buffer, out: Buffer) -> None:
        with k.loop(0, x.count) as i:
            out[i] = k.round_to_int(x[i])

    x = f32([*(np.arange(-20, 20) + 0.5), 4194303.5, -4194302.5, 0.49999997, 1e-45, -0.0])
    out = np.empty(len(x), np.int32)
    kernel(target, True, {"x": (t.f32, len(x)), "out": (t.i32, len(x))}, body)(x, out)
    assert out.tolist() == [round(v) for v in x.tolist()]


def test_nothing_compares_with_nan(target: Target) -> None:
    def body(k: Function, out: Buffer) -> None:
        nan, one = k.const(t.f32, float("nan")), k.const(t.f32, 1)
        for i, compared in enumerate((nan < one, nan >= one, nan.equals(nan), one.equals(one))):
            out[i] = compared.zext(t.i64)
        for i, chosen in enumerate((k.max(nan, one), k.max(one, nan).equals(one).select(2.0, one))):
            out[4 + i] = chosen.to_int(t.i64)

    assert numbers(target, body)[:6] == [0, 0, 0, 1, 1, 1]


def test_operands_must_fit_each_other(target: Target) -> None:
    k = Function(Module(target), Module(target).declare("f", t.void, []))
    real, whole = k.const(t.f32, 1), k.const(t.i32, 1)
    with pytest.raises(TypeError, match="different types: float and i32"):
        real + whole
    with pytest.raises(TypeError, match="use // on integers"):
        whole / whole
    with pytest.raises(TypeError, match="must be a Value"):
        (whole < 2).select(1, 2)
