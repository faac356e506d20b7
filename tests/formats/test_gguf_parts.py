"""GGUF models in several files: any part opens all of them; what does not belong is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from bitnet.errors import InvalidModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf

NAMES = ("a", "b", "c", "d", "e")


def part(folder: Path, number: int, count: int = 3, stem: str = "model") -> Path:
    return folder / f"{stem}-{number:05}-of-{count:05}.gguf"


def write_part(
    folder: Path, number: int, names: str, total: int = 3, count: int = 3, **metadata: object
) -> Path:
    """Part `number`, from 1; its tensors hold their names."""
    keys = {
        "split.no": np.uint16(number - 1),
        "split.count": np.uint16(count),
        "split.tensors.count": np.int32(total),
    }
    tensors = [TensorData(name, (1,), "I8", name.encode()) for name in names]
    path = part(folder, number, count)
    write_gguf(path, {**metadata, **keys}, tensors)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_part(tmp_path, 1, "a", **{"general.architecture": "llama"})
    write_part(tmp_path, 2, "b", **{"general.alignment": 64})
    write_part(tmp_path, 3, "c")
    return tmp_path


@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_part_opens_the_whole_model(model: Path, number: int) -> None:
    with GGUFFile(part(model, number)) as file:
        assert dict(file.metadata) == {"general.architecture": "llama"}
        assert list(file.tensors) == ["a", "b", "c"]
        assert [file.data(name).tobytes() for name in "abc"] == [b"a", b"b", b"c"]
        assert file.files == tuple(part(model, i) for i in (1, 2, 3))
        assert file.file_of("b") == part(model, 2)
        assert file.size_bytes == sum(path.stat().st_size for path in file.files)
        file.release()
        assert file.data("c").tobytes() == b"c"


def test_parts_of_the_gguf_package_are_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
    writer.add_block_count(3)
    values = {name: np.full(7, i, np.float32) for i, name in enumerate(NAMES)}
    for name, value in values.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile(part(tmp_path, 2, stem="m")) as file:
        assert file.metadata.get_int("llama.block_count", 1, 9) == 3
        assert not any(key.startswith("split.") for key in file.metadata)
        for name, value in values.items():
            np.testing.assert_array_equal(file.data(name).view("<f4"), value)


def test_missing_parts_are_named(model: Path) -> None:
    part(model, 1).unlink()
    part(model, 3).unlink()
    with pytest.raises(InvalidModelError) as error:
        GGUFFile(part(model, 2))
    assert error.value.rule == (
        "is one of 3 parts; missing: model-00001-of-00003.gguf, model-00003-of-00003.gguf"
    )


def test_a_renamed_part_is_refused_with_the_name_it_needs(model: Path) -> None:
    for name in ("model.gguf", "model-00001-of-00003.gguf"):
        path = part(model, 2).replace(model / name)
        with pytest.raises(InvalidModelError, match=r"is part 2 of 3.*-00002-of-00003\.gguf"):
            GGUFFile(path)
        path.replace(part(model, 2))


def test_a_part_of_another_model_is_refused(model: Path) -> None:
    write_part(model, 2, "x", count=4).replace(part(model, 2))
    with pytest.raises(InvalidModelError, match="says that it is part 2 of 4, not 2 of 3"):
        GGUFFile(part(model, 1))
    shutil.copy(part(model, 3), part(model, 2))
    with pytest.raises(InvalidModelError, match="says that it is part 3 of 3, not 2 of 3"):
        GGUFFile(part(model, 1))


def test_a_tensor_in_two_parts_is_refused(model: Path) -> None:
    write_part(model, 3, "a")
    with pytest.raises(
        InvalidModelError, match=r"00003-of.*tensor a: is in model-00001-of-00003\.gguf too"
    ):
        GGUFFile(part(model, 1))


def test_the_number_of_tensors_must_be_the_one_announced(model: Path) -> None:
    write_part(model, 1, "a", total=4)
    with pytest.raises(InvalidModelError, match="announces 4 tensors, but the parts hold 3"):
        GGUFFile(part(model, 1))


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("split.count", 2**31, "split.count' is 2147483648, outside"),
        ("split.count", "3", "split.count' must be an integer"),
        ("split.no", 3, "split.no' is 3, outside 0 to 2"),
        ("split.no", -1, "split.no' is -1, outside"),
    ],
)
def test_hostile_numbers_are_refused(model: Path, key: str, value: object, rule: str) -> None:
    keys = {"split.no": 0, "split.count": 3, "split.tensors.count": 3, key: value}
    write_gguf(part(model, 1), keys, [])
    with pytest.raises(InvalidModelError, match=rule):
        GGUFFile(part(model, 1))


def test_a_single_part_needs_no_other_name(tmp_path: Path) -> None:
    path = write_part(tmp_path, 1, "a", count=1, total=1).replace(tmp_path / "any.gguf")
    with GGUFFile(path) as file:
        assert file.data("a").tobytes() == b"a"
