"""Native files: the same bits as their source, mapped and not copied, and refused when broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert
from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    UnsupportedModelError,
)
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models import open_checkpoint
from bitnet.models.native import LAYOUT_KEY, VERSION_KEY
from bitnet.program.plan import HeadKind
from bitnet.quant.tiled import STEPS, TiledName
from tests.kernels.harness import assert_same_bits
from tests.program.random_models import ALIGNED, CASES, Case
from tests.program.test_workers import needs_pinning

IDS = [5, 3, 70, 1, 9, 44, 2]
ODD = CASES["llama"]  # no size is a multiple of anything


def write_case(path: Path, case: Case) -> Path:
    """A random model as GGUF, its ternary tensors as floats of three values."""
    spec, arch = case.spec, "llama" if not case.spec.sub_norms else "bitnet-b1.58"
    metadata: dict[str, Any] = {
        "general.architecture": arch,
        f"{arch}.block_count": spec.n_layers,
        f"{arch}.context_length": spec.context_length,
        f"{arch}.embedding_length": spec.hidden_size,
        f"{arch}.feed_forward_length": spec.ffn_size,
        f"{arch}.attention.head_count": spec.n_heads,
        f"{arch}.attention.head_count_kv": spec.n_kv_heads,
        f"{arch}.attention.key_length": spec.head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": spec.rms_norm_eps,
        f"{arch}.vocab_size": spec.vocab_size,
        "an.array": np.arange(3, dtype=np.int16),
    }
    tensors = []
    for name, shape in spec.dense_shapes().items():
        data = case.tensors.dense(name)
        tensors.append(TensorData(name, shape, data.kind.upper(), data.data))
    for name, shape in spec.ternary_shapes().items():
        linear = case.tensors.ternary(name)
        values = (linear.data.astype(np.float32) - 1) * np.float32(linear.scale)
        tensors.append(TensorData(name, shape, "F32", values))
    write_gguf(path, metadata, tensors)
    return path


@pytest.fixture(params=["odd", "aligned"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_case(tmp_path / "source.gguf", ODD if request.param == "odd" else ALIGNED)


@pytest.fixture
def native(tmp_path: Path) -> Path:
    convert(write_case(tmp_path / "source.gguf", ODD), tmp_path / "native.gguf")
    return tmp_path / "native.gguf"


def logits(path: Path, **options: Any) -> np.ndarray:
    with bitnet.load(path, threads=2, **options) as model:
        return model.logits(IDS)


@pytest.mark.parametrize("layout", STEPS)
def test_a_native_file_gives_the_bits_of_its_source(source: Path, layout: TiledName) -> None:
    out = source.with_name("native.gguf")
    convert(source, out, layout=layout)
    expected = logits(source)
    assert_same_bits(logits(out), expected)
    for other in STEPS:
        assert_same_bits(logits(out, layout=other), expected)


@pytest.mark.parametrize("layout", STEPS)
def test_every_code_and_scale_comes_back(source: Path, layout: TiledName) -> None:
    out = source.with_name("native.gguf")
    convert(source, out, layout=layout)
    with open_checkpoint(source) as before, open_checkpoint(out) as after:
        assert after.spec == before.spec
        assert after.layout == layout
        for name, (rows, _) in before.spec.ternary_shapes().items():
            old, new = before.ternary(name), after.ternary(name)
            assert new.scale == old.scale
            assert_same_bits(new.codes(0, rows), old.codes(0, rows))
            assert_same_bits(new.codes(rows // 3, rows // 2), old.codes(rows // 3, rows // 2))
        for name in before.spec.dense_shapes():
            assert after.dense(name).data.tobytes() == before.dense(name).data.tobytes()


def test_the_bundled_model_tells_the_same_story(tmp_path: Path) -> None:
    out = tmp_path / "stories.gguf"
    convert(bitnet.bundled_model_path(), out)
    texts = []
    for path in (None, out):
        with bitnet.load(path) as model:
            texts.append(model.generate("Once", max_new_tokens=20, temperature=0).text)
    assert texts[0] == texts[1]
    with GGUFFile(bitnet.bundled_model_path()) as old, GGUFFile(out) as new:
        for key, value in old.metadata.items():
            assert np.array_equal(new.metadata[key], value), key


def test_matrices_are_used_where_they_are_mapped(native: Path) -> None:
    with bitnet.load(native) as model, GGUFFile(native) as file:
        assert model._engine._stepper.program.plan.layout == "b3"
        weights = model._engine._stepper.weights
        assert weights._packer is None
        kept = [array for array in weights._keep if not array.flags.writeable]
        mapped = [file.data(f"blk.{n}.qkv.b3") for n in range(ODD.spec.n_layers)]
        for data in mapped:
            assert any(data.tobytes() == array.tobytes() for array in kept)


@needs_pinning
@pytest.mark.parametrize("head", ["certified", "int8", "stored"])
def test_numa_changes_no_bit(source: Path, head: HeadKind) -> None:
    out = source.with_name("native.gguf")
    convert(source, out)
    expected = logits(source, head=head)
    for path in (source, out):
        assert_same_bits(logits(path, head=head, numa=True), expected)


@needs_pinning
def test_numa_cannot_move_what_is_used_in_the_file(tmp_path: Path) -> None:
    path = write_case(tmp_path / "source.gguf", ALIGNED)
    with pytest.raises(InvalidArgumentError, match="numa"):
        bitnet.load(path, layout="i2_s", numa=True)


def test_only_i2_s_is_used_in_an_i2_s_layout(tmp_path: Path) -> None:
    out = tmp_path / "native.gguf"
    convert(write_case(tmp_path / "source.gguf", ALIGNED), out)
    with pytest.raises(InvalidArgumentError, match="i2_s"):
        bitnet.load(out, layout="i2_s")


@pytest.mark.parametrize("kind", ["q8_0", "q6_k"])
def test_the_head_can_be_written_with_fewer_bits(tmp_path: Path, kind: str) -> None:
    case = replace(ALIGNED, spec=replace(ALIGNED.spec, hidden_size=256, ffn_size=256))
    source, out = write_case(tmp_path / "source.gguf", case), tmp_path / "native.gguf"
    convert(source, out, head=kind)
    assert_same_bits(logits(out), logits(source, head=kind))
    with bitnet.load(out) as model:
        assert model._engine._stepper.program.plan.head == kind


def test_nothing_is_replaced_unless_told(native: Path) -> None:
    source, before = native.with_name("source.gguf"), native.read_bytes()
    with pytest.raises(InvalidArgumentError, match="exists"):
        convert(source, native)
    assert native.read_bytes() == before
    convert(source, native, layout="2bit", overwrite=True)
    assert native.read_bytes() != before


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write_case(tmp_path / "source.gguf", ODD)
    rewrite(source, {}, spoil_one_weight)
    with pytest.raises(UnsupportedModelError, match=r"blk\.2\.ffn_up"):
        convert(source, tmp_path / "out.gguf")
    assert {path.name for path in tmp_path.iterdir()} == {"source.gguf"}


def spoil_one_weight(name: str, data: np.ndarray) -> np.ndarray:
    """One weight of blk.2.ffn_up is none of -s, 0 and +s."""
    if name == "blk.2.ffn_up.weight":
        data = data.copy()
        data.reshape(-1).view(np.float32)[7] = 0.123
    return data


# -- broken native files -------------------------------------------------------------------------


def rewrite(
    path: Path,
    metadata: dict[str, Any],
    change: Callable[[str, np.ndarray], np.ndarray | None] = lambda _, data: data,
) -> None:
    """Write a file again with other metadata, and tensors changed or (None) left out."""
    with GGUFFile(path) as file:
        tensors = []
        for name, info in file.tensors.items():
            data = change(name, np.array(file.data(name)))
            if data is not None:
                shape = info.shape if data.nbytes == info.nbytes else (data.nbytes,)
                tensors.append(TensorData(name, shape, info.type, data))
        values = {key: file.metadata[key] for key in file.metadata} | metadata
    write_gguf(path, values, tensors)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (VERSION_KEY, 2, "version 2 of bitnet layouts is not known"),
        (LAYOUT_KEY, "5bit", "layout '5bit' is not one of b3, 2bit"),
    ],
)
def test_unknown_versions_and_layouts_are_refused(
    native: Path, key: str, value: object, message: str
) -> None:
    rewrite(native, {key: value})
    with pytest.raises(UnsupportedModelError, match=message):
        bitnet.load(native)


def test_a_layout_that_the_matrices_are_not_in_is_refused(native: Path) -> None:
    rewrite(native, {LAYOUT_KEY: "2bit"})
    with pytest.raises(InvalidModelError, match=r"blk\.0\.qkv\.2bit: is missing"):
        bitnet.load(native)


@pytest.mark.parametrize("name", ["blk.1.down.b3", "blk.1.down.scale"])
def test_missing_parts_are_named(native: Path, name: str) -> None:
    rewrite(native, {}, lambda other, data: None if other == name else data)
    with pytest.raises(InvalidModelError, match=f"{name}: is missing"):
        bitnet.load(native)


def test_a_matrix_of_another_size_is_refused(native: Path) -> None:
    name = "blk.1.gate_up.b3"
    rewrite(native, {}, lambda other, data: data[:-64] if other == name else data)
    with pytest.raises(InvalidModelError, match=name):
        bitnet.load(native)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_scales_must_be_scales(native: Path, scale: float) -> None:
    def change(name: str, data: np.ndarray) -> np.ndarray:
        return np.full(3, scale, np.float32) if name == "blk.2.qkv.scale" else data

    rewrite(native, {}, change)
    with pytest.raises(InvalidModelError, match=r"blk\.2\.qkv\.scale"):
        bitnet.load(native)


def test_bytes_that_stand_for_nothing_are_refused_as_codes(native: Path) -> None:
    """They are not looked for when a file is mapped, and then only spoil its answers."""
    rewrite(native, {}, lambda name, data: data | 0xFF if name == "blk.0.down.b3" else data)
    assert logits(native).shape == (len(IDS), ODD.spec.vocab_size)
    with open_checkpoint(native) as checkpoint:
        tensor = checkpoint.ternary("blk.0.ffn_down.weight")
        with pytest.raises(InvalidModelError, match=r"blk\.0\.down\.b3"):
            tensor.codes(0, 16)


def test_a_truncated_file_is_refused(native: Path) -> None:
    native.write_bytes(native.read_bytes()[:-100])
    with pytest.raises(InvalidModelError):
        bitnet.load(native)
