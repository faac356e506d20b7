"""Safetensors folders: read as the safetensors library writes them; broken ones are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import (
    InvalidModelError,
    ModelClosedError,
    ModelFileError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.formats.safetensors import SafetensorsFolder

Header = dict[str, object]


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "f32": random.normal(size=(3, 5)).astype(np.float32),
        "f16": random.normal(size=(2, 1, 4)).astype(np.float16),
        "u8": random.integers(0, 255, (5, 3), np.uint8),
        "i64": np.array(-5),
        "none": np.zeros((0, 7), np.float32),
    }


def write_raw(path: Path, header: Header | bytes, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def item(dtype: object, shape: object, *offsets: object) -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def write_shards(folder: Path, weight_map: object) -> None:
    safetensors.numpy.save_file({"a": np.ones(2, np.float32)}, folder / "x.safetensors")
    safetensors.numpy.save_file({"b": np.zeros(3, np.int8)}, folder / "y.safetensors")
    index = json.dumps({"metadata": {"total_size": 11}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)


def test_what_the_library_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(arrays(), path, metadata={"format": "pt"})
    for given_path in (tmp_path, path):
        with SafetensorsFolder(given_path) as folder:
            assert folder.tensors.keys() == arrays().keys()
            assert folder.size_bytes == path.stat().st_size
            for name, array in arrays().items():
                found = folder.data(name)
                np.testing.assert_array_equal(found, array)
                assert found.dtype == array.dtype
                assert found.shape == folder.tensors[name].shape == array.shape
                assert not found.flags.writeable
                assert folder.tensors[name].file == path


def test_bfloat16_comes_as_its_bits(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000, 0x7F80], "<u2")
    write_raw(tmp_path / "model.safetensors", {"w": item("BF16", [3], 0, 6)}, bits.tobytes())
    with SafetensorsFolder(tmp_path) as folder:
        assert folder.tensors["w"].dtype == "BF16"
        np.testing.assert_array_equal(folder.data("w"), bits)


def test_tensors_at_unaligned_places_are_handed_out_aligned(tmp_path: Path) -> None:
    header = {"b": item("U8", [1], 0, 1), "w": item("F32", [2], 1, 9)}
    values = np.array([1.5, -2], "<f4")
    write_raw(tmp_path / "model.safetensors", header, b"\7" + values.tobytes())
    with SafetensorsFolder(tmp_path) as folder:
        assert folder.data("w").flags.aligned
        np.testing.assert_array_equal(folder.data("w"), values)


def test_shards_are_read_through_the_index(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": "x.safetensors", "b": "y.safetensors"})
    with SafetensorsFolder(tmp_path) as folder:
        assert folder.data("a").tolist() == [1, 1]
        assert folder.data("b").tolist() == [0, 0, 0]
        assert folder.tensors["b"].file.name == "y.safetensors"


def test_a_linked_shard_is_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    safetensors.numpy.save_file(arrays(), blobs / "0123")
    try:
        (snapshot / "model.safetensors").symlink_to(blobs / "0123")
    except OSError:
        pytest.skip("this system does not allow symbolic links")
    with SafetensorsFolder(snapshot / "model.safetensors") as folder:
        assert folder.tensors.keys() == arrays().keys()


def test_arrays_stay_valid_after_close_and_new_ones_are_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file(arrays(), tmp_path / "model.safetensors")
    folder = SafetensorsFolder(tmp_path)
    data = folder.data("f32")
    folder.close()
    folder.close()
    np.testing.assert_array_equal(data, arrays()["f32"])
    with pytest.raises(ModelClosedError):
        folder.data("f32")


def test_asking_for_a_tensor_that_is_not_there_names_it(tmp_path: Path) -> None:
    safetensors.numpy.save_file(arrays(), tmp_path / "model.safetensors")
    with (
        SafetensorsFolder(tmp_path) as folder,
        pytest.raises(InvalidModelError, match="tensor nope: is missing"),
    ):
        folder.data("nope")


def test_missing_folders_and_folders_without_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        SafetensorsFolder(tmp_path / "nope")
    with pytest.raises(InvalidModelError, match=r"neither model\.safetensors nor"):
        SafetensorsFolder(tmp_path)


F32 = item("F32", [2], 0, 8)
BROKEN: dict[str, tuple[Header | bytes, bytes, str]] = {
    "not JSON": (b"{", b"", "the header is not valid JSON"),
    "not UTF-8": (b'{"\xff":1}', b"", "the header is not valid JSON"),
    "not an object": (b"[]", b"", "not a JSON object"),
    "nested deeply": (b"[" * 100_000, b"", "the header is not valid JSON"),
    "a number with too many digits": (b'{"a":' + b"9" * 5000 + b"}", b"", "header|entry"),
    "name twice": (b'{"w":{},"w":{}}', b"", "key 'w' appears twice"),
    "key twice": (
        b'{"w":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        b"",
        "key 'dtype' appears twice",
    ),
    "not a number": (b'{"w":NaN}', b"", "NaN is not a number"),
    "half a surrogate pair": (b'{"\\ud800":1}', b"", "surrogates not allowed"),
    "name that a terminal obeys": (
        b'{"\\u001b[2J":[]}',
        b"",
        r"tensor \\x1b\[2J: entry must have exactly",
    ),
    "deep shape": (
        b'{"w":{"dtype":"U8","shape":' + b"[" * 90 + b"]" * 90 + b',"data_offsets":[0,0]}}',
        b"",
        "more than 32 levels",
    ),
    "infinite dimension": (
        b'{"w":{"dtype":"U8","shape":[1e400],"data_offsets":[0,0]}}',
        b"",
        "tensor w: shape must be",
    ),
    "entry is a list": ({"w": []}, b"", "tensor w: entry must have exactly"),
    "entry lacks shape": ({"w": {"dtype": "U8", "data_offsets": [0, 0]}}, b"", "tensor w: entry"),
    "entry has more": ({"w": {**F32, "x": 1}}, bytes(8), "tensor w: entry"),
    "shape is a number": ({"w": item("F32", 2, 0, 8)}, bytes(8), "tensor w: shape must be"),
    "negative dimension": ({"w": item("F32", [-2], 0, 8)}, bytes(8), "tensor w: shape must be"),
    "fractional dimension": ({"w": item("F32", [2.0], 0, 8)}, bytes(8), "tensor w: shape must"),
    "boolean dimension": ({"w": item("U8", [True], 0, 1)}, b"1", "tensor w: shape must be"),
    "product that wraps": ({"w": item("U8", [2**32, 2**32], 0, 0)}, b"", "tensor w: shape .* elem"),
    "nine dimensions": ({"w": item("U8", [1] * 9, 0, 1)}, b"1", "tensor w: shape .* dimensions"),
    "one offset": ({"w": item("F32", [2], 0)}, bytes(8), "tensor w: data_offsets"),
    "negative offset": ({"w": item("F32", [2], -8, 0)}, bytes(8), "tensor w: data_offsets"),
    "offsets the wrong way": ({"w": item("F32", [2], 8, 0)}, bytes(8), "tensor w: data_offsets"),
    "size is not the shape's": ({"w": item("F32", [2], 0, 4)}, bytes(4), "span the 8 bytes"),
    "past the end": ({"w": F32}, bytes(7), "tensor w: data ends at byte"),
    "far past the end": ({"w": item("U8", [1], 2**62, 2**62 + 1)}, b"1", "tensor w: data starts"),
    "bytes left over": ({"w": F32}, bytes(9), "has 1 bytes after the last tensor"),
    "hole": ({"v": F32, "w": item("U8", [1], 9, 10)}, bytes(10), "tensor w: data starts at byte"),
    "overlap": ({"v": F32, "w": item("U8", [1], 7, 8)}, bytes(8), "tensor w: data starts at byte"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    header, data, rule = BROKEN[name]
    path = tmp_path / "model.safetensors"
    write_raw(path, header, data)
    with pytest.raises(InvalidModelError, match=rule) as caught:
        SafetensorsFolder(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "is empty"),
        (b"1234567", "too few"),
        (struct.pack("<Q", 3) + b"{}", "header of 3 bytes exceeds"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "header of 18446744073709551615 bytes exceeds"),
    ],
)
def test_files_shorter_than_their_header_are_refused(
    tmp_path: Path, content: bytes, rule: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidModelError, match=rule):
        SafetensorsFolder(tmp_path)


def test_a_header_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(100_000_100)
    with pytest.raises(InvalidModelError, match="or the limit of 100000000"):
        SafetensorsFolder(tmp_path)


def test_element_types_without_meaning_here_are_unsupported(tmp_path: Path) -> None:
    write_raw(tmp_path / "model.safetensors", {"w": item("F8_E4M3", [2], 0, 2)}, bytes(2))
    with pytest.raises(UnsupportedModelError, match="tensor w: element type 'F8_E4M3'"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "rule"),
    [
        ({"a": "x.safetensors"}, None),
        ({"a": "x.safetensors", "b": "x.safetensors"}, "tensor b: is in the index but not in"),
        ({"b": "y.safetensors", "c": "y.safetensors"}, "tensor c: is in the index but not in"),
        ({"c": "x.safetensors"}, "tensor c: is in the index but not in"),
        ({"a": "../x.safetensors"}, "tensor a: '../x.safetensors' is not the name"),
        ({"a": "/etc/x.safetensors"}, "tensor a: .* is not the name"),
        ({"a": "..\\x.safetensors"}, "tensor a: .* is not the name"),
        ({"a": "C:x.safetensors"}, "tensor a: .* is not the name"),
        ({"a": "x.safetensors\0"}, "tensor a: .* is not the name"),
        ({"a": "config.json"}, "tensor a: .* is not the name"),
        ({"a": "x" * 300 + ".safetensors"}, "tensor a: .* is not the name"),
        ({"a": "é" * 130 + ".safetensors"}, "tensor a: .* is not the name"),
        ({"a": "x\n.safetensors"}, "tensor a: .* is not the name"),
        ({"a": 5}, "tensor a: 5 is not the name"),
        ({}, "weight_map must be an object with entries"),
        ([], "weight_map must be an object with entries"),
        ({str(i): f"{i}.safetensors" for i in range(5000)}, "lists 5000 files"),
    ],
)
def test_an_index_must_agree_with_the_files_of_its_folder(
    tmp_path: Path, weight_map: object, rule: str | None
) -> None:
    write_shards(tmp_path, weight_map)
    if rule is None:
        SafetensorsFolder(tmp_path).close()
        return
    with pytest.raises(InvalidModelError, match=rule):
        SafetensorsFolder(tmp_path)


def test_a_tensor_the_index_does_not_know_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": "x.safetensors"})
    both = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    safetensors.numpy.save_file(both, tmp_path / "x.safetensors")
    with pytest.raises(InvalidModelError, match="tensor b: is in this file but the index"):
        SafetensorsFolder(tmp_path)


def test_a_shard_that_is_not_there_makes_the_model_invalid(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": "x.safetensors", "c": "z.safetensors"})
    with pytest.raises(InvalidModelError, match=r"z\.safetensors"):
        SafetensorsFolder(tmp_path)


@settings(max_examples=250, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 999), st.integers(1, 255)), min_size=1, max_size=3),
    cut=st.none() | st.integers(0, 999),
)
def test_changed_bytes_give_a_model_or_a_model_file_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(safetensors.numpy.save(arrays()))
    assert len(content) < 999
    for place, bits in changes:
        content[place % len(content)] ^= bits
    path = tmp_path_factory.getbasetemp() / "changed"
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(content[:cut])
    try:
        with SafetensorsFolder(path) as folder:
            for name, info in folder.tensors.items():
                assert folder.data(name).shape == info.shape
    except ModelFileError:
        return
    assert cut is None or cut >= len(content)
