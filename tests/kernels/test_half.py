"""Conversions between f32 and the stored formats f16 and bf16, over their whole range."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given

from bitnet.codegen import Buffer, Function, Target
from bitnet.codegen import types as t
from bitnet.kernels.head import Kind, widen, widen_reference
from bitnet.kernels.numerics import LANES
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, kernel, seeds

ALL = np.arange(2**16).astype(np.uint16)


@cache
def widen_kernel(target: Target, checked: bool, kind: Kind) -> Native:
    def body(k: Function, stored: Buffer, out: Buffer) -> None:
        with k.loop(0, len(ALL) // 2, LANES) as i:
            out.store(i, widen(k, stored.load(i, LANES), kind))
        with k.loop(len(ALL) // 2, len(ALL)) as i:
            out[i] = widen(k, stored[i], kind)

    parameters = {"stored": (t.i16, len(ALL)), "out": (t.f32, len(ALL))}
    return kernel(target, checked, parameters, body)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_every_stored_pattern_widens_exactly(target: Target, checked: bool, kind: Kind) -> None:
    out = np.empty(len(ALL), np.float32)
    widen_kernel(target, checked, kind)(ALL, out)
    expected = widen_reference(ALL.view(np.float16) if kind == "f16" else ALL, kind)
    number = ~np.isnan(expected)
    assert_same_bits(out[number], expected[number])
    assert np.isnan(out[~number]).all()


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_widen_reference_follows_the_format(kind: Kind) -> None:
    """sign * 2**(e - bias) * 1.m, and below the smallest exponent 0.m, from the bits."""
    mantissa_bits, bias = (10, 15) if kind == "f16" else (7, 127)
    bits = ALL.astype(int)
    mantissa, exponent = bits % 2**mantissa_bits, (bits % 2**15) >> mantissa_bits
    finite = exponent != 2 * bias + 1
    whole = np.where(exponent > 0, mantissa + 2**mantissa_bits, mantissa)
    size = np.ldexp(whole.astype(float), np.maximum(exponent, 1) - bias - mantissa_bits)
    expected = f32(np.where(bits >> 15, -size, size)[finite])
    stored = ALL.view(np.float16) if kind == "f16" else ALL
    assert_same_bits(widen_reference(stored, kind)[finite], expected)


CHUNK = 4096


@cache
def narrow_kernel(target: Target, checked: bool) -> Native:
    def body(k: Function, x: Buffer, out: Buffer) -> None:
        with k.loop(0, CHUNK // 2, LANES) as i:
            out.store(i, k.target.f32_to_f16(k, x.load(i, LANES)))
        with k.loop(CHUNK // 2, CHUNK) as i:
            out[i] = k.target.f32_to_f16(k, x[i])

    return kernel(target, checked, {"x": (t.f32, CHUNK), "out": (t.i16, CHUNK)}, body)


def narrow(target: Target, checked: bool, numbers: Array) -> Array:
    """Each number through the vector and the scalar path, which must agree."""
    x = np.resize(numbers, -(-len(numbers) // (CHUNK // 2)) * (CHUNK // 2))
    results = []
    for part in x.reshape(-1, CHUNK // 2):
        out = np.empty(CHUNK, np.uint16)
        narrow_kernel(target, checked)(np.concatenate([part, part]), out)
        assert_same_bits(out[: CHUNK // 2], out[CHUNK // 2 :])
        results.append(out[: CHUNK // 2])
    return np.concatenate(results)[: len(numbers)]


def halves(numbers: Array) -> Array:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float16).view(np.uint16)


def test_every_half_survives_the_way_to_f32_and_back(target: Target, checked: bool) -> None:
    values = ALL[~np.isnan(ALL.view(np.float16))]
    assert_same_bits(narrow(target, checked, f32(values.view(np.float16))), values)


def test_halfway_numbers_round_to_even_and_their_neighbours_to_the_nearest(
    target: Target, checked: bool
) -> None:
    below = np.arange(0x7C00).astype(np.uint16)  # every finite half from 0 up
    low, high = f32(below.view(np.float16)), f32((below + 1).astype(np.uint16).view(np.float16))
    high[-1] = 65536  # what comes after 65504, were it not infinity
    tie = (low + high) / 2
    even = np.where(below % 2 == 0, below, below + 1).astype(np.uint16)
    for sign, bit in ((1, 0), (-1, 0x8000)):
        for x, expected in (
            (tie, even),
            (np.nextafter(tie, f32(0)), below),
            (np.nextafter(tie, f32(np.inf)), below + 1),
        ):
            result = narrow(target, checked, f32(sign * x))
            assert_same_bits(result, (expected | bit).astype(np.uint16))


def test_the_ends_of_the_range(target: Target, checked: bool) -> None:
    numbers = f32([0.0, -0.0, 1e-45, 2**-25, 65504, 65519.99, 65520, 1e38, np.inf, -np.inf, np.nan])
    result = narrow(target, checked, numbers)
    assert result[:-1].tolist() == [0, 0x8000, 0, 0, 0x7BFF, 0x7BFF, *[0x7C00] * 3, 0xFC00]
    assert np.isnan(result[-1:].view(np.float16))


@given(seeds)
@few
def test_any_f32_rounds_as_numpy_does(target: Target, checked: bool, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**32, CHUNK // 2, np.uint32)
    x = bits.view(np.float32)
    x = x[~np.isnan(x)]
    assert_same_bits(narrow(target, checked, x), halves(x))
