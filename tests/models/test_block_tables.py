"""Embeddings and output heads in Q8_0 and Q6_K."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.errors import UnsupportedModelError
from bitnet.formats.gguf_writer import TensorData
from bitnet.models.checkpoint import open_checkpoint
from bitnet.quant import q6_k, q8_0

Maker = Callable[..., Any]
CODECS = {"Q8_0": q8_0, "Q6_K": q6_k}


def with_type(tensor: TensorData, kind: str) -> TensorData:
    data = CODECS[kind].quantize(np.asarray(tensor.data))
    return TensorData(tensor.name, tensor.shape, kind, data)


@pytest.mark.parametrize("kinds", [("Q8_0", "Q6_K"), ("Q6_K", "Q8_0")])
def test_tables_are_handed_out_as_they_are_stored(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    model = tiny("llama", hidden_size=256, head_dim=64)
    types = dict(zip(("token_embd.weight", "output.weight"), kinds, strict=True))

    def change(tensors: list[TensorData]) -> list[TensorData]:
        return [with_type(t, types[t.name]) if t.name in types else t for t in tensors]

    path = write_gguf_model(model, tmp_path / "m.gguf", change=change)
    with open_checkpoint(path) as checkpoint:
        for name, kind in types.items():
            tensor, codec = checkpoint.dense(name), CODECS[kind]
            blocks = codec.quantize(model.dense[name])
            assert tensor.kind == kind.lower()
            np.testing.assert_array_equal(tensor.data, blocks)
            np.testing.assert_array_equal(tensor.float32(), codec.dequantize(blocks))


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.0.attn_q.weight"])
def test_other_tensors_must_not_be_blocks(
    tiny: Maker, write_gguf_model: Maker, tmp_path: Path, name: str
) -> None:
    def change(tensors: list[TensorData]) -> list[TensorData]:
        return [
            TensorData(t.name, t.shape, "Q8_0", bytes(int(np.prod(t.shape)) // 32 * 34))
            if t.name == name
            else t
            for t in tensors
        ]

    path = write_gguf_model(tiny("llama"), tmp_path / "m.gguf", change=change)
    with pytest.raises(UnsupportedModelError, match=f"{name}: type Q8_0 is not supported here"):
        open_checkpoint(path)
