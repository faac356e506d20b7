"""GGUF: what is written is read back, here and by the gguf package; typed getters; lifetime."""

from __future__ import annotations

import gc
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES

from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelClosedError,
    ModelNotFoundError,
)
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_types import BLOCK_TYPES, tensor_bytes
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.quant import i2s

METADATA = {
    "general.architecture": "bitnet-b1.58",
    "empty": "",
    "text": "naïve 🐢\n",
    "uint32": 2**32 - 1,
    "int32": -(2**31),
    "uint64": 2**64 - 1,
    "int64": -(2**63),
    "float": 0.5,
    "true": True,
    "false": False,
    "strings": ["a", "", "ß" * 300],
    "ints": np.array([3, -4, 5], np.int32),
    "floats": np.array([0.25, -1e30], np.float32),
    "bools": np.array([True, False, True]),
    "nested": [np.array([1, 2], np.uint8), ["x", "yz"], [np.array([0.5], np.float32)]],
    **{
        f"scalar.{dtype.__name__}": dtype(7)
        for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.float64)
    },
}


def tensors() -> list[TensorData]:
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, (3, 256), np.uint8)
    return [
        TensorData("f32", (2, 3, 5), "F32", random.normal(size=(2, 3, 5)).astype(np.float32)),
        TensorData("i2s", (3, 256), "I2_S", i2s.pack(codes, 0.75)),
        TensorData("f16", (7,), "F16", random.normal(size=7).astype(np.float16)),
        TensorData("bf16", (2, 4), "BF16", random.integers(0, 2**16, (2, 4), np.uint16)),
        TensorData("i8", (1, 1, 1, 3), "I8", np.array([1, -2, 3], np.int8)),
        TensorData("q8_0", (2, 64), "Q8_0", random.integers(0, 255, 136, np.uint8)),
        TensorData("q6_k", (1, 512), "Q6_K", iter([bytes(210), bytes(range(210))])),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "model.gguf", METADATA, tensors())
    return tmp_path / "model.gguf"


def test_metadata_comes_back_equal_and_in_order(path: Path) -> None:
    with GGUFFile(path) as file:
        assert list(file.metadata) == list(METADATA)
        for key, value in METADATA.items():
            found = file.metadata[key]
            assert repr(found) == repr(value.item() if isinstance(value, np.generic) else value)
            if isinstance(value, np.ndarray):
                assert isinstance(found, np.ndarray)
                assert found.dtype == value.dtype
                assert not found.flags.writeable
        assert type(file.metadata["true"]) is bool
        assert type(file.metadata["scalar.uint8"]) is int


def test_metadata_is_written_again_as_it_was(path: Path) -> None:
    with GGUFFile(path) as file:
        again = path.with_name("again.gguf")
        write_gguf(again, file.metadata.stored, tensors())
    assert again.read_bytes() == path.read_bytes()


def test_tensors_come_back_with_shape_type_and_bytes(path: Path) -> None:
    with GGUFFile(path) as file:
        assert list(file.tensors) == [tensor.name for tensor in tensors()]
        for tensor in tensors():
            info = file.tensors[tensor.name]
            data = file.data(tensor.name)
            assert (info.shape, info.type) == (tensor.shape, tensor.type)
            assert info.nbytes == data.size == tensor_bytes(tensor.type, tensor.shape)
            assert info.offset % 32 == 0
            assert not data.flags.writeable
            if isinstance(tensor.data, np.ndarray):
                assert data.tobytes() == tensor.data.tobytes()
        assert file.data("q6_k").tobytes() == bytes(210) + bytes(range(210))
        assert i2s.read_scale(file.data("i2s"), 3 * 256) == 0.75
        assert file.size_bytes == path.stat().st_size


def test_the_gguf_package_reads_what_we_write(tmp_path: Path) -> None:
    ours = [tensor for tensor in tensors() if tensor.type != "I2_S"]
    write_gguf(tmp_path / "a.gguf", METADATA, ours)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    for key, value in METADATA.items():
        if key == "nested":  # which that reader does not give back in its shape
            continue
        np.testing.assert_array_equal(reader.fields[key].contents(), value)
    with GGUFFile(tmp_path / "a.gguf") as file:
        assert [tensor.name for tensor in reader.tensors] == [tensor.name for tensor in ours]
        for theirs in reader.tensors:
            info = file.tensors[theirs.name]
            assert tuple(theirs.shape[::-1].tolist()) == info.shape
            assert (theirs.tensor_type.name, theirs.data_offset) == (info.type, info.offset)
            assert theirs.data.tobytes() == file.data(theirs.name).tobytes()


def test_we_read_what_the_gguf_package_writes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_block_count(3)
    writer.add_rope_freq_base(500000.0)
    writer.add_token_list(["<s>", "a", "é"])
    writer.add_token_scores([0.0, -1.5, 2.0])
    writer.add_token_types([3, 1, 1])
    writer.add_add_bos_token(True)
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    writer.add_tensor("w", weights)
    writer.add_tensor("h", weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile(tmp_path / "b.gguf") as file:
        assert file.metadata.get_int("llama.block_count", 1, 10) == 3
        assert file.metadata.get_float("llama.rope.freq_base", 1, 1e9) == 500000
        assert file.metadata.get_strings("tokenizer.ggml.tokens") == ["<s>", "a", "é"]
        assert file.metadata.get_floats("tokenizer.ggml.scores").tolist() == [0, -1.5, 2]
        assert file.metadata.get_ints("tokenizer.ggml.token_type").tolist() == [3, 1, 1]
        assert file.metadata.get_bool("tokenizer.ggml.add_bos_token") is True
        assert file.tensors["h"].offset % 64 == 0
        np.testing.assert_array_equal(file.data("w").view("<f4").reshape(3, 4), weights)


def test_standard_types_have_the_sizes_of_the_gguf_package() -> None:
    theirs = {kind.name: (int(kind), *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert theirs == BLOCK_TYPES


def test_types_of_bitnet_cpp_are_sized_by_their_formulas() -> None:
    assert tensor_bytes("I2_S", (3200, 8640)) == 3200 * 8640 // 4 + 32
    assert tensor_bytes("TL1", (1536, 4096)) == 1536 * 4096 // 4 + 32
    # (K - 256) * M / 3 * 5 / 8 for triples and 256 * M / 2 * 4 / 8 for pairs, padded to 32
    assert tensor_bytes("TL2", (1536, 4096)) == 1228800 + 98304 + 32
    assert tensor_bytes("TL2", (160, 8640)) == 289728 + 32


@pytest.mark.parametrize("type_name", ["TL2", "MXFP4"])
@pytest.mark.parametrize("last", [False, True])
def test_type_39_is_told_apart_by_the_room_it_has(
    tmp_path: Path, type_name: str, last: bool
) -> None:
    shape = (96, 544)
    tensor = TensorData("w", shape, type_name, np.zeros(tensor_bytes(type_name, shape), np.uint8))
    other = TensorData("n", (4,), "F32", np.zeros(4, np.float32))
    write_gguf(tmp_path / "a.gguf", {}, [other, tensor] if last else [tensor, other])
    with GGUFFile(tmp_path / "a.gguf") as file:
        assert file.tensors["w"].type == type_name


def test_getters_check_type_and_range_and_name_the_key(path: Path) -> None:
    with GGUFFile(path) as file:
        get = file.metadata
    assert get.get_int("uint32", 0, 2**32) == 2**32 - 1
    assert get.get_float("float", 0, 1) == 0.5
    assert get.get_str("text") == "naïve 🐢\n"
    assert get.get_int("absent", 0, 9, default=4) == 4
    assert get.get_float("absent", 0, 9, default=4.5) == 4.5
    assert get.get_str("absent", default="x") == "x"
    assert get.get_bool("absent", default=False) is False
    assert get.get_ints("ints").tolist() == [3, -4, 5]
    for wrong in (
        lambda: get.get_int("uint32", 0, 5),
        lambda: get.get_int("float", 0, 5),
        lambda: get.get_int("true", 0, 5),
        lambda: get.get_int("absent", 0, 5),
        lambda: get.get_float("uint32", 0, 5),
        lambda: get.get_float("float", 1, 5),
        lambda: get.get_bool("uint32"),
        lambda: get.get_str("strings"),
        lambda: get.get_strings("ints"),
        lambda: get.get_strings("text"),
        lambda: get.get_ints("floats"),
        lambda: get.get_ints("bools"),
        lambda: get.get_floats("ints"),
    ):
        with pytest.raises(InvalidModelError, match=r"model\.gguf: metadata key '\w+' "):
            wrong()


def test_numbers_that_are_not_finite_are_refused_by_the_getter(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", {"nan": float("nan"), "inf": float("inf")}, [])
    with GGUFFile(tmp_path / "a.gguf") as file:
        for key in ("nan", "inf"):
            with pytest.raises(InvalidModelError, match=key):
                file.metadata.get_float(key, float("-inf"), float("inf"))


def test_arrays_stay_valid_after_close_and_new_ones_are_refused(path: Path) -> None:
    file = GGUFFile(path)
    data = file.data("f16")
    before = data.tobytes()
    file.close()
    file.close()
    gc.collect()
    assert data.tobytes() == before
    with pytest.raises(ModelClosedError):
        file.data("f16")


def test_asking_for_a_tensor_that_is_not_there_names_it(path: Path) -> None:
    with GGUFFile(path) as file, pytest.raises(InvalidModelError, match=r"tensor nope: is missing"):
        file.data("nope")


def test_missing_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        GGUFFile(tmp_path / "nope.gguf")
    with pytest.raises(InvalidModelError, match="folder"):
        GGUFFile(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "tensor", "rule"),
    [
        ({}, TensorData("w", (2, 4), "F32", np.zeros(7, np.float32)), "28 bytes; F32"),
        ({}, TensorData("w", (2, 4), "F32", [bytes(32), b"x"]), "more than 32 bytes"),
        ({}, TensorData("w", (2, 4), "Q9", b""), "not known"),
        ({}, TensorData("w", (2, 4), "Q8_0", b""), "multiple of 32"),
        ({}, TensorData("w", (2, 65), "I2_S", b""), "multiple of 128"),
        ({}, TensorData("w", (), "F32", b""), "dimensions"),
        ({}, TensorData("w", (2, 0), "F32", b""), "dimensions"),
        ({}, TensorData("", (2,), "F32", b""), "name"),
        ({"general.alignment": 48}, None, "not a power of two"),
        ({"big": 2**64}, None, "64 bits"),
        ({"half": np.float16(1)}, None, "no type for float16"),
        ({"matrix": np.zeros((2, 2), np.int32)}, None, "one dimension"),
        ({"mixed": ["a", 1]}, None, "only hold strings"),
        ({"mixed": ["a", ["b"]]}, None, "only hold strings, or only arrays"),
    ],
)
def test_a_refused_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, metadata: dict[str, object], tensor: TensorData | None, rule: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"old")
    with pytest.raises(InvalidArgumentError, match=rule):
        write_gguf(path, metadata, [tensor] if tensor else [])  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


def test_two_tensors_of_one_name_are_not_written(tmp_path: Path) -> None:
    twice = [TensorData("w", (1,), "F32", bytes(4))] * 2
    with pytest.raises(InvalidArgumentError, match="unique"):
        write_gguf(tmp_path / "model.gguf", {}, twice)


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_tensors_are_aligned_as_the_metadata_says(tmp_path: Path, alignment: int) -> None:
    tensors = [TensorData(name, (3,), "I8", name.encode() * 3) for name in "abc"]
    write_gguf(tmp_path / "model.gguf", {"general.alignment": alignment}, tensors)
    with GGUFFile(tmp_path / "model.gguf") as file:
        for name, info in file.tensors.items():
            assert info.offset % alignment == 0
            assert file.data(name).tobytes() == name.encode() * 3


def test_what_the_check_of_a_written_file_refuses_leaves_nothing(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        with GGUFFile(path) as file:
            raise InvalidArgumentError(f"it has {len(file.tensors)} tensors")

    with pytest.raises(InvalidArgumentError, match="it has 1 tensors"):
        write_gguf(
            tmp_path / "model.gguf", {}, [TensorData("w", (1,), "F32", bytes(4))], verify=refuse
        )
    assert not list(tmp_path.iterdir())
