"""TQ1_0 and TQ2_0: the bytes of the gguf package, and nothing lost."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import tq

KINDS = ("TQ1_0", "TQ2_0")
kinds = st.sampled_from(KINDS)


def random_codes(seed: int, rows: int = 3, blocks: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (rows, blocks * 256), np.uint8)
    codes[:, ::256] = 2  # so that the largest weight of each block is its scale
    return codes, rng.uniform(0.01, 10, (rows, blocks)).astype(np.float16)


@given(kinds, st.integers(0, 2**32 - 1))
def test_packing_gives_the_bytes_of_the_gguf_package(kind: tq.Kind, seed: int) -> None:
    codes, d = random_codes(seed)
    weights = (codes.astype(np.float32) - 1) * np.repeat(d.astype(np.float32), 256, axis=1)
    expected = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(tq.pack(kind, codes, d), expected)


@given(kinds, st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3))
def test_unpacking_gives_back_what_was_packed(
    kind: tq.Kind, seed: int, rows: int, blocks: int
) -> None:
    codes, d = random_codes(seed, rows, blocks)
    found, scales = tq.unpack(kind, tq.pack(kind, codes, d))
    np.testing.assert_array_equal(found, codes)
    np.testing.assert_array_equal(scales, d)


@given(st.integers(0, 2**32 - 1))
def test_any_bytes_of_tq1_0_are_read_as_the_gguf_package_reads_them(seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, (2, 108), np.uint8)
    data[:, 52::54], data[:, 53::54] = 0, 0x3C  # a scale of 1
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType.TQ1_0)
    codes, _ = tq.unpack("TQ1_0", data)
    np.testing.assert_array_equal(codes.astype(np.float32) - 1, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_each_code_has_its_place(kind: tq.Kind) -> None:
    one = np.ones((1, 1), np.float16)
    for place in range(256):
        codes = np.ones((1, 256), np.uint8)
        codes[0, place] = 2
        data = tq.pack(kind, codes, one)
        expected = np.zeros(256, np.float32)
        expected[place] = 1
        found = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
        np.testing.assert_array_equal(found[0], expected)


def test_a_code_3_is_refused() -> None:
    data = tq.pack("TQ2_0", *random_codes(0))
    data[1, 70] |= 3 << 4
    with pytest.raises(InvalidArgumentError, match="TQ2_0 code is 3"):
        tq.unpack("TQ2_0", data)


@pytest.mark.parametrize("kind", KINDS)
def test_other_shapes_are_refused(kind: tq.Kind) -> None:
    codes, d = random_codes(0)
    for wrong in ((codes[:, 1:], d), (codes, d[:, 1:]), (codes, d[1:])):
        with pytest.raises(InvalidArgumentError, match=f"{kind} needs rows of a multiple of 256"):
            tq.pack(kind, *wrong)
