"""`verify_model` reads everything, and names what is not sound."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bitnet.checkup import verify_model
from bitnet.conversion import convert
from bitnet.errors import InvalidModelError
from bitnet.formats.gguf_writer import TensorData
from bitnet.quant import q6_k, q8_0
from tests.checkup.conftest import TOKENIZER, Array, rewrite
from tests.models.conftest import CONVENTIONS, make_tiny, write_tiny_folder, write_tiny_gguf


def test_a_sound_file_has_no_problems_and_a_hash(path: Path) -> None:
    shares: list[float] = []
    outcome = verify_model(path, shares.append)
    assert outcome.problems == []
    assert outcome.sha256 == {path: hashlib.sha256(path.read_bytes()).hexdigest()}
    assert outcome.n_tensors == 14 + 10
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_sound_folders_have_no_problems(tmp_path: Path, convention: str) -> None:
    kind = "F32"
    folder = write_tiny_folder(make_tiny("bitnet-b1.58"), tmp_path / "model", convention, kind=kind)
    assert verify_model(folder).problems == []


@pytest.mark.parametrize("layout", ["b3", "2bit"])
def test_bytes_of_native_files_that_are_no_codes_are_found(
    path: Path, tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "native.gguf"
    convert(path, out, layout=layout)
    assert verify_model(out).problems == []
    name = f"blk.1.down.{layout}"

    def spoil(other: str, data: Array) -> Array:
        if other == name:
            data[5] = 0xFF
        return data

    (problem,) = verify_model(rewrite(out, {}, spoil)).problems
    assert f"tensor {name}: " in problem


def set_last(data: Array, dtype: str, value: float) -> Array:
    data.view(dtype)[-1] = value
    return data


@pytest.mark.parametrize(
    ("name", "spoil", "problem"),
    [
        (
            "blk.0.attn_norm.weight",
            lambda d: set_last(d, "<f4", np.nan),
            "holds nan, first in row 127",
        ),
        ("token_embd.weight", lambda d: set_last(d, "<f4", np.inf), "holds inf, first in row 39"),
        ("output_norm.weight", lambda d: set_last(d, "<f4", -np.inf), "holds -inf"),
        ("blk.1.ffn_up.weight", lambda d: d | np.uint8(0xC0), "code in rows 0 to 256 is 3"),
        ("blk.1.ffn_up.weight", lambda d: d & 0 | 0x7F, "scale must be"),
    ],
)
def test_what_is_not_sound_is_named(path: Path, name: str, spoil: object, problem: str) -> None:
    def change(other: str, data: Array) -> Array:
        if other != name:
            return data
        spoilt = spoil(data)  # type: ignore[operator]
        if "scale" in problem:
            spoilt = data.copy()
            spoilt[-32:-28].view("<f4")[:] = np.nan
        elif "code" in problem:
            spoilt[-32:] = data[-32:]
        return spoilt

    (found,) = verify_model(rewrite(path, {}, change)).problems
    assert f"tensor {name}: " in found
    assert problem in found


def test_all_problems_are_told(path: Path) -> None:
    def change(name: str, data: Array) -> Array:
        return set_last(data, "<f4", np.nan) if "norm" in name else data

    assert len(verify_model(rewrite(path, {}, change)).problems) == 9


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K"])
def test_scales_of_quantised_tables_are_looked_at(tmp_path: Path, kind: str) -> None:
    model = make_tiny("llama", hidden_size=256, head_dim=64)
    codec = q8_0 if kind == "Q8_0" else q6_k
    table = codec.quantize(model.dense["output.weight"])

    def change(tensors: list[TensorData]) -> list[TensorData]:
        return [
            TensorData(t.name, t.shape, kind, table) if t.name == "output.weight" else t
            for t in tensors
        ]

    path = write_tiny_gguf(model, tmp_path / "m.gguf", metadata=TOKENIZER, change=change)
    assert verify_model(path).problems == []
    table[7, 0 if kind == "Q8_0" else 208 :][:2] = [0, 0x7C]  # infinity
    write_tiny_gguf(model, path, metadata=TOKENIZER, change=change)
    (problem,) = verify_model(path).problems
    assert "tensor output.weight: holds" in problem
    assert problem.endswith("first in row 7")


def test_what_cannot_be_loaded_is_an_error(path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"blk\.2\.attn_q"):
        verify_model(rewrite(path, {"bitnet-b1.58.block_count": 3}))
