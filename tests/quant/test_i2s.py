"""I2_S: bytes against the format's own formula, lazy rows, refused input."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import i2s


def code_at(data: np.ndarray, index: int) -> int:
    """The code of flat element `index`, straight from the definition of the layout."""
    block, place = divmod(index, 128)
    group, byte = divmod(place, 32)
    return int(data[32 * block + byte]) >> (6 - 2 * group) & 3


def random_codes(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (rows, cols), np.uint8)


@pytest.mark.parametrize("code", [0, 2])
def test_a_single_weight_lands_in_the_bits_the_format_says(code: int) -> None:
    for place in range(128):
        codes = np.ones((1, 128), np.uint8)
        codes[0, place] = code
        expected = bytearray(b"\x55" * 32)
        shift = 6 - 2 * (place // 32)
        expected[place % 32] = 0x55 & ~(3 << shift) | code << shift
        packed = i2s.pack_codes(codes)
        assert packed.tobytes() == bytes(expected)
        whole = np.concatenate([packed, np.zeros(32, np.uint8)])
        np.testing.assert_array_equal(i2s.unpack_rows(whole, (1, 128), 0, 1), codes)


def test_a_tensor_is_codes_then_scale_then_zeros() -> None:
    codes = random_codes(6, 256)
    data = i2s.pack(codes, 0.1)
    assert data.size == i2s.tensor_bytes(6 * 256) == 6 * 256 // 4 + 32
    assert data[384:].tobytes() == struct.pack("<f", 0.1) + bytes(28)
    assert i2s.read_scale(data, 6 * 256) == np.float32(0.1)
    assert [code_at(data, i) for i in range(codes.size)] == codes.ravel().tolist()


def test_what_follows_the_scale_is_ignored() -> None:
    data = i2s.pack(random_codes(2, 128), 2.0)
    data[-28:] = 0xFF
    assert i2s.read_scale(data, 256) == 2.0
    np.testing.assert_array_equal(i2s.unpack_rows(data, (2, 128), 0, 2), random_codes(2, 128))


def test_packing_row_ranges_gives_the_same_bytes_as_packing_all() -> None:
    codes = random_codes(5, 384)
    parts = [i2s.pack_codes(codes[:2]), i2s.pack_codes(codes[2:])]
    np.testing.assert_array_equal(np.concatenate(parts), i2s.pack_codes(codes))


@given(
    rows=st.integers(1, 9),
    cols=st.sampled_from([64, 96, 128, 192, 320, 512]),
    cut=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 99),
)
def test_any_row_range_decodes_the_flat_order(
    rows: int, cols: int, cut: tuple[int, int], seed: int
) -> None:
    rows *= 4  # so that rows * cols is a multiple of 128 for every cols above
    codes = random_codes(rows, cols, seed)
    data = i2s.pack(codes.reshape(-1, 128), 1.0)
    start, stop = sorted(cut)
    part = i2s.unpack_rows(data, (rows, cols), min(start, rows), min(stop, rows))
    np.testing.assert_array_equal(part, codes[start:stop])
    assert part.dtype == np.uint8
    assert part.flags.c_contiguous


@pytest.mark.parametrize("shift", [0, 2, 4, 6])
def test_code_3_is_refused_in_every_bit_position(shift: int) -> None:
    data = i2s.pack(random_codes(2, 128), 1.0)
    data[40] |= np.uint8(3 << shift)
    i2s.unpack_rows(data, (2, 128), 0, 1)
    with pytest.raises(InvalidArgumentError, match="is 3"):
        i2s.unpack_rows(data, (2, 128), 1, 2)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0])
def test_scales_that_are_no_scales_are_refused(scale: float) -> None:
    for wrong in (scale, 1e39):  # 1e39 is no float32
        with pytest.raises(InvalidArgumentError, match="scale"):
            i2s.pack(random_codes(1, 128), wrong)
    data = i2s.pack(random_codes(1, 128), 1.0)
    data[32:36] = np.frombuffer(np.float32(scale).tobytes(), np.uint8)
    with pytest.raises(InvalidArgumentError, match="scale"):
        i2s.read_scale(data, 128)


def test_rows_that_other_engines_would_cut_are_not_written() -> None:
    with pytest.raises(InvalidArgumentError, match="multiple of 128"):
        i2s.pack_codes(np.ones((2, 192), np.uint8))


@pytest.mark.parametrize("count", [0, -128, 1, 127, 129])
def test_counts_without_whole_blocks_have_no_size(count: int) -> None:
    with pytest.raises(InvalidArgumentError, match="multiple of 128"):
        i2s.tensor_bytes(count)


def test_arguments_that_do_not_fit_the_tensor_are_refused() -> None:
    data = i2s.pack(random_codes(2, 128), 1.0)
    with pytest.raises(InvalidArgumentError, match="96 bytes"):
        i2s.unpack_rows(data[:-1], (2, 128), 0, 1)
    with pytest.raises(InvalidArgumentError, match="outside 0 to 2"):
        i2s.unpack_rows(data, (2, 128), 0, 3)
    with pytest.raises(InvalidArgumentError, match="0, 1 or 2"):
        i2s.pack_codes(np.full((1, 128), 3, np.uint8))
    with pytest.raises(InvalidArgumentError, match="uint8"):
        i2s.pack_codes(np.ones((1, 128), np.int8))  # type: ignore[arg-type]
