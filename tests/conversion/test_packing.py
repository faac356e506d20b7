"""Packing by all threads gives what the codecs give of the whole tensor, for any shape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.conversion import packing
from bitnet.conversion.packing import pack_tensor
from bitnet.models.block_tensors import BlockTensor
from bitnet.models.ternary_tensors import I2STensor, TLTensor
from bitnet.program.workers import Workers
from bitnet.quant import i2s, iq_bn, tl1, tl2, tq
from bitnet.quant.tl_config import Blocks
from tests.program.random_models import Codes

BLOCK = {"I2_S": 128, "TQ1_0": 256, "TQ2_0": 256, "IQ1_BN": 64, "IQ2_BN": 64}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    team = Workers(2)
    yield team
    team.close()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_WEIGHTS_AT_ONCE", 5000)


def codes(data: st.DataObject, rows: int, columns: int) -> np.ndarray:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    return random.integers(0, 3, (rows, columns), np.uint8)


def packed(kind: Any, tensor: Any, workers: Workers, blocks: Blocks | None = None) -> np.ndarray:
    return pack_tensor(kind, tensor, blocks, Path("m.gguf"), workers)


@pytest.mark.parametrize("kind", BLOCK)
@given(data=st.data())
def test_any_number_of_rows_of_whole_blocks(workers: Workers, kind: Any, data: Any) -> None:
    rows = data.draw(st.integers(1, 150))
    columns = BLOCK[kind] * data.draw(st.integers(1, 5))
    values = codes(data, rows, columns)
    scale = 0.25
    out = packed(kind, Codes("w", scale, values), workers)
    if kind == "I2_S":
        expected = i2s.pack(values, scale)
        again: Any = I2STensor("m.gguf", "w", (rows, columns), lambda: out)
    else:
        if kind.startswith("TQ"):
            d = np.full((rows, columns // 256), scale, np.float16)
            expected = tq.pack(kind, values, d).reshape(-1)
        else:
            expected = iq_bn.pack(kind, values, np.full(rows, scale, np.float32)).reshape(-1)
        again = BlockTensor("m.gguf", "w", (rows, columns), lambda: out, kind=kind)
    assert out.tobytes() == expected.tobytes()
    assert again.scale == scale
    assert again.codes(0, rows).tobytes() == values.tobytes()


@given(data=st.data())
def test_tl1_of_any_blocks(workers: Workers, data: Any) -> None:
    bmm = data.draw(st.sampled_from([32, 64]))
    bm, bk = bmm * data.draw(st.integers(1, 3)), 256 // bmm * data.draw(st.integers(1, 8))
    blocks = Blocks(bm, bk, bmm)
    rows, columns = bm * data.draw(st.integers(1, 4)), bk * data.draw(st.integers(1, 9))
    values = codes(data, rows, columns)
    out = packed("TL1", Codes("w", 0.1, values), workers, blocks)
    assert out.tobytes() == tl1.pack(values, 0.1, blocks).tobytes()


@given(data=st.data())
def test_tl2_of_any_blocks_also_from_other_blocks(workers: Workers, data: Any) -> None:
    bk = 24 * data.draw(st.sampled_from([1, 4, 8]))
    pairs = data.draw(st.sampled_from(range(0, bk, 32)))
    columns = pairs + bk * (-(-256 // bk) + data.draw(st.integers(0, 3)))
    rows = math.lcm(32, 96) * data.draw(st.integers(1, 3))
    values = codes(data, rows, columns)
    before, after = Blocks(96, bk, 32), Blocks(32, bk, 32)
    out = packed("TL2", Codes("w", 0.1, values), workers, before)
    assert out.tobytes() == tl2.pack(values, 0.1, before).tobytes()
    shape = (rows, columns)
    tensor = TLTensor("m.gguf", "w", shape, lambda: out, kind="TL2", blocks=before)
    other = packed("TL2", tensor, workers, after)
    assert other.tobytes() == tl2.pack(values, tensor.scale, after).tobytes()
