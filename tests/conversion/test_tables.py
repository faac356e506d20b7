"""Embeddings and heads in other types: the rest of the file stays, tied heads stay tied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert, quantize_embeddings
from bitnet.errors import (
    InvalidArgumentError,
    UnsupportedModelError,
    UnsupportedOperationError,
)
from bitnet.formats.gguf import GGUFFile
from bitnet.models import open_checkpoint
from bitnet.quant import q6_k, q8_0
from tests.conversion.conftest import make_model
from tests.kernels.harness import assert_same_bits
from tests.models.conftest import TinyModel, make_tiny, write_tiny_folder, write_tiny_gguf

IDS = [5, 3, 33, 1, 9]
EMBEDDING, HEAD = "token_embd.weight", "output.weight"


def as_type(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "f16":
        return values.astype(np.float16)
    return (q8_0 if kind == "q8_0" else q6_k).quantize(values)


def untied(**changes: Any) -> TinyModel:
    return make_tiny("llama", hidden_size=256, head_dim=64, **changes)


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q6_k"])
def test_only_the_embedding_changes(kind: Any, written: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    for source in (written["tl2"], written["native"]):
        quantize_embeddings(source, out, kind, overwrite=True)
        with GGUFFile(source) as old, GGUFFile(out) as new:
            assert repr(new.metadata.stored) == repr(old.metadata.stored)
            assert list(new.tensors) == list(old.tensors)
            for name, info in old.tensors.items():
                if name != EMBEDDING:
                    assert new.tensors[name].type == info.type
                    assert_same_bits(new.data(name), old.data(name))
        with open_checkpoint(source) as old, open_checkpoint(out) as new:
            table = new.dense(EMBEDDING)
            assert (table.kind, new.spec) == (kind, old.spec)
            expected = as_type(old.dense(EMBEDDING).float32(), kind)
            assert_same_bits(table.data, expected)


@pytest.mark.parametrize(
    ("tied", "embed", "head", "expected"),
    [
        (True, None, None, ("f32", None)),
        (True, "q8_0", None, ("q8_0", None)),
        (True, "q8_0", "q8_0", ("q8_0", None)),
        (True, None, "q6_k", ("f32", "q6_k")),
        (True, "q8_0", "f16", ("q8_0", "f16")),
        (False, None, None, ("f32", "f32")),
        (False, "q6_k", None, ("q6_k", "f32")),
        (False, None, "q6_k", ("f32", "q6_k")),
        (False, "f16", "f16", ("f16", "f16")),
    ],
)
@pytest.mark.parametrize("to", ["native", "i2_s"])
def test_a_tied_head_stays_tied_unless_it_differs(
    tied: bool, embed: Any, head: Any, expected: tuple[str, str | None], to: Any, tmp_path: Path
) -> None:
    model = make_model() if tied else untied()
    source = write_tiny_gguf(model, tmp_path / "m.gguf")
    convert(source, tmp_path / "out.gguf", to, embed=embed, head=head)
    with open_checkpoint(tmp_path / "out.gguf") as written:
        tables = {EMBEDDING: expected[0], HEAD: expected[1]}
        assert written.spec.tied_head == (expected[1] is None)
        for name, kind in tables.items():
            if kind is not None:
                values = model.dense[EMBEDDING if tied else name]
                table = written.dense(name)
                assert table.kind == kind
                same = values if kind == "f32" else as_type(values, kind)
                assert_same_bits(table.data.reshape(-1), same.reshape(-1))


def test_a_model_with_a_smaller_embedding_runs(written: dict[str, Path], tmp_path: Path) -> None:
    quantize_embeddings(written["i2_s"], tmp_path / "out.gguf", "q8_0")
    with bitnet.load(written["i2_s"]) as model, bitnet.load(tmp_path / "out.gguf") as smaller:
        expected = model.logits(IDS)
        difference = np.abs(smaller.logits(IDS) - expected).max()
    assert 0 < difference < 0.05 * np.abs(expected).max()


def test_tables_that_are_quantised_can_become_floats(tmp_path: Path) -> None:
    source = write_tiny_gguf(make_model(), tmp_path / "m.gguf")
    convert(source, tmp_path / "q8.gguf", "i2_s", embed="q8_0")
    convert(tmp_path / "q8.gguf", tmp_path / "f16.gguf", "i2_s", embed="f16")
    with (
        open_checkpoint(tmp_path / "q8.gguf") as one,
        open_checkpoint(tmp_path / "f16.gguf") as two,
    ):
        expected = one.dense(EMBEDDING).float32().astype(np.float16)
        assert_same_bits(two.dense(EMBEDDING).data, expected)


def test_a_table_is_quantised_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tiny_gguf(make_model(), tmp_path / "m.gguf")
    quantize_embeddings(source, tmp_path / "whole.gguf", "q8_0")
    monkeypatch.setattr("bitnet.conversion.tables._ROWS_OF_A_PIECE", 7)
    monkeypatch.setattr("bitnet.conversion.tables._ROWS_AT_ONCE", 3)
    monkeypatch.setattr("bitnet.conversion.output._PIECE", 100)
    quantize_embeddings(source, tmp_path / "pieces.gguf", "q8_0")
    assert (tmp_path / "pieces.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q6_k"])
@pytest.mark.parametrize("weight", [1e9, np.inf, np.nan])
def test_weights_that_do_not_fit_name_the_table(kind: Any, weight: float, tmp_path: Path) -> None:
    model = make_model()
    model.dense[EMBEDDING][3, 5] = weight
    source = write_tiny_gguf(model, tmp_path / "m.gguf")
    with pytest.raises(InvalidArgumentError, match=r"token_embd\.weight: .* cannot hold weights"):
        quantize_embeddings(source, tmp_path / "out.gguf", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_rows_that_have_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    source = write_tiny_gguf(make_tiny("bitnet-b1.58"), tmp_path / "m.gguf")
    with pytest.raises(InvalidArgumentError, match=r"Q6_K .*multiple of 256"):
        quantize_embeddings(source, tmp_path / "out.gguf", "q6_k")
    with pytest.raises(InvalidArgumentError, match="f16, q8_0, q6_k, not 'f32'"):
        quantize_embeddings(source, tmp_path / "out.gguf", "f32")


def test_a_folder_has_no_embedding_of_its_own_file(tmp_path: Path) -> None:
    folder = write_tiny_folder(make_tiny("llama"), tmp_path / "m")
    with pytest.raises(UnsupportedOperationError, match="no GGUF file"):
        quantize_embeddings(folder, tmp_path / "out.gguf", "f16")


def test_the_int8_head_of_a_native_file_is_that_of_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitnet.program.plan._LARGE_TABLE", 1)  # then heads are certified
    random = np.random.default_rng(5)
    model = make_model()
    model.dense[EMBEDDING] = random.standard_normal((40, 256)).astype(np.float32)
    source = write_tiny_gguf(model, tmp_path / "m.gguf")
    convert(source, tmp_path / "f32.gguf")
    convert(source, tmp_path / "f16.gguf", embed="f16")
    convert(tmp_path / "f32.gguf", tmp_path / "again.gguf", embed="f16")
    with GGUFFile(tmp_path / "f16.gguf") as one, GGUFFile(tmp_path / "again.gguf") as other:
        assert "output.int8" in one.tensors
        for name in one.tensors:
            assert_same_bits(other.data(name), one.data(name))
    with pytest.raises(UnsupportedModelError, match=r"output\.int8: was made of the embedding"):
        quantize_embeddings(tmp_path / "f32.gguf", tmp_path / "out.gguf", "f16")
