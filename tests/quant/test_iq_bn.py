"""IQ1_BN and IQ2_BN: nothing lost, and the bytes that ik_llama.cpp writes, worked out in loops."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import iq_bn

KINDS = ("IQ1_BN", "IQ2_BN")
kinds = st.sampled_from(KINDS)


def random_row(seed: int, rows: int = 3, blocks: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.01, 10, rows).astype(np.float16).astype(np.float32)
    return rng.integers(0, 3, (rows, blocks * 64), np.uint8), scales


def fraction(number: int) -> int:
    return -(-number * 256 // 243)


def iq1_bn(codes: list[int], scale: float) -> bytes:
    out = [*struct.pack("<e", scale)]
    for start in range(0, len(codes), 64):
        last = 0
        for group in range(4):
            sixteen = codes[start + 16 * group :][:16]
            fives = (sixteen[0:5], sixteen[5:10], sixteen[10:15])
            out += [fraction(sum(3**j * c for j, c in enumerate(five))) for five in fives]
            last += 3**group * sixteen[15]
        out.append(fraction(last))
    return bytes(out)


def iq2_bn(codes: list[int], scale: float) -> bytes:
    out = [*struct.pack("<f", scale)]
    for start in range(0, len(codes), 64):
        block = codes[start : start + 64]
        out += [sum(block[j + 16 * i] << 2 * i for i in range(4)) for j in range(16)]
    return bytes(out)


@given(st.integers(0, 2**32 - 1))
def test_packing_gives_the_bytes_of_the_reference(seed: int) -> None:
    codes, scales = random_row(seed)
    for kind, reference in (("IQ1_BN", iq1_bn), ("IQ2_BN", iq2_bn)):
        packed = iq_bn.pack(kind, codes, scales)
        for row in range(len(codes)):
            assert packed[row].tobytes() == reference(codes[row].tolist(), float(scales[row]))


@given(kinds, st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3))
def test_unpacking_gives_back_what_was_packed(
    kind: iq_bn.Kind, seed: int, rows: int, blocks: int
) -> None:
    codes, scales = random_row(seed, rows, blocks)
    found, row_scales = iq_bn.unpack(kind, iq_bn.pack(kind, codes, scales))
    np.testing.assert_array_equal(found, codes)
    np.testing.assert_array_equal(row_scales, scales)


def test_any_byte_of_iq1_bn_gives_codes() -> None:
    data = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 15, axis=1)
    codes, _ = iq_bn.unpack("IQ1_BN", data)
    for byte in range(256):
        digits = [(byte * power % 256) * 3 >> 8 for power in (81, 27, 9, 3, 1)]
        assert codes[byte, :5].tolist() == digits
        assert codes[byte, 15::16].tolist() == digits[:4]


def test_a_code_3_is_refused() -> None:
    data = iq_bn.pack("IQ2_BN", *random_row(0))
    data[1, 20] |= 3 << 4
    with pytest.raises(InvalidArgumentError, match="IQ2_BN code is 3"):
        iq_bn.unpack("IQ2_BN", data)


def test_what_cannot_be_held_is_refused() -> None:
    codes, scales = random_row(0)
    for wrong in ((codes[:, 1:], scales), (codes, scales[1:])):
        with pytest.raises(InvalidArgumentError, match="IQ1_BN needs rows of a multiple of 64"):
            iq_bn.pack("IQ1_BN", *wrong)
    for scale in (1 / 3, 1e6):
        with pytest.raises(InvalidArgumentError, match="IQ1_BN cannot hold these scales"):
            iq_bn.pack("IQ1_BN", codes, np.full(3, scale, np.float32))
