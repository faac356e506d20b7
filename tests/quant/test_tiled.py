"""The tiled layouts: bytes against their definition, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import tiled
from bitnet.quant.tiled import STEPS, TiledName

layouts = pytest.mark.parametrize("layout", STEPS)


def random_codes(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (rows, columns), np.uint8)


@layouts
def test_every_code_lands_where_the_layout_says(layout: TiledName) -> None:
    """[group of 32][step][tile][byte 4r+c]: row r, field j holding columns 4j..4j+3."""
    step = STEPS[layout]
    codes = random_codes(64, 5 * step)
    packed = tiled.pack(layout, codes).reshape(2, 5, 2, 64)
    for row, column in np.ndindex(*codes.shape):
        byte = int(packed[row // 32, column // step, row % 32 // 16, row % 16 * 4 + column % 4])
        field = column % step // 4
        if layout == "2bit":
            code = byte >> 2 * field & 3
        else:
            code = byte // 82 if field == 4 else byte % 82 // 3**field % 3
        assert code == codes[row, column]


@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 3))
def test_tiles_come_back_as_they_were_packed(seed: int, columns: int, groups: int) -> None:
    codes = random_codes(32 * groups, columns, seed)
    for layout in STEPS:
        packed = tiled.pack(layout, codes)
        assert packed.size == tiled.matrix_bytes(layout, 32 * groups, columns)
        tiles = range(0, 2 * groups, 2)
        expected = codes.reshape(-1, 16, columns)[::2].reshape(-1, columns)
        np.testing.assert_array_equal(tiled.unpack_tiles(layout, packed, columns, tiles), expected)


def test_base_3_takes_20_percent_less() -> None:
    assert tiled.matrix_bytes("2bit", 64, 2560) == 64 * 2560 // 4
    assert tiled.matrix_bytes("b3", 64, 2560) == 64 * 2560 // 5


@layouts
def test_bytes_that_stand_for_nothing_are_refused(layout: TiledName) -> None:
    packed = tiled.pack(layout, random_codes(32, 40))
    for byte in (255, 246, 81, 163) if layout == "b3" else (3, 0b11000000):
        spoilt = packed.copy()
        spoilt[7] = byte
        with pytest.raises(InvalidArgumentError, match=f"layout {layout}"):
            tiled.unpack_tiles(layout, spoilt, 40, range(2))
