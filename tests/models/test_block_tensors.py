"""Models in TQ1_0, TQ2_0, IQ1_BN and IQ2_BN: codes and scales as they were, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert
from bitnet.errors import InvalidModelError, ModelFileError, UnsupportedModelError
from bitnet.formats.gguf_writer import TensorData
from bitnet.models import open_checkpoint
from bitnet.models.block_tensors import BlockTensor
from bitnet.program.reference import logits_reference
from bitnet.quant import iq_bn, tq
from tests.kernels.harness import assert_same_bits

Maker = Callable[..., Any]
Array = np.ndarray

IDS = [5, 3, 7, 1, 9]
KINDS = ("TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN")


def encode(kind: str, codes: Array, scales: Array) -> Array:
    """Rows of codes with a scale each; ggml's own quantiser where it is in the gguf package."""
    if kind.startswith("TQ"):
        weights = (codes.astype(np.float32) - 1) * scales[:, None]
        return gguf.quants.quantize(weights, gguf.GGMLQuantizationType[kind])
    return iq_bn.pack(kind, codes, scales)


def write(
    maker: Maker, model: Any, path: Path, kind: str, scales_of: Callable[[float, int], Array]
) -> Path:
    """A model whose linear layers are of type `kind`."""

    def change(tensors: list[TensorData]) -> list[TensorData]:
        for i, tensor in enumerate(tensors):
            if tensor.name in model.codes:
                codes = model.codes[tensor.name]
                scales = scales_of(model.scales[tensor.name], len(codes))
                tensors[i] = TensorData(
                    tensor.name, codes.shape, kind, encode(kind, codes, scales.astype(np.float32))
                )
        return tensors

    return maker(model, path, change=change)


def model_of(tiny: Maker) -> Any:
    model = tiny("bitnet-b1.58", hidden_size=256, head_dim=64)
    model.codes["blk.0.attn_q.weight"][3] = 1  # a row of zeros, whose scale is 0 in a file
    model.codes["blk.1.ffn_up.weight"][:, :256] = 1
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_with_one_scale_is_the_same_as_in_i2_s(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path, kind: str
) -> None:
    model = model_of(tiny)
    path = write(write_gguf_model, model, tmp_path / "m.gguf", kind, lambda s, n: np.full(n, s))
    with open_checkpoint(path) as checkpoint:
        for name, codes in model.codes.items():
            tensor = checkpoint.ternary(name)
            zero = kind.startswith("TQ") and not (codes != 1).any()
            assert tensor.scale == (0 if zero else model.scales[name])
            assert_same_bits(tensor.codes(0, len(codes)), codes)
            assert_same_bits(tensor.codes(2, 5), codes[2:5])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_may_have_scales_of_their_own(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path, kind: str
) -> None:
    model = model_of(tiny)

    def scales(scale: float, rows: int) -> Array:
        return (scale * (1 + np.arange(rows) % 8 / 8)).astype(np.float16)

    path = write(write_gguf_model, model, tmp_path / "m.gguf", kind, scales)
    with open_checkpoint(path) as checkpoint:
        found = checkpoint.ternary("blk.0.attn_k.weight").scale
        assert found.tolist() == scales(model.scales["blk.0.attn_k.weight"], 128).tolist()
        expected = logits_reference(checkpoint.spec, checkpoint, np.array(IDS), "f16")
    with bitnet.load(path, threads=2) as loaded:
        assert_same_bits(loaded.logits(IDS), expected)
    convert(path, tmp_path / "native.gguf")
    with bitnet.load(tmp_path / "native.gguf") as loaded:
        assert_same_bits(loaded.logits(IDS), expected)
    with open_checkpoint(tmp_path / "native.gguf") as checkpoint:
        found = checkpoint.ternary("blk.0.attn_k.weight").scale
        assert found.tolist() == scales(model.scales["blk.0.attn_k.weight"], 128).tolist()


def tensor(kind: str, data: Array, factor: float = 1.0) -> BlockTensor:
    shape = (len(data), 256)
    return BlockTensor("m.gguf", "w", shape, lambda: data.reshape(-1), factor, kind=kind)


def test_latent_weights_in_tq_blocks_are_refused_for_what_they_are() -> None:
    weights = np.random.default_rng(1).standard_normal((2, 512)).astype(np.float32)
    data = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.TQ2_0)
    latent = BlockTensor("m.gguf", "w", (2, 512), lambda: data.reshape(-1), kind="TQ2_0")
    with pytest.raises(UnsupportedModelError, match="row 0 has blocks with different scales, from"):
        latent.scale  # noqa: B018


@pytest.mark.parametrize("scale", [-1.0, np.inf, np.nan])
@pytest.mark.parametrize("kind", KINDS)
def test_scales_must_be_scales(kind: str, scale: float) -> None:
    codes = np.ones((2, 256), np.uint8)
    if kind.startswith("TQ"):
        data = tq.pack(kind, codes, np.array([[1], [scale]], np.float16))
    else:
        data = iq_bn.pack(kind, codes, np.ones(2, np.float32))
        raw = np.array([scale], iq_bn.SCALE_DTYPES[kind]).view(np.uint8)
        data[1, : raw.size] = raw
    with pytest.raises(ModelFileError, match=r"tensor w: .*scale"):
        tensor(kind, data).scale  # noqa: B018


def test_a_factor_multiplies_every_scale() -> None:
    data = iq_bn.pack("IQ2_BN", np.ones((2, 256), np.uint8), np.array([1, 3], np.float32))
    assert tensor("IQ2_BN", data, 0.5).scale.tolist() == [0.5, 1.5]
    with pytest.raises(InvalidModelError, match="scale of row 1 is inf"):
        tensor("IQ2_BN", data, 2e38).scale  # noqa: B018


def test_a_code_3_is_refused_with_the_name_of_the_tensor() -> None:
    data = iq_bn.pack("IQ2_BN", np.ones((2, 256), np.uint8), np.ones(2, np.float32))
    data[1, 9] = 0xFF
    with pytest.raises(InvalidModelError, match=r"m\.gguf: tensor w: an IQ2_BN code is 3"):
        tensor("IQ2_BN", data).codes(0, 2)
    with pytest.raises(InvalidModelError, match="rows 1 to 3 are outside 0 to 2"):
        tensor("IQ2_BN", data).codes(1, 3)
