"""Telling model files apart by their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from bitnet.errors import InvalidModelError, ModelNotFoundError
from bitnet.formats import sniff
from bitnet.formats.gguf_writer import write_gguf


def test_a_gguf_file_is_known_whatever_its_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.bin", {}, [])
    assert sniff(tmp_path / "model.bin") == "gguf"


def test_a_safetensors_file_and_its_folder_are_known(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(1, np.float32)}, path)
    assert sniff(path) == "safetensors-folder"
    assert sniff(tmp_path) == "safetensors-folder"


def test_a_folder_with_an_index_is_known(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert sniff(tmp_path) == "safetensors-folder"


def test_nothing_at_the_path_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nope", tmp_path / "file" / "nope"):
        with pytest.raises(ModelNotFoundError, match="nope"):
            sniff(path)


@pytest.mark.parametrize("content", [b"", b"G", b"GGML", b"PK\3\4" + bytes(20), bytes(64)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(InvalidModelError, match=r"model\.gguf: is "):
        sniff(tmp_path / "model.gguf")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="holds neither"):
        sniff(tmp_path)
