"""Packing from TL1 and TL2: the bytes of the references, block by block."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Module, Target
from bitnet.kernels.layouts import LAYOUTS, TiledLayout
from bitnet.kernels.pack_tl import pack_tl
from bitnet.quant import tiled, tl1, tl2
from bitnet.quant.tiled import STEPS, TiledName
from bitnet.quant.tl_config import Blocks, Cut
from tests.kernels.harness import Array, Native, assert_same_bits, few, seeds

CODECS: dict[str, ModuleType] = {"TL1": tl1, "TL2": tl2}
CUTS = [
    Cut("TL1", 32, Blocks(32, 16, 32)),
    Cut("TL1", 384, Blocks(160, 96, 32)),
    Cut("TL1", 1020, Blocks(128, 12, 64)),
    Cut("TL2", 288, Blocks(64, 96, 32)),
    Cut("TL2", 1056, Blocks(96, 96, 32)),
    Cut("TL2", 1184, Blocks(32, 192, 32)),
    Cut("TL2", 256, Blocks(64, 264, 32)),
]


def tiled_layout(name: TiledName) -> TiledLayout:
    layout = LAYOUTS[name]
    assert isinstance(layout, TiledLayout)
    return layout


@cache
def packer(target: Target, checked: bool, name: TiledName, cut: Cut) -> Native:
    module = Module(target, checked=checked)
    return Native(module, pack_tl(module, tiled_layout(name), cut))


def sections(data: Array, cut: Cut) -> list[Array]:
    """Those of a tensor of a single block."""
    bm = cut.blocks.bm
    if cut.name == "TL1":
        return [data[: bm * cut.columns // 4], data[:0], data[:0]]
    ends = np.cumsum(tl2.section_bytes((bm, cut.columns), cut.blocks))
    return np.split(data[: ends[-1]], ends[:-1])


@given(seeds, st.sampled_from(list(STEPS)), st.sampled_from(CUTS))
@few
def test_a_block_becomes_the_bytes_of_the_reference(
    target: Target, checked: bool, seed: int, name: TiledName, cut: Cut
) -> None:
    bm = cut.blocks.bm
    codes = np.random.default_rng(seed).integers(0, 3, (bm, cut.columns), np.uint8)
    data = CODECS[cut.name].pack(codes, 1.0, cut.blocks)
    packed = np.full(tiled_layout(name).packed_bytes(bm, cut.columns), 0xEE, np.uint8)
    run = packer(target, checked, name, cut)
    assert run(*sections(data, cut), packed, 0, 1) == 0
    assert_same_bits(packed, tiled.pack(name, codes))


@pytest.mark.parametrize("cut", CUTS)
def test_strips_go_to_every_so_many_tiles(target: Target, checked: bool, cut: Cut) -> None:
    bm = cut.blocks.bm
    codes = np.random.default_rng(0).integers(0, 3, (bm, cut.columns), np.uint8)
    data = CODECS[cut.name].pack(codes, 1.0, cut.blocks)
    expected = np.zeros((2 * bm + 32, cut.columns), np.uint8)
    for strip in range(bm // 16):
        expected[16 * (3 + 2 * strip) :][:16] = codes[16 * strip :][:16]
    packed = tiled.pack("2bit", np.zeros_like(expected))
    assert packer(target, checked, "2bit", cut)(*sections(data, cut), packed, 3, 2) == 0
    assert_same_bits(packed, tiled.pack("2bit", expected))


@pytest.mark.parametrize("cut", CUTS)
def test_indexes_that_stand_for_nothing_are_noticed(target: Target, cut: Cut) -> None:
    bm, rng = cut.blocks.bm, np.random.default_rng(1)
    codes = rng.integers(0, 3, (bm, cut.columns), np.uint8)
    parts = sections(CODECS[cut.name].pack(codes, 1.0, cut.blocks), cut)
    packed = np.zeros(tiled_layout("b3").packed_bytes(bm, cut.columns), np.uint8)
    run = packer(target, False, "b3", cut)
    for section, lowest in ((0, 9 if cut.name == "TL1" else 14), (2, 9)):
        for at in rng.integers(0, max(1, parts[section].size), 6 if parts[section].size else 0):
            for wrong in (lowest, lowest << 4, 0xFF):
                spoilt = [part.copy() for part in parts]
                spoilt[section][at] = wrong
                assert run(*spoilt, packed, 0, 1) == 1
