"""Q8_0 and Q6_K beside the gguf package, and the error of quantising."""

from __future__ import annotations

from types import ModuleType

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError
from bitnet.quant import q6_k, q8_0

Array = np.ndarray
CODECS = [(q8_0, gguf.GGMLQuantizationType.Q8_0), (q6_k, gguf.GGMLQuantizationType.Q6_K)]
codecs = st.sampled_from(CODECS)


def rms_error(approximate: Array, exact: Array) -> float:
    return float(np.sqrt(np.square(approximate.astype(float) - exact).mean()))


@given(codecs, st.integers(0, 2**32 - 1))
def test_any_blocks_are_read_as_gguf_reads_them(
    codec: tuple[ModuleType, gguf.GGMLQuantizationType], seed: int
) -> None:
    module, qtype = codec
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (3, 2 * module.BLOCK_BYTES), np.uint8)
    with np.errstate(invalid="ignore"):  # scales that are not numbers
        expected = gguf.quants.dequantize(blocks, qtype)
        values = module.dequantize(blocks)
    np.testing.assert_array_equal(values, expected)


def test_unpacking_q6_k_loses_nothing() -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (5, 420), np.uint8)
    np.testing.assert_array_equal(q6_k.pack(*q6_k.unpack(blocks)), blocks)


@pytest.mark.parametrize(("module", "qtype"), CODECS)
def test_what_was_quantised_once_stays_the_same(
    module: ModuleType, qtype: gguf.GGMLQuantizationType
) -> None:
    x = np.random.default_rng(2).standard_normal((4, 512)).astype(np.float32)
    once = gguf.quants.dequantize(module.quantize(x), qtype)
    assert rms_error(gguf.quants.dequantize(module.quantize(once), qtype), once) < 2e-3


@pytest.mark.parametrize("scale", [1e-4, 0.02, 1.0, 1e4])
def test_the_error_of_q8_0_is_no_larger_than_of_ggml(scale: float) -> None:
    x = np.random.default_rng(3).standard_normal((64, 256)).astype(np.float32) * np.float32(scale)
    ours = rms_error(q8_0.dequantize(q8_0.quantize(x)), x)
    blocks = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0)
    assert ours <= rms_error(q8_0.dequantize(blocks), x)


def ggml_q6_k(x: Array) -> Array:
    """One block of 256 the way ggml's reference quantises it, weight by weight; dequantised."""

    def nearest(v: float) -> int:
        return int(np.rint(np.float32(v)))

    def sub_block(w: Array) -> float:
        most = max(w, key=abs)
        best, scale = 0.0, 0.0
        for i in [0, *range(-9, 0), *range(1, 10)]:
            inverse = -(32 + 0.1 * i) / most
            codes = [min(31, max(-32, nearest(inverse * v))) for v in w]
            xl = sum(v**3 * c for v, c in zip(w, codes, strict=True))
            ll = sum(v**2 * c * c for v, c in zip(w, codes, strict=True))
            if ll > 0 and xl * xl > best * ll:
                scale, best = xl / ll, xl * xl / ll
        return scale

    parts = x.reshape(16, 16).astype(float)
    scales = [sub_block(w) for w in parts]
    inverse = -128 / max(scales, key=abs)
    d = float(np.float16(1 / inverse))
    out = []
    for w, scale in zip(parts, scales, strict=True):
        step = d * min(127, nearest(inverse * scale))
        out.append([step * min(31, max(-32, nearest(v / step))) if step else 0.0 for v in w])
    return np.array(out).reshape(-1)


def test_the_error_of_q6_k_is_that_of_ggml() -> None:
    x = np.random.default_rng(4).standard_normal((12, 256)).astype(np.float32) * np.float32(0.02)
    ours = rms_error(q6_k.dequantize(q6_k.quantize(x)), x)
    assert ours <= 1.001 * rms_error(np.stack([ggml_q6_k(row) for row in x]), x)


@pytest.mark.parametrize(("module", "_"), CODECS)
def test_zeros_and_tiny_numbers_become_zeros(module: ModuleType, _: object) -> None:
    x = np.zeros((2, 256), np.float32)
    x[1] = 1e-30
    assert not module.dequantize(module.quantize(x)).any()


@pytest.mark.parametrize(("module", "_"), CODECS)
@pytest.mark.parametrize("wrong", [np.inf, np.nan, 3e38])
def test_what_cannot_be_held_is_refused(module: ModuleType, _: object, wrong: float) -> None:
    x = np.ones((1, 256), np.float32)
    x[0, 100] = wrong
    with pytest.raises(InvalidArgumentError, match="too large or not finite"):
        module.quantize(x)
    with pytest.raises(InvalidArgumentError, match="multiple of"):
        module.quantize(x[:, :40])
