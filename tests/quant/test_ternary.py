"""Quantising latent weights and the quarter packing of transformers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import ternary


def test_latent_weights_become_round_half_even_of_w_over_mean() -> None:
    # mean|w| is 1, so the weights themselves are rounded; halves go to even.
    weights = np.array([[0.5, -0.5, 1.5, -1.5, 2.5, 0.5625, -0.5625, 0.375]], np.float32)
    multiplier = ternary.absmean_multiplier([weights])
    assert multiplier == 1
    codes = ternary.quantize(weights, multiplier)
    assert (codes.astype(int) - 1).tolist() == [[0, 0, 1, -1, 1, 1, -1, 0]]
    assert codes.dtype == np.uint8


def test_the_mean_does_not_depend_on_how_the_tensor_is_cut() -> None:
    weights = np.random.default_rng(1).normal(0, 0.02, (64, 96)).astype(np.float32)
    whole = ternary.absmean_multiplier([weights])
    assert whole == ternary.absmean_multiplier(weights[i : i + 7] for i in range(0, 64, 7))
    assert whole == np.float32(1) / np.float32(np.abs(weights).mean(dtype=np.float64))
    assert whole.dtype == np.float32


def test_the_mean_has_a_floor() -> None:
    for weights in (np.zeros((2, 4)), np.full((2, 4), 1e-7)):
        multiplier = ternary.absmean_multiplier([weights.astype(np.float32)])
        assert multiplier == np.float32(1) / np.float32(1e-5)
        codes = ternary.quantize(weights.astype(np.float32), multiplier)
        assert (codes == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weights = np.ones((2, 4), np.float32)
    weights[1, 2] = bad
    with pytest.raises(InvalidArgumentError, match="infinities or NaN"):
        ternary.absmean_multiplier([weights])
    assert ternary.exact_scale([weights]) is None


def test_a_tensor_without_weights_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="without weights"):
        ternary.absmean_multiplier([])


@given(scale=st.floats(2**-100, 2**100, width=32), seed=st.integers(0, 99))
def test_exactly_ternary_weights_give_back_their_scale_and_codes(scale: float, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 3, (6, 8), np.uint8)
    codes[4, 3] = 2
    codes[:2] = 1  # the first part is all zeros and says nothing about the scale
    weights = (codes.astype(np.float32) - 1) * np.float32(scale)
    found = ternary.exact_scale([weights[:2], weights[2:]])
    assert found == np.float32(scale)
    multiplier = np.float32(1) / np.float32(found)
    np.testing.assert_array_equal(ternary.quantize(weights, multiplier), codes)


def test_weights_that_are_not_exactly_ternary_have_no_exact_scale() -> None:
    weights = np.array([[1, -1, 0, 1]], np.float32)
    assert ternary.exact_scale([weights, weights]) == 1
    assert ternary.exact_scale([weights, weights * np.float32(1.0000001)]) is None
    assert ternary.exact_scale([weights * 0]) is None


@pytest.mark.parametrize("rows", [4, 8, 12])
def test_quarters_hold_rows_a_quarter_apart_from_the_low_bits_up(rows: int) -> None:
    codes = np.random.default_rng(rows).integers(0, 3, (rows, 5), np.uint8)
    packed = ternary.pack_quarters(codes)
    assert packed.shape == (rows // 4, 5)
    for row in range(rows):
        slot, byte_row = divmod(row, rows // 4)
        np.testing.assert_array_equal(packed[byte_row] >> (2 * slot) & 3, codes[row])
    for start in range(rows + 1):
        for stop in range(start, rows + 1):
            part = ternary.unpack_quarters(packed, start, stop)
            np.testing.assert_array_equal(part, codes[start:stop])


def test_quarters_with_code_3_are_refused_when_their_rows_are_read() -> None:
    packed = ternary.pack_quarters(np.ones((8, 3), np.uint8))
    packed[1, 2] |= 3 << 4  # row 5
    ternary.unpack_quarters(packed, 0, 5)
    with pytest.raises(InvalidArgumentError, match="is 3"):
        ternary.unpack_quarters(packed, 5, 6)


def test_quarters_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="multiple of 4 rows"):
        ternary.pack_quarters(np.ones((6, 4), np.uint8))
    with pytest.raises(InvalidArgumentError, match="uint8 matrix"):
        ternary.unpack_quarters(np.ones((6, 4), np.int8), 0, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="outside 0 to 8"):
        ternary.unpack_quarters(np.ones((2, 4), np.uint8), 0, 9)
