"""TL1 and TL2: bytes against the formulas of the formats, lazy rows, refused input."""

from __future__ import annotations

import struct
import time
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import tl1, tl2
from bitnet.quant.tl_config import PRESETS, Blocks, TLName, read_config, write_config

CODECS: dict[TLName, ModuleType] = {"TL1": tl1, "TL2": tl2}
some = settings(max_examples=30)


def random_codes(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (rows, columns), np.uint8)


def tl1_index(data: np.ndarray, shape: tuple[int, int], b: Blocks, row: int, pair: int) -> int:
    """Where the format puts the index of a pair."""
    columns, by = shape[1], 256 // b.bmm
    mb, s, g, r = row // b.bm, row % b.bm // b.bmm, row % b.bmm // 16, row % 16
    kb, y = pair // (b.bk // 2), pair % (b.bk // 2) // (by // 2)
    q = pair % (by // 2) // 2
    at = (mb * columns // b.bk + kb) * b.bm // b.bmm + s
    at = (at * b.bk // by + y) * b.bmm // 16 + g
    byte = int(data[(at * by // 4 + q) * 16 + r])
    return byte & 15 if pair % 2 else byte >> 4


def tl2_position(row: int) -> int:
    return (0, 16, 8, 24)[row // 8] + row % 8


def tl2_triple(
    data: np.ndarray, shape: tuple[int, int], b: Blocks, row: int, triple: int
) -> tuple[int, int]:
    """The index and the sign bit of a triple."""
    three = shape[1] - shape[1] % b.bk
    mb, s, r = row // b.bm, row % b.bm // 32, row % 32
    kb, t = triple // (b.bk // 3), triple % (b.bk // 3)
    part = (mb * three // b.bk + kb) * b.bm // 32 + s
    byte = int(data[(part * b.bk // 6 + t // 2) * 32 + tl2_position(r)])
    words = data[shape[0] * three // 6 :][: shape[0] * three // 24].view("<u2")
    word = int(words[(part * b.bk // 24 + t // 8) * 16 + r % 16])
    return byte & 15 if t % 2 else byte >> 4, word >> (15 - (2 * (t % 8) + r // 16)) & 1


def tl2_pair(data: np.ndarray, shape: tuple[int, int], b: Blocks, row: int, pair: int) -> int:
    """The index of a pair of the columns that are left over."""
    two = shape[1] % b.bk
    start = shape[0] * (shape[1] - two) * 5 // 24
    mb, s, r = row // b.bm, row % b.bm // 32, row % 32
    part = (mb * two // 32 + pair // 16) * b.bm // 32 + s
    byte = int(data[start + (part * 8 + pair % 16 // 2) * 32 + tl2_position(r)])
    return byte & 15 if pair % 2 else byte >> 4


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((64, 32), Blocks(32, 16, 32)),
        ((128, 24), Blocks(64, 12, 64)),
        ((640, 384), Blocks(320, 128, 64)),
        ((320, 128), Blocks(160, 64, 32)),
    ],
)
def test_tl1_has_each_pair_where_the_format_says(shape: tuple[int, int], blocks: Blocks) -> None:
    codes = random_codes(*shape)
    data = tl1.pack(codes, 0.1, blocks)
    assert data.size == codes.size // 4 + 32
    assert data[codes.size // 4 :].tobytes() == struct.pack("<f28x", 0.1)
    for row in range(0, shape[0], 3):
        for pair in range(shape[1] // 2):
            a, b = (int(code) - 1 for code in codes[row, 2 * pair : 2 * pair + 2])
            assert tl1_index(data, shape, blocks, row, pair) == 3 * a + b + 4


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((64, 288), Blocks(32, 24, 32)),
        ((96, 320), Blocks(96, 48, 32)),
        ((320, 320), Blocks(160, 96, 32)),
        ((128, 384), Blocks(64, 192, 32)),
        ((32, 256), Blocks(32, 264, 32)),
    ],
)
def test_tl2_has_each_triple_and_pair_where_the_format_says(
    shape: tuple[int, int], blocks: Blocks
) -> None:
    codes = random_codes(*shape)
    data = tl2.pack(codes, 0.1, blocks)
    weights = codes.astype(int) - 1
    two = shape[1] % blocks.bk
    used = shape[0] * (shape[1] - two) * 5 // 24 + shape[0] * two // 4
    padded = -(-((shape[1] - 256) * shape[0] // 3 * 5 // 8 + 64 * shape[0]) // 32) * 32
    assert data.size == padded + 32
    assert not data[used:padded].any()
    assert data[padded:].tobytes() == struct.pack("<f28x", 0.1)
    for row in range(0, shape[0], 3):
        for triple in range((shape[1] - two) // 3):
            a, b, c = weights[row, 3 * triple : 3 * triple + 3]
            v = 9 * a + 3 * b + c
            assert tl2_triple(data, shape, blocks, row, triple) == (abs(v), v < 0)
        for pair in range(two // 2):
            a, b = weights[row, shape[1] - two + 2 * pair :][:2]
            assert tl2_pair(data, shape, blocks, row, pair) == 3 * a + b + 4


@st.composite
def tl1_tensors(draw: st.DrawFn) -> tuple[tuple[int, int], Blocks]:
    bmm = draw(st.sampled_from([32, 64]))
    bm, bk = bmm * draw(st.integers(1, 3)), 256 // bmm * draw(st.integers(1, 9))
    return (bm * draw(st.integers(1, 3)), bk * draw(st.integers(1, 4))), Blocks(bm, bk, bmm)


@st.composite
def tl2_tensors(draw: st.DrawFn) -> tuple[tuple[int, int], Blocks]:
    bm, bk = 32 * draw(st.integers(1, 3)), 24 * draw(st.integers(2, 8))
    rests = [n for n in range(0, 256, 32) if n < bk]
    columns = -(-256 // bk) * bk + draw(st.sampled_from(rests))
    return (bm * draw(st.integers(1, 3)), columns), Blocks(bm, bk, 32)


tensors = st.one_of(
    st.tuples(st.just("TL1"), tl1_tensors()), st.tuples(st.just("TL2"), tl2_tensors())
)


@given(tensors, st.tuples(st.integers(0, 300), st.integers(0, 300)), st.integers(0, 99))
@some
def test_any_rows_come_back(
    tensor: tuple[TLName, tuple[tuple[int, int], Blocks]], cut: tuple[int, int], seed: int
) -> None:
    name, (shape, blocks) = tensor
    codes = random_codes(*shape, seed)
    data = CODECS[name].pack(codes, 0.5, blocks)
    start, stop = sorted(min(at, shape[0]) for at in cut)
    part = CODECS[name].unpack_rows(data, shape, blocks, start, stop)
    np.testing.assert_array_equal(part, codes[start:stop])
    assert part.dtype == np.uint8
    assert part.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "shape"), [(name, shape) for name, shapes in PRESETS.items() for shape in shapes]
)
def test_presets_fit_their_shapes(name: TLName, shape: tuple[int, int]) -> None:
    """The first rows of such a tensor are where the format says, and come back."""
    codec, blocks = CODECS[name], PRESETS[name][shape]
    codec.check_blocks(shape, blocks)
    few = (blocks.bm, shape[1])
    codes = random_codes(*few)
    data = codec.pack(codes, 2.0, blocks)
    np.testing.assert_array_equal(codec.unpack_rows(data, few, blocks, 0, few[0]), codes)
    weights = codes.astype(int) - 1
    for row, number in np.random.default_rng(1).integers(0, (few[0], shape[1] // 4), (50, 2)):
        if name == "TL1":
            pair = weights[row, 2 * number :][:2] @ [3, 1]
            assert tl1_index(data, few, blocks, row, number) == pair + 4
        else:
            v = weights[row, 3 * number :][:3] @ [9, 3, 1]
            assert tl2_triple(data, few, blocks, row, number) == (abs(v), v < 0)
    assert codec.read_scale(data, few if name == "TL2" else codes.size) == 2.0


def test_indexes_that_stand_for_nothing_are_refused_when_their_rows_are_read() -> None:
    blocks, shape = Blocks(32, 48, 32), (64, 320)
    for name, at, wrong in (("TL1", 0, 9), ("TL2", 0, 14), ("TL2", 64 * 288 * 5 // 24, 9)):
        b = Blocks(32, 64, 32) if name == "TL1" else blocks
        codec = CODECS[name]  # type: ignore[index]
        for byte in (wrong, wrong << 4):
            data = codec.pack(random_codes(*shape), 1.0, b)
            data[at] = byte
            codec.unpack_rows(data, shape, b, 32, 64)
            with pytest.raises(InvalidArgumentError, match="no ternary codes"):
                codec.unpack_rows(data, shape, b, 0, 32)


@pytest.mark.parametrize(
    ("name", "shape", "blocks", "rule"),
    [
        ("TL1", (64, 64), Blocks(32, 64, 16), "32 or 64 rows"),
        ("TL1", (64, 64), Blocks(48, 64, 32), "bm 48 is no multiple of 32"),
        ("TL1", (64, 64), Blocks(64, 4, 32), "bk 4 is no multiple of 8"),
        ("TL1", (96, 64), Blocks(64, 64, 32), "rows 96 is no multiple of 64"),
        ("TL1", (64, 96), Blocks(64, 64, 32), "columns 96 is no multiple of 64"),
        ("TL2", (64, 288), Blocks(64, 96, 64), "have 32 rows"),
        ("TL2", (64, 288), Blocks(48, 96, 32), "bm 48 is no multiple of 32"),
        ("TL2", (64, 288), Blocks(64, 16, 32), "bk 16 is no multiple of 24"),
        ("TL2", (64, 304), Blocks(64, 96, 32), "rest of columns 16 is no multiple of 32"),
        ("TL2", (96, 288), Blocks(64, 96, 32), "rows 96 is no multiple of 64"),
        ("TL2", (64, 96), Blocks(64, 96, 32), "at least 256 columns"),
        ("TL2", (64, 384), Blocks(64, 480, 32), "no room for 384 columns"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(
    name: TLName, shape: tuple[int, int], blocks: Blocks, rule: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=rule):
        CODECS[name].pack(random_codes(*shape), 1.0, blocks)
    with pytest.raises(InvalidArgumentError, match=rule):
        CODECS[name].unpack_rows(np.zeros(10**5, np.uint8), shape, blocks, 0, 1)


@pytest.mark.parametrize("name", CODECS)
def test_arguments_that_do_not_fit_the_tensor_are_refused(name: TLName) -> None:
    codec, shape, blocks = CODECS[name], (64, 384), Blocks(64, 192, 32)
    data = codec.pack(random_codes(*shape), 1.0, blocks)
    with pytest.raises(InvalidArgumentError, match=f"is a flat array of {data.size} bytes"):
        codec.unpack_rows(data[:-1], shape, blocks, 0, 1)
    with pytest.raises(InvalidArgumentError, match="outside 0 to 64"):
        codec.unpack_rows(data, shape, blocks, 0, 65)
    with pytest.raises(InvalidArgumentError, match="0, 1 or 2"):
        codec.pack(np.full(shape, 3, np.uint8), 1.0, blocks)
    for scale in (float("nan"), float("inf"), -1.0, 1e39):
        with pytest.raises(InvalidArgumentError, match="scale"):
            codec.pack(random_codes(*shape), scale, blocks)
    data[-32:-28] = 0xFF
    with pytest.raises(InvalidArgumentError, match="scale"):
        codec.read_scale(data, shape if name == "TL2" else 64 * 384)


def test_a_config_is_read_as_it_was_written() -> None:
    assert read_config(write_config(PRESETS["TL1"])) == PRESETS["TL1"]
    assert read_config("") == {}


def test_a_config_of_bitnet_cpp_is_read() -> None:
    text = "[Kernels_0]\nm = 3200\nk = 8640\nbm = 160\nbk = 96\nbmm = 32\n\n[Kernels_1]\n"
    text += "M=3200\nK=3200\nBM=320\nBK=96\nBMM=32\n"
    assert read_config(text) == {
        (3200, 8640): Blocks(160, 96, 32),
        (3200, 3200): Blocks(320, 96, 32),
    }


SECTION = "[Kernels_{}]\nm = 64\nk = 64\nbm = {}\nbk = 64\nbmm = 32\n"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("m = 1\n", "no section headers"),
        ("[Kernels_0]\nm" + " " * 60_000 + "x\n", "a line has more than 1024 characters"),
        ("[Kernels_0]\n" + ("m" + " " * 1000 + "x\n") * 60, "parsing errors"),
        (SECTION.format(0, 64) * 2, "already exists"),
        ("[Kernels_0]\nm = 64\n", r"\[Kernels_0\] k is None"),
        (SECTION.format(0, "-1"), r"\[Kernels_0\] bm is '-1', not a positive number"),
        (SECTION.format(0, "0"), "bm is 0"),
        (SECTION.format(0, "1" * 1000), "not a positive number"),
        (SECTION.format(0, "%(k)s"), "not a positive number"),
        (SECTION.format(0, "²"), "not a positive number"),
        (SECTION.format(0, 64) + SECTION.format(1, 32), r"\[Kernels_1\] gives other sizes"),
    ],
)
def test_configs_that_are_none_are_refused(text: str, rule: str) -> None:
    start = time.thread_time()
    with pytest.raises(InvalidArgumentError, match=rule):
        read_config(text)
    assert time.thread_time() - start < 1
