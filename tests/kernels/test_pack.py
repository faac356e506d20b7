"""Packing: the bytes of the references, from every kind of source."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Module, Target
from bitnet.kernels import pack
from bitnet.kernels.layouts import LAYOUTS, LayoutName, TiledLayout
from bitnet.quant import i2s
from bitnet.quant import tiled as quant_tiled
from tests.kernels.harness import Array, Native, assert_same_bits, few, seeds

TILED = [name for name, layout in LAYOUTS.items() if isinstance(layout, TiledLayout)]
I2_S_COLUMNS = [128, 384, 1280, 1408, 2816]
BYTE_COLUMNS = [1, 63, 64, 100, 1280, 1301]


def tiled(name: LayoutName) -> TiledLayout:
    layout = LAYOUTS[name]
    assert isinstance(layout, TiledLayout)
    return layout


@cache
def packer(
    target: Target, checked: bool, name: LayoutName, kind: pack.SourceKind, columns: int
) -> Native:
    module = Module(target, checked=checked)
    return Native(module, pack.pack(module, tiled(name), kind, columns))


def random_codes(seed: int, rows: int, columns: int) -> Array:
    return np.random.default_rng(seed).integers(0, 3, (rows, columns), np.uint8)


@given(seeds, st.sampled_from(TILED), st.sampled_from(I2_S_COLUMNS), st.integers(1, 2))
@few
def test_i2_s_becomes_the_bytes_of_the_reference(
    target: Target, checked: bool, seed: int, name: LayoutName, columns: int, groups: int
) -> None:
    codes = random_codes(seed, 32 * groups, columns)
    packed = np.full(tiled(name).packed_bytes(*codes.shape), 0xEE, np.uint8)
    run = packer(target, checked, name, "i2_s", columns)
    assert run(i2s.pack_codes(codes), 2 * groups, 0, packed, 0, 1) == 0
    assert_same_bits(packed, quant_tiled.pack(name, codes))


@given(seeds, st.sampled_from(TILED), st.sampled_from(BYTE_COLUMNS), st.sampled_from([0, 2, 6]))
@few
def test_bytes_become_the_bytes_of_the_reference(
    target: Target, checked: bool, seed: int, name: LayoutName, columns: int, shift: int
) -> None:
    codes = random_codes(seed, 32, columns)
    noise = random_codes(seed + 1, 32, columns) << (shift + 2) % 8
    packed = np.full(tiled(name).packed_bytes(32, columns), 0xEE, np.uint8)
    run = packer(target, checked, name, "bytes", columns)
    assert run(codes << shift | noise, 2, shift, packed, 0, 1) == 0
    assert_same_bits(packed, quant_tiled.pack(name, codes))


@pytest.mark.parametrize("name", TILED)
def test_strips_go_to_every_so_many_tiles(target: Target, checked: bool, name: LayoutName) -> None:
    """Two matrices whose tiles take turns, as gate and up do, from a later tile on."""
    columns = 100
    first, second = random_codes(1, 48, columns), random_codes(2, 48, columns)
    packed = np.zeros(tiled(name).packed_bytes(128, columns), np.uint8)
    run = packer(target, checked, name, "bytes", columns)
    for start, codes in ((2, first), (3, second)):
        assert run(codes, 3, 0, packed, start, 2) == 0
    both = np.stack([first.reshape(3, 16, columns), second.reshape(3, 16, columns)], 1)
    expected = np.zeros((128, columns), np.uint8)
    expected[32:] = both.reshape(96, columns)
    assert_same_bits(packed, quant_tiled.pack(name, expected))


@pytest.mark.parametrize("kind", ["i2_s", "bytes"])
def test_a_code_that_is_none_is_noticed_wherever_it_is(
    target: Target, kind: pack.SourceKind
) -> None:
    columns = 1408
    codes = random_codes(0, 16, columns)
    source = i2s.pack_codes(codes) if kind == "i2_s" else codes.reshape(-1)
    packed = np.zeros(tiled("b3").packed_bytes(32, columns), np.uint8)
    run = packer(target, False, "b3", kind, columns)
    assert run(source, 1, 0, packed, 0, 1) == 0
    for at in np.random.default_rng(3).integers(0, len(source), 20):
        spoilt = source.copy()
        spoilt[at] |= 3
        assert run(spoilt, 1, 0, packed, 0, 1) == 1
