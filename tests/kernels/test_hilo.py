"""Activations of 15 bits in two int8 parts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target
from bitnet.codegen import types as t
from bitnet.kernels.hilo import (
    V_MAX,
    Format,
    Split,
    layout_reference,
    parts_reference,
    split,
    split_reference,
)
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, floats, kernel

FORMATS = [Format(64, 64, 128), Format(96, 32, 128), Format(512, 16, 32)]


@cache
def split_kernel(target: Target, checked: bool, form: Format) -> Native:
    def body(k: Function, x: Buffer, q: Buffer, offsets: Buffer, scale: Buffer) -> None:
        split(k, x, Split(form, q, offsets, scale))

    parameters = {
        "x": (t.f32, form.columns),
        "q": (t.i8, 2 * form.columns),
        "offsets": (t.i32, 2 * form.n_blocks),
        "scale": (t.f32, 1),
    }
    return kernel(target, checked, parameters, body)


def split_row(target: Target, checked: bool, form: Format, x: Array) -> tuple[Array, ...]:
    q = np.empty((1, 2, form.columns), np.int8)
    offsets = np.empty((1, 2, form.n_blocks), np.int32)
    scale = np.empty(1, np.float32)
    split_kernel(target, checked, form)(x, q, offsets, scale)
    return q, offsets, scale


@given(st.data(), st.sampled_from(FORMATS))
@few
def test_split_gives_the_bits_of_its_reference(
    target: Target, checked: bool, data: st.DataObject, form: Format
) -> None:
    x = data.draw(floats(form.columns))
    v, scale = split_reference(x[None])
    q, offsets = layout_reference(v, form)
    for result, expected in zip(
        split_row(target, checked, form, x), (q, offsets, scale), strict=True
    ):
        assert_same_bits(result, expected)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_row_with_something_not_finite_has_no_scale(target: Target, odd: float) -> None:
    for place in (0, 17, 63):
        x = np.ones(64, np.float32)
        x[place] = odd
        assert np.isnan(split_row(target, False, FORMATS[0], x)[2]).all()
        assert np.isnan(split_reference(x)[1])


def test_every_integer_is_the_sum_of_its_parts() -> None:
    v = np.arange(-int(V_MAX), int(V_MAX) + 1)
    high, low = (part.astype(int) for part in parts_reference(v))
    assert ((high * 128 + low) == v).all()
    assert (high.min(), high.max(), low.min(), low.max()) == (-127, 127, -64, 63)


@given(floats(64))
@few
def test_the_error_is_half_a_step(x: Array) -> None:
    v, scale = split_reference(x)
    assert np.abs(v).max() <= V_MAX
    assert (np.abs(x - v * scale.astype(float)) <= scale * (0.5 + 1e-3)).all()


def test_a_row_of_zeros_stays_zeros() -> None:
    v, scale = split_reference(f32(np.zeros(64)))
    assert not v.any()
    assert scale > 0
