"""GGUF models written in parts: the limit, what each part says, and how they take their places."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.alignment": 64,
    "tokens": ["a", "ß", ""],
    "ints": np.array([3, -4], np.int16),
}


def tensors(*sizes: int, fill: int = 0) -> list[TensorData]:
    return [
        TensorData(f"t{i}", (size,), "I8", bytes([(fill + i) % 256]) * size)
        for i, size in enumerate(sizes)
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parts(count: int, stem: str = "m") -> list[str]:
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 900), max_size=12),
    limit=st.integers(1, 4000),
    alignment=st.sampled_from([None, 8, 64, 512]),
)
def test_any_model_comes_back_from_parts_of_any_size(
    sizes: list[int], limit: int, alignment: int | None
) -> None:
    metadata = {**METADATA, "general.alignment": alignment}
    if alignment is None:
        del metadata["general.alignment"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_gguf(folder / "m.gguf", metadata, tensors(*sizes), max_file_bytes=limit)
        files = names(folder)
        count = len(files)
        assert files == (["m.gguf"] if count == 1 else parts(count))
        with GGUFFile(folder / files[-1]) as file:
            assert list(file.metadata) == list(metadata)
            assert repr(dict(file.metadata)) == repr(metadata)
            assert list(file.tensors) == [tensor.name for tensor in tensors(*sizes)]
            for tensor in tensors(*sizes):
                assert file.data(tensor.name).tobytes() == tensor.data
                assert file.tensors[tensor.name].offset % (alignment or 32) == 0
            held = [[n for n in file.tensors if file.file_of(n).name == part] for part in files]
        for path, inside in zip(map(folder.joinpath, files), held, strict=True):
            assert path.stat().st_size <= limit or len(inside) <= 1
        write_gguf(folder / "whole.gguf", metadata, tensors(*sizes))
        fits = (folder / "whole.gguf").stat().st_size <= limit
        assert (count == 1) == (fits or len(sizes) <= 1)


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        (447, [384, 384, 256]),
        (448, [384, 448]),
        (575, [512, 384]),
        (576, [576, 256]),
        (639, [576, 256]),
        (640, [640]),
    ],
)
def test_the_limit_is_that_of_whole_files(tmp_path: Path, limit: int, sizes: list[int]) -> None:
    write_gguf(tmp_path / "m.gguf", METADATA, tensors(64, 64, 64, 64), max_file_bytes=limit)
    assert [(tmp_path / name).stat().st_size for name in names(tmp_path)] == sizes


@pytest.mark.parametrize("limit", [1, 63])
def test_a_tensor_that_is_too_large_has_a_part_to_itself(tmp_path: Path, limit: int) -> None:
    write_gguf(tmp_path / "m.gguf", METADATA, tensors(64, 1, 4096), max_file_bytes=limit)
    assert names(tmp_path) == parts(3)
    for i, name in enumerate(names(tmp_path)):
        assert [tensor.name for tensor in gguf.GGUFReader(tmp_path / name).tensors] == [f"t{i}"]


def test_parts_are_those_of_gguf_split(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", METADATA, tensors(64, 1, 4096), max_file_bytes=600)
    assert names(tmp_path) == parts(2)
    split = {
        "split.no": gguf.GGUFValueType.UINT16,
        "split.count": gguf.GGUFValueType.UINT16,
        "split.tensors.count": gguf.GGUFValueType.INT32,
    }
    for number, held in enumerate((("t0", "t1"), ("t2",))):
        reader = gguf.GGUFReader(tmp_path / parts(2)[number])
        keys = [key for key in reader.fields if not key.startswith("GGUF.")]
        own = METADATA if number == 0 else ["general.alignment"]
        assert keys == [*own, *split]
        assert {key: reader.fields[key].types[0] for key in split} == split
        assert [reader.fields[key].contents() for key in split] == [number, 2, 3]
        assert tuple(tensor.name for tensor in reader.tensors) == held
        for tensor in reader.tensors:
            index = int(tensor.name[1:])
            assert tensor.data.tobytes() == tensors(64, 1, 4096)[index].data


def test_what_the_metadata_said_of_other_parts_is_replaced(tmp_path: Path) -> None:
    metadata = {"split.count": np.uint16(1), "split.no": np.uint16(0), "a": 1}
    write_gguf(tmp_path / "m.gguf", metadata, tensors(1, 1), max_file_bytes=1)
    with GGUFFile(tmp_path / parts(2)[0]) as file:
        assert dict(file.metadata) == {"a": 1}


@pytest.mark.parametrize(
    ("limit", "rule"),
    [
        (0, "files of up to 0 bytes cannot be written"),
        (-5, "files of up to -5 bytes"),
        (1, "files of up to 1 bytes would be 4097 parts, more than 4096"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(tmp_path: Path, limit: int, rule: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rule):
        write_gguf(tmp_path / "m.gguf", {}, tensors(*[1] * 4097), max_file_bytes=limit)
    assert names(tmp_path) == []


def test_tensors_of_one_name_are_refused_even_in_two_parts(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="unique"):
        write_gguf(tmp_path / "m.gguf", {}, tensors(1) * 2, max_file_bytes=1)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["m", "m.bin", "m.gguf.gguf", ".gguf", "m-00001-of-00002.gguf"])
def test_any_name_of_a_model_becomes_one_of_parts(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for fill in (1, 2):
        write_gguf(path, {}, tensors(1, 1, fill=fill), max_file_bytes=1)
        assert names(tmp_path) == parts(2, name.removesuffix(".gguf"))
        with GGUFFile(tmp_path / names(tmp_path)[0]) as file:
            assert file.data("t0").tobytes() == bytes([fill])


# -- taking their places ------------------------------------------------------------------------


def write(path: Path, count: int, fill: int) -> None:
    write_gguf(path, {}, tensors(*[8] * count, fill=fill), max_file_bytes=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("before", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_nothing_of_an_older_set_stays_and_nothing_else_goes(
    tmp_path: Path, before: int, after: int
) -> None:
    others = ["other.gguf", "m-0001-of-0002.gguf", *parts(2, "n"), "m-00001-of-00002.gguf.bak"]
    for other in others:
        (tmp_path / other).write_text("mine")
    write(tmp_path / "m.gguf", before, 1)
    write(tmp_path / "m.gguf", after, 2)
    files = ["m.gguf"] if after == 1 else parts(after)
    assert names(tmp_path) == sorted([*others, *files])
    with GGUFFile(tmp_path / files[-1]) as file:
        assert [file.data(name)[0] for name in file.tensors] == [*range(2, 2 + after)]


def test_files_written_without_a_limit_leave_parts_alone(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", 2, 1)
    write_gguf(tmp_path / "m.gguf", {}, tensors(8))
    assert names(tmp_path) == sorted([*parts(2), "m.gguf"])


def test_a_folder_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    for name in (parts(2)[0], parts(3)[1]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    with pytest.raises(OSError, match="00001-of-00002"):
        write(tmp_path / "m.gguf", 2, 1)
    assert names(tmp_path) == [parts(2)[0], parts(3)[1]]
    assert [path.name for path in tmp_path.glob("*/*")] == ["mine", "mine"]


def moves(monkeypatch: pytest.MonkeyPatch, before_move: Callable[[int], None]) -> None:
    """Call `before_move` with the number of a file, from 0, that is about to be moved."""
    numbers, replace = iter(range(10**6)), Path.replace

    def counted(path: Path, target: Path) -> Path:
        before_move(next(numbers))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 3), (5, 2), (3, 1), (1, 3)])
def test_what_cannot_be_moved_leaves_all_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: int,
    after: int,
    error: type[BaseException],
) -> None:
    if before:
        write(tmp_path / "m.gguf", before, 1)
    old, n_moves = contents(tmp_path), before + after
    for failing in range(n_moves):

        def fail(number: int, failing: int = failing) -> None:
            if number == failing:
                raise error(5, "no")

        with monkeypatch.context() as patch:
            moves(patch, fail)
            with pytest.raises(error):
                write(tmp_path / "m.gguf", after, 2)
        assert contents(tmp_path) == old
        assert len(names(tmp_path)) == len(old)
    write(tmp_path / "m.gguf", after, 2)
    assert contents(tmp_path) != old


def open_models(folder: Path) -> Iterator[int]:
    """The fill of each model that opens; one that is mixed fails the test."""
    for path in folder.glob("*.gguf"):
        try:
            file = GGUFFile(path)
        except InvalidModelError:
            continue
        with file:
            fills = {int(file.data(name)[0]) - int(name[1:]) for name in file.tensors}
        assert len(fills) == 1, path.name
        yield fills.pop()


@pytest.mark.parametrize(("before", "after"), [(3, 3), (5, 2), (2, 5), (3, 1)])
def test_at_no_moment_is_there_more_than_one_model_or_a_mixed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    write(tmp_path / "m.gguf", before, 1)
    seen = []

    def look(_: int) -> None:
        seen.append({*open_models(tmp_path)})

    moves(monkeypatch, look)
    write(tmp_path / "m.gguf", after, 2)
    assert seen == [{1}] + [set()] * (before + after - 1)
    assert {*open_models(tmp_path)} == {2}


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    model = [*tensors(8, 8), TensorData("last", (2,), "I8", stop())]
    with pytest.raises(KeyboardInterrupt):
        write_gguf(tmp_path / "m.gguf", {}, model, max_file_bytes=1)
    assert names(tmp_path) == []


def test_all_parts_are_checked_before_they_take_their_places(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.name == parts(3)[0]
        with GGUFFile(path) as file:
            raise InvalidArgumentError(f"it has {len(file.tensors)} tensors")

    write(tmp_path / "m.gguf", 3, 1)
    old = contents(tmp_path)
    with pytest.raises(InvalidArgumentError, match="it has 3 tensors"):
        write_gguf(tmp_path / "m.gguf", {}, tensors(8, 8, 8), refuse, max_file_bytes=1)
    assert contents(tmp_path) == old
    assert names(tmp_path) == parts(3)
