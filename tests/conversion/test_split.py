"""Models in parts: converted to them and back, and never over files that are still wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
import pytest

from bitnet.conversion import convert
from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.formats.gguf import GGUFFile
from tests.conversion.conftest import FORMATS, f16, options
from tests.kernels.harness import assert_same_bits
from tests.models.conftest import TinyModel

SIZE = 60_000  # less than the largest tensor of most types


def same(one: Path, other: Path) -> None:
    with GGUFFile(one) as a, GGUFFile(other) as b:
        assert repr(a.metadata.stored) == repr(b.metadata.stored)
        assert list(a.tensors) == list(b.tensors)
        for name, info in a.tensors.items():
            assert (info.shape, info.type) == (b.tensors[name].shape, b.tensors[name].type)
            assert_same_bits(a.data(name), b.data(name))


@pytest.fixture
def parts(written: dict[str, Path], tmp_path: Path) -> list[Path]:
    """A TQ2_0 model in parts, in a folder with nothing else."""
    convert(written["i2_s"], tmp_path / "m.gguf", "tq2_0", split_size=SIZE)
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("to", [to for to in FORMATS if to != "native"])
def test_parts_hold_what_one_file_holds(to: Any, written: dict[str, Path], tmp_path: Path) -> None:
    convert(
        written["f32"], tmp_path / "m.gguf", to, split_size=SIZE, **options(to, written[to].parent)
    )
    files = sorted(tmp_path.iterdir())
    count = len(files)
    assert count > 1
    assert [f.name for f in files] == [f"m-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]
    same(files[-1], written[to])
    for path in files:
        with GGUFFile(path) as file:
            alone = sum(file.file_of(name) == path for name in file.tensors) == 1
        assert path.stat().st_size <= SIZE or alone


def test_parts_become_the_file_that_they_were(written: dict[str, Path], parts: list[Path]) -> None:
    convert(parts[1], parts[0].with_name("one.gguf"), "tq2_0")
    assert parts[0].with_name("one.gguf").read_bytes() == written["tq2_0"].read_bytes()


def test_the_gguf_package_reads_every_part(model: TinyModel, parts: list[Path]) -> None:
    seen: list[str] = []
    for number, path in enumerate(parts):
        reader = gguf.GGUFReader(path)
        assert reader.get_field("split.no").contents() == number
        for tensor in reader.tensors:
            seen.append(tensor.name)
            if tensor.name in model.codes:
                codes, scale = model.codes[tensor.name], f16(model.scales[tensor.name])
                weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                assert_same_bits(weights, (codes.astype(np.float32) - 1) * np.float32(scale))
    assert {*seen} == {*model.codes, *model.dense}
    assert len({*seen}) == len(seen)


def test_what_fits_is_one_file_without_marks_of_parts(
    written: dict[str, Path], tmp_path: Path
) -> None:
    convert(written["i2_s"], tmp_path / "m.gguf", "tq2_0", split_size=1 << 30)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    assert (tmp_path / "m.gguf").read_bytes() == written["tq2_0"].read_bytes()


def test_old_parts_are_replaced_only_when_told_and_then_all_of_them(
    written: dict[str, Path], parts: list[Path]
) -> None:
    out = parts[0].with_name("m.gguf")
    before = {path: path.read_bytes() for path in parts}
    for size in (SIZE, 1 << 30):
        with pytest.raises(InvalidArgumentError, match=r"m-00001-of-\d{5}\.gguf exists"):
            convert(written["i2_s"], out, "tq2_0", split_size=size)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before
    convert(written["i2_s"], out, "tq2_0", split_size=2 * SIZE, overwrite=True)
    after = sorted(out.parent.iterdir())
    assert 1 < len(after) < len(parts)
    same(after[0], written["tq2_0"])
    convert(written["i2_s"], out, "tq2_0", split_size=1 << 30, overwrite=True)
    assert [*out.parent.iterdir()] == [out]
    with pytest.raises(InvalidArgumentError, match=r"m\.gguf exists"):
        convert(written["i2_s"], out, "tq2_0", split_size=SIZE)


def test_parts_are_not_written_over_themselves(parts: list[Path]) -> None:
    before = {path: path.read_bytes() for path in parts}
    for size in (SIZE, 2 * SIZE, 1 << 30):
        with pytest.raises(InvalidArgumentError, match="is a file of the model to convert"):
            convert(parts[0], parts[0].with_name("m.gguf"), "i2_s", split_size=size, overwrite=True)
    assert {path: path.read_bytes() for path in parts[0].parent.iterdir()} == before


def test_an_interrupt_leaves_the_old_parts_and_nothing_else(
    written: dict[str, Path], parts: list[Path]
) -> None:
    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    before = {path: path.read_bytes() for path in parts}
    out = parts[0].with_name("m.gguf")
    with pytest.raises(KeyboardInterrupt):
        convert(written["i2_s"], out, "i2_s", split_size=SIZE, overwrite=True, progress=stop)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before


def test_a_part_that_is_not_on_the_disk_as_it_was_written_is_named(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[int] = []

    def spoil_second(file: int) -> None:
        files.append(file)
        if len(files) == 2:
            os.lseek(file, -40, os.SEEK_END)
            os.write(file, b"\x55")

    monkeypatch.setattr(os, "fsync", spoil_second)
    with pytest.raises(InvalidModelError, match=r"m-00002-of-\d{5}\.gguf: tensor .*: is not what"):
        convert(written["tq2_0"], tmp_path / "m.gguf", "i2_s", split_size=SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["native", "hf"])
def test_other_targets_have_no_parts(to: Any, written: dict[str, Path], tmp_path: Path) -> None:
    rule = f"split_size is for GGUF files for other engines, not for {to}"
    with pytest.raises(InvalidArgumentError, match=rule):
        convert(written["i2_s"], tmp_path / "m.gguf", to, split_size=SIZE)
    assert not list(tmp_path.iterdir())
