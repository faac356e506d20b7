"""Safetensors files are written so that the library reads them, and wrong data is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from bitnet.errors import InvalidArgumentError
from bitnet.formats.safetensors import INDEX_FILE, SINGLE_FILE, SafetensorsFolder
from bitnet.formats.safetensors_writer import TensorData, write_safetensors

ARRAYS = {
    "bytes": np.arange(7, dtype=np.uint8),
    "halves": np.arange(6, dtype=np.float16).reshape(2, 3),
    "more bytes": np.arange(5, dtype=np.uint8),
    "floats": np.arange(4, dtype=np.float32).reshape(2, 2),
    "scalar": np.array(0.5, np.float32),
}
DTYPES = {"uint8": "U8", "float16": "F16", "float32": "F32"}


def tensors() -> list[TensorData]:
    return [
        TensorData(name, DTYPES[array.dtype.name], array.shape, iter([array]))
        for name, array in ARRAYS.items()
    ]


def test_one_file(tmp_path: Path) -> None:
    write_safetensors(tmp_path, tensors())
    assert {path.name for path in tmp_path.iterdir()} == {SINGLE_FILE}
    for name, array in safetensors.numpy.load_file(tmp_path / SINGLE_FILE).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
    with SafetensorsFolder(tmp_path) as folder:
        assert {*folder.tensors} == {*ARRAYS}
        for name, info in folder.tensors.items():
            assert info.offset % ARRAYS[name].itemsize == 0
            np.testing.assert_array_equal(folder.data(name), ARRAYS[name])


def test_several_files(tmp_path: Path) -> None:
    write_safetensors(tmp_path, tensors(), max_file_bytes=20)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in ARRAYS.values())
    assert {*index["weight_map"].values()} == {
        f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)
    }
    with SafetensorsFolder(tmp_path) as folder:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(folder.data(name), array)


def test_parts_are_taken_one_after_the_other(tmp_path: Path) -> None:
    parts = (np.full((1, 3), n, np.float16) for n in range(4))
    write_safetensors(tmp_path, [TensorData("x", "F16", (4, 3), parts)])
    with SafetensorsFolder(tmp_path) as folder:
        np.testing.assert_array_equal(folder.data("x")[:, 0], range(4))


def test_wrong_sizes_and_names_are_refused(tmp_path: Path) -> None:
    for data in ([], [np.zeros(3, np.float32)], [np.zeros(2, np.float32)] * 2):
        with pytest.raises(InvalidArgumentError, match="bytes were given, not 8"):
            write_safetensors(tmp_path, [TensorData("x", "F32", (2,), data)])
    with pytest.raises(InvalidArgumentError, match="the same name"):
        write_safetensors(tmp_path, [TensorData("x", "U8", (0,), [])] * 2)
