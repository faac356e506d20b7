"""Look-ups in TL1 and TL2 data: integers, so every result is exact."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.lookup import LookUp, make_tables
from bitnet.kernels.ternary import BLOCK_ROWS
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, unit_block, unit_offsets
from bitnet.quant import tl1, tl2
from bitnet.quant.tiled import TILE
from bitnet.quant.tl_config import Blocks, Cut, TLName
from tests.kernels.harness import Array, Native, assert_same_bits, few, kernel, seeds

CODECS: dict[str, ModuleType] = {"TL1": tl1, "TL2": tl2}
CUTS = [
    Cut("TL1", 32, Blocks(64, 16, 32)),
    Cut("TL1", 384, Blocks(192, 96, 32)),
    Cut("TL1", 1008, Blocks(128, 504, 64)),
    Cut("TL1", 640, Blocks(64, 8, 64)),
    Cut("TL2", 288, Blocks(64, 96, 32)),
    Cut("TL2", 1056, Blocks(96, 96, 32)),
    Cut("TL2", 1184, Blocks(64, 192, 32)),
    Cut("TL2", 256, Blocks(64, 264, 32)),
    Cut("TL2", 1008, Blocks(64, 504, 32)),
    Cut("TL2", 480, Blocks(64, 24, 32)),
]
MOST = 3


def rows_of(*cuts: Cut) -> int:
    """So many that all cuts can have them, and two units are never in one part."""
    return int(np.lcm.reduce([cut.blocks.bm for cut in cuts]))


@pytest.fixture(scope="session")
def looking_up(target: Target) -> Target:
    if not target.has_lookup16:
        pytest.skip(f"{target.name} has no look-up in tables of 16 bytes")
    return target


@cache
def dot_kernel(
    target: Target, checked: bool, kind: TLName, cuts: tuple[Cut, ...], second: int
) -> Native:
    """Tables and sums of 64 rows."""
    layout = LookUp(kind, cuts)
    columns = cuts[0].columns
    width = layout.q_width(columns)

    def body(k: Function, units: Buffer, q: Buffer, sums: Buffer, n_tokens: Value) -> None:
        def use(token: Value, dots: list[Value]) -> None:
            for i, dot in enumerate(dots):
                sums.store(token * BLOCK_ROWS + i * TILE, dot)

        with k.loop(0, n_tokens) as token:
            make_tables(k, layout, columns, q.part(token * width, width))
        unit_block(k, layout, units, q, columns, second, n_tokens, use)

    parameters = {
        "units": (t.i64, 2 * UNIT_FIELDS),
        "q": (t.i8, MOST * width),
        "sums": (t.i32, MOST * BLOCK_ROWS),
        "n_tokens": t.i64,
    }
    return kernel(target, checked, parameters, body)


class Tensor:
    """A tensor with the data where its units can be pointed at."""

    def __init__(self, cut: Cut, codes: Array) -> None:
        self._cut, self._codes = cut, codes
        self._data = CODECS[cut.name].pack(codes, 1.0, cut.blocks)

    def unit(self, first: int, number: int) -> list[int]:
        """What describes 32 rows, `number` being that of the cut."""
        cut, bm = self._cut, self._cut.blocks.bm
        block_sections = CODECS[cut.name].block_sections
        sections = block_sections(self._data, self._codes.shape, cut.blocks, first // bm)
        offsets = unit_offsets(cut, first % bm // 32)
        found = [s.ctypes.data + at for s, at in zip(sections, offsets, strict=True)]
        return [*found, *[0] * (3 - len(found)), number]


def dots(
    target: Target, checked: bool, cuts: tuple[Cut, Cut], codes: Array, q: Array, second: int
) -> Array:
    """The first unit comes from a tensor cut in the first way, the second in the second."""
    distinct = tuple(dict.fromkeys(cuts))
    layout = LookUp(cuts[0].name, distinct)
    tensors = [Tensor(cut, codes) for cut in cuts]
    last = len(codes) - 32
    units = [
        tensors[0].unit(0, 0),
        tensors[1].unit(last, distinct.index(cuts[1])),
    ]
    rows = np.zeros((MOST, layout.q_width(codes.shape[1])), np.int8)
    rows[: len(q), : q.shape[1]] = q
    sums = np.full((MOST, BLOCK_ROWS), -1, np.int32)
    run = dot_kernel(target, checked, cuts[0].name, distinct, second)
    run(np.array(units, np.int64), rows, sums, len(q))
    assert (sums[len(q) :] == -1).all()
    return sums[: len(q)]


def expected(codes: Array, q: Array, second: int) -> Array:
    weights = codes.astype(np.int32) - 1
    first, last = weights[:32], weights[-32:]
    if second == TILE:
        rows = np.concatenate([first, last])
    else:
        rows = np.concatenate([first[:16], last[:16], first[16:], last[16:]])
    return q.astype(np.int32) @ rows.T


@given(seeds, st.sampled_from(CUTS), st.integers(1, MOST), st.sampled_from([16, 32]))
@few
def test_dots_are_the_integer_products(
    looking_up: Target, checked: bool, seed: int, cut: Cut, tokens: int, second: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (2 * cut.blocks.bm, cut.columns), np.uint8)
    q = rng.integers(-127, 128, (tokens, cut.columns), np.int8)
    found = dots(looking_up, checked, (cut, cut), codes, q, second)
    assert_same_bits(found, expected(codes, q, second))


@pytest.mark.parametrize("second", [16, 32])
def test_units_may_be_cut_in_different_ways(looking_up: Target, checked: bool, second: int) -> None:
    for cuts in (
        (Cut("TL1", 384, Blocks(192, 96, 32)), Cut("TL1", 384, Blocks(64, 128, 64))),
        (Cut("TL2", 384, Blocks(96, 96, 32)), Cut("TL2", 384, Blocks(64, 192, 32))),
    ):
        rng = np.random.default_rng(1)
        codes = rng.integers(0, 3, (rows_of(*cuts), 384), np.uint8)
        q = rng.integers(-127, 128, (2, 384), np.int8)
        found = dots(looking_up, checked, cuts, codes, q, second)
        assert_same_bits(found, expected(codes, q, second))


@pytest.mark.parametrize("cut", [Cut("TL1", 6912, Blocks(64, 288, 32)), *CUTS[2:4], *CUTS[-2:]])
def test_no_intermediate_sum_overflows(looking_up: Target, cut: Cut) -> None:
    shape = (2 * cut.blocks.bm, cut.columns)
    for activation in (127, -127):
        q = np.full((1, cut.columns), activation, np.int8)
        for code in (0, 2):
            codes = np.full(shape, code, np.uint8)
            found = dots(looking_up, False, (cut, cut), codes, q, TILE)
            assert (found == (code - 1) * activation * cut.columns).all()


@pytest.mark.parametrize(
    ("kind", "cuts", "rule"),
    [
        ("TL1", (CUTS[1],), "'tl1'.* 640 columns are not TL1"),
        ("TL2", (CUTS[3],), "'tl2'.* 640 columns are not TL2"),
        ("TL1", (Cut("TL1", 640, Blocks(64, 4, 64)),), "'tl1' needs blocks of a multiple of 8"),
        ("TL2", (Cut("TL2", 640, Blocks(64, 576, 32)),), "'tl2' needs blocks .* at most 504"),
        (
            "TL2",
            (Cut("TL2", 640, Blocks(64, 96, 32)), Cut("TL2", 640, Blocks(64, 192, 32))),
            None,
        ),
        (
            "TL2",
            (Cut("TL2", 640, Blocks(64, 96, 32)), Cut("TL2", 640, Blocks(64, 48, 32))),
            "'tl2' needs tensors of 640 columns with as many pairs",
        ),
    ],
)
def test_what_cannot_be_used_in_place_is_refused(
    kind: TLName, cuts: tuple[Cut, ...], rule: str | None
) -> None:
    layout = LookUp(kind, cuts)
    if rule is None:
        assert layout.of(640) == list(cuts)
        return
    with pytest.raises(InvalidArgumentError, match=rule):
        layout.q_width(640)
