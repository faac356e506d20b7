"""Files for other engines: every format from every other one, and what has no form in one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
import pytest

import bitnet
from bitnet.conversion import convert
from bitnet.conversion.origin import Origin
from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelFileError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models import open_checkpoint
from bitnet.quant import i2s, iq_bn
from bitnet.quant.tl_config import Blocks, write_config
from tests.checkup.test_repair import to_arm64
from tests.conversion.conftest import BLOCKS, FORMATS, ROUNDED, f16, make_model, options
from tests.kernels.harness import assert_same_bits
from tests.models.conftest import (
    TinyModel,
    interleave_rows,
    make_tiny,
    write_tiny_folder,
    write_tiny_gguf,
)

IDS = [5, 3, 33, 1, 9, 14, 2]
FILE_TYPES = {
    "i2_s": 40,
    "tl1": 38,
    "tl2": 39,
    "tq1_0": 36,
    "tq2_0": 37,
    "iq1_bn": 136,
    "iq2_bn": 137,
}


def logits(path: Path) -> np.ndarray:
    with bitnet.load(path, threads=2) as model:
        return model.logits(IDS)


def holds(path: Path, model: TinyModel, *, rounded: bool) -> None:
    """Compare all weights of a file with those of a model."""
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.spec == model.spec
        for name, codes in model.codes.items():
            tensor = checkpoint.ternary(name)
            assert_same_bits(tensor.codes(0, len(codes)), codes)
            scale = model.scales[name]
            assert tensor.scale == (f16(scale) if rounded else scale)
        for name, values in model.dense.items():
            assert_same_bits(checkpoint.dense(name).float32(), values)


@pytest.mark.parametrize("before", FORMATS)
def test_every_format_becomes_every_other_one(
    before: str, model: TinyModel, written: dict[str, Path], tmp_path: Path
) -> None:
    holds(written[before], model, rounded=before in ROUNDED)
    for after in FORMATS:
        out = tmp_path / f"{after}.gguf"
        convert(written[before], out, after, **options(after, tmp_path))
        holds(out, model, rounded=before in ROUNDED or after in ROUNDED)
        if before not in ROUNDED and before != "native":
            with GGUFFile(out) as one, GGUFFile(written[after]) as other:
                for name in other.tensors:
                    assert_same_bits(one.data(name), other.data(name))


def test_the_same_weights_give_the_same_logits(
    model: TinyModel, written: dict[str, Path], tmp_path: Path
) -> None:
    exact = logits(written["f32"])
    rounded_model = make_model()
    rounded_model.scales = {name: f16(scale) for name, scale in model.scales.items()}
    path = write_tiny_gguf(rounded_model, tmp_path / "rounded.gguf", linear_type="F32")
    rounded = logits(path)
    for to in FORMATS:
        assert_same_bits(logits(written[to]), rounded if to in ROUNDED else exact)


@pytest.mark.parametrize("to", FILE_TYPES)
def test_files_say_what_they_are_and_keep_what_they_said(to: str, written: dict[str, Path]) -> None:
    with GGUFFile(written["f32"]) as old, GGUFFile(written[to]) as new:
        own = {"general.file_type", "general.quantization_version"}
        assert new.metadata["general.file_type"] == FILE_TYPES[to]
        for key, value in old.metadata.stored.items():
            if key not in own:
                assert repr(new.metadata.stored[key]) == repr(value)
        added = new.metadata.keys() - old.metadata.keys() - own
        linears = [name for name, info in new.tensors.items() if info.type == to.upper()]
        assert len(linears) == 7
        if to in BLOCKS:
            keys = {f"bitnet.tl.{n}.{size}" for n in linears for size in ("bm", "bk", "bmm")}
            assert added == keys
            assert new.metadata[f"bitnet.tl.{linears[0]}.bk"] == BLOCKS[to].bk
        else:
            assert added == set()


def test_what_a_native_file_says_of_its_layout_is_forgotten(
    written: dict[str, Path], tmp_path: Path
) -> None:
    for before in ("native", "tl2"):
        convert(written[before], tmp_path / f"{before}.gguf", "i2_s")
        one, other = (tmp_path / f"{before}.gguf").read_bytes(), written["i2_s"].read_bytes()
        assert sorted(one) == sorted(other)  # the order of keys may differ


@pytest.mark.parametrize("to", ["tq1_0", "tq2_0"])
def test_the_gguf_package_reads_the_same_weights(
    to: str, model: TinyModel, written: dict[str, Path]
) -> None:
    reader = gguf.GGUFReader(written[to])
    assert reader.get_field("general.file_type").contents() == FILE_TYPES[to]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, codes in model.codes.items():
        weights = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        scale = np.float32(f16(model.scales[name]))
        np.testing.assert_array_equal(weights, (codes.astype(np.float32) - 1) * scale)


def test_tl_tensors_keep_their_blocks_unless_told(written: dict[str, Path], tmp_path: Path) -> None:
    convert(written["tl1"], tmp_path / "kept.gguf", "tl1")
    assert (tmp_path / "kept.gguf").read_bytes() == written["tl1"].read_bytes()
    config = tmp_path / "other.ini"
    config.write_text(write_config({(512, 256): Blocks(128, 64, 64)}))
    convert(written["tl1"], tmp_path / "new.gguf", "tl1", tl_config=config)
    with GGUFFile(tmp_path / "new.gguf") as file:
        assert file.metadata["bitnet.tl.blk.0.ffn_up.weight.bm"] == 128
        assert file.metadata["bitnet.tl.blk.0.ffn_down.weight.bm"] == 64


def test_all_parts_of_a_split_model_become_one_file(
    written: dict[str, Path], tmp_path: Path
) -> None:
    with GGUFFile(written["i2_s"]) as file:
        names = list(file.tensors)
        for number, some in enumerate((names[:5], names[5:])):
            keys: dict[str, Any] = dict(file.metadata.stored) if number == 0 else {}
            keys |= {"split.no": number, "split.count": 2, "split.tensors.count": len(names)}
            tensors = [
                TensorData(n, file.tensors[n].shape, file.tensors[n].type, file.data(n))
                for n in some
            ]
            write_gguf(tmp_path / f"m-0000{number + 1}-of-00002.gguf", keys, tensors)
    convert(tmp_path / "m-00002-of-00002.gguf", tmp_path / "out.gguf", "i2_s")
    assert (tmp_path / "out.gguf").read_bytes() == written["i2_s"].read_bytes()


def test_i2_s_of_an_arm_build_is_put_right(tmp_path: Path) -> None:
    model = make_model()

    def as_arm(tensors: list[TensorData]) -> list[TensorData]:
        return [
            TensorData(
                t.name,
                t.shape,
                t.type,
                np.concatenate([to_arm64(model.codes[t.name]), np.asarray(t.data)[-32:]])
                if t.name in model.codes
                else t.data,
            )
            for t in tensors
        ]

    source = write_tiny_gguf(model, tmp_path / "arm.gguf", change=as_arm)
    for to in ("i2_s", "native"):
        convert(source, tmp_path / f"{to}.gguf", to, source_layout="arm64")
        holds(tmp_path / f"{to}.gguf", model, rounded=False)


def test_only_i2_s_can_be_of_an_arm_build(written: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="not I2_S"):
        convert(written["tq2_0"], tmp_path / "out.gguf", "i2_s", source_layout="arm64")


# -- what has no form ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "sizes", "message"),
    [
        ("i2_s", {"ffn_size": 192}, r"ffn_down.*I2_S needs rows of a multiple of 128 .*not 192"),
        ("tq1_0", {"ffn_size": 384}, r"ffn_down.*TQ1_0 .*multiple of 256 .*not 384"),
        ("tq2_0", {"ffn_size": 384}, r"ffn_down.*TQ2_0 .*multiple of 256 .*not 384"),
        ("iq2_bn", {"ffn_size": 96}, r"ffn_down.*IQ2_BN .*multiple of 64 .*not 96"),
        ("tl1", {"ffn_size": 208}, r"\(208, 256\).* cannot all be stored as TL1"),
        ("tl2", {"ffn_size": 208}, r"\(208, 256\).* cannot all be stored as TL2"),
    ],
)
def test_shapes_that_a_format_cannot_hold_are_refused_before_anything_is_written(
    to: Any, sizes: dict[str, int], message: str, tmp_path: Path
) -> None:
    source = write_tiny_gguf(make_model(**sizes), tmp_path / "m.gguf", linear_type="F32")
    with pytest.raises(UnsupportedModelError, match=message):
        convert(source, tmp_path / "out.gguf", to)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_blocks_must_fit_the_shape(written: dict[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "kernel_config.ini"
    config.write_text(write_config({(256, 256): Blocks(96, 128, 32)}))
    with pytest.raises(UnsupportedModelError, match=r"attn_q.*rows 256 is no multiple of 96"):
        convert(written["i2_s"], tmp_path / "out.gguf", "tl1", tl_config=config)
    config.write_text("[Kernels_0]\nm = x\n")
    with pytest.raises(InvalidModelError, match=r"kernel_config\.ini.*m is 'x'"):
        convert(written["i2_s"], tmp_path / "out.gguf", "tl1", tl_config=config)
    with pytest.raises(ModelNotFoundError, match=r"no\.ini"):
        convert(written["i2_s"], tmp_path / "out.gguf", "tl1", tl_config=tmp_path / "no.ini")


@pytest.mark.parametrize("to", FORMATS)
def test_scales_of_rows_are_kept_or_refused(to: str, tmp_path: Path) -> None:
    model = make_model()
    rows = {n: np.float16(0.01 * (1 + np.arange(len(c)) % 5)) for n, c in model.codes.items()}

    def by_row(tensors: list[TensorData]) -> list[TensorData]:
        return [
            TensorData(
                t.name,
                t.shape,
                "IQ2_BN",
                iq_bn.pack("IQ2_BN", model.codes[t.name], rows[t.name].astype(np.float32)),
            )
            if t.name in model.codes
            else t
            for t in tensors
        ]

    source, out = tmp_path / "m.gguf", tmp_path / "out.gguf"
    write_tiny_gguf(model, source, change=by_row)
    if to in ("i2_s", "tl1", "tl2"):
        with pytest.raises(UnsupportedModelError, match=r"attn_q\.weight.*one scale a tensor"):
            convert(source, out, to, **options(to, tmp_path))
        assert not out.exists()
        return
    convert(source, out, to)
    with open_checkpoint(out) as checkpoint:
        for name, scales in rows.items():
            assert_same_bits(np.asarray(checkpoint.ternary(name).scale), scales.astype(np.float32))
            assert_same_bits(checkpoint.ternary(name).codes(0, len(scales)), model.codes[name])


@pytest.mark.parametrize("to", ROUNDED)
@pytest.mark.parametrize("scale", [1e5, 1e-9])
def test_scales_that_no_float16_can_hold_are_refused(to: Any, scale: float, tmp_path: Path) -> None:
    model = make_model()
    model.scales["blk.0.ffn_up.weight"] = scale
    source = write_tiny_gguf(model, tmp_path / "m.gguf")
    with pytest.raises(UnsupportedModelError, match=r"ffn_up.*float16.*cannot hold 1"):
        convert(source, tmp_path / "out.gguf", to)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_a_scale_of_zero_is_one(tmp_path: Path) -> None:
    model = make_model()
    model.scales["blk.0.ffn_up.weight"] = 0.0
    source = write_tiny_gguf(model, tmp_path / "m.gguf")
    convert(source, tmp_path / "out.gguf", "tq2_0")
    with open_checkpoint(tmp_path / "out.gguf") as checkpoint:
        assert checkpoint.ternary("blk.0.ffn_up.weight").scale == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "q4_0"}, "to must be one of native, i2_s.*not 'q4_0'"),
        ({"to": "i2_s", "layout": "b3"}, "layout is for native files"),
        ({"layout": "5bit"}, "layout must be one of b3, 2bit, not '5bit'"),
        ({"tl_config": "x"}, "tl_config is for tl1 and tl2, not for native"),
        ({"source_layout": "riscv"}, "source_layout must be one of x86, arm64"),
        ({"embed": "q4_k"}, "must be one of f16, q8_0, q6_k, not 'q4_k'"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    arguments: dict[str, Any], message: str, written: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        convert(written["i2_s"], tmp_path / "out.gguf", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_code_3_names_the_tensor_and_leaves_nothing(tmp_path: Path) -> None:
    def spoil(tensors: list[TensorData]) -> list[TensorData]:
        data = np.full(i2s.tensor_bytes(512 * 256), 0xFF, np.uint8)
        data[-32:] = 0
        spoilt = TensorData("blk.0.ffn_up.weight", (512, 256), "I2_S", data)
        return [spoilt if t.name == spoilt.name else t for t in tensors]

    source = write_tiny_gguf(make_model(), tmp_path / "m.gguf", change=spoil)
    with pytest.raises(ModelFileError, match=r"ffn_up\.weight: an I2_S code .* is 3"):
        convert(source, tmp_path / "out.gguf", "tq1_0")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


# -- writing -------------------------------------------------------------------------------------


def test_an_interrupt_leaves_nothing(written: dict[str, Path], tmp_path: Path) -> None:
    shares = []

    def stop(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(written["i2_s"], tmp_path / "out.gguf", "tq1_0", progress=stop)
    assert not list(tmp_path.iterdir())
    assert shares == sorted(shares)


def test_what_is_not_on_the_disk_as_it_was_written_is_refused(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(file: int) -> None:
        os.lseek(file, -40, os.SEEK_END)
        os.write(file, b"\x55")

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(InvalidModelError, match=r"blk\.0\.ffn_down\.weight: is not what was"):
        convert(written["tq2_0"], tmp_path / "out.gguf", "i2_s")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_told(written: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot write"):
        convert(written["i2_s"], tmp_path / "no" / "out.gguf", "tq1_0")


def test_a_model_is_not_written_over_itself(tmp_path: Path) -> None:
    file = write_tiny_gguf(make_model(), tmp_path / "m.gguf")
    folder = write_tiny_folder(make_tiny("bitnet-b1.58"), tmp_path / "m")
    for source, out in ((file, file), (folder, folder / "model.safetensors")):
        before = out.read_bytes()
        with pytest.raises(InvalidArgumentError, match="is a file of the model to convert"):
            convert(source, out, "tq1_0", overwrite=True)
        assert out.read_bytes() == before


# -- folders -------------------------------------------------------------------------------------


@pytest.fixture
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitnet.conversion.origin.gguf_vocabulary", lambda _folder, _spec: {})


@pytest.mark.usefixtures("no_tokenizer")
@pytest.mark.parametrize("architecture", ["bitnet-b1.58", "bitnet", "llama"])
@pytest.mark.parametrize("to", ["native", "i2_s"])
def test_a_folder_becomes_the_file_that_converters_make_of_it(
    architecture: str, to: Any, tmp_path: Path
) -> None:
    model = make_tiny(architecture)
    folder = write_tiny_folder(model, tmp_path / "m", "bitlinear", kind="F32")
    expected = write_tiny_gguf(model, tmp_path / "expected.gguf")
    out = tmp_path / "out.gguf"
    convert(folder, out, to)
    with open_checkpoint(out) as one, open_checkpoint(expected) as other:
        assert one.spec == other.spec
        for name in other.spec.dense_shapes():
            assert one.dense(name).kind == "f32"
            assert_same_bits(one.dense(name).data, other.dense(name).data)
        for name, (rows, _) in other.spec.ternary_shapes().items():
            assert one.ternary(name).scale == other.ternary(name).scale
            assert_same_bits(one.ternary(name).codes(0, rows), other.ternary(name).codes(0, rows))
    assert_same_bits(logits(out), logits(expected))


@pytest.mark.usefixtures("no_tokenizer")
def test_norms_of_a_folder_become_float32_and_tables_stay(tmp_path: Path) -> None:
    model = make_tiny("llama")
    convert(write_tiny_folder(model, tmp_path / "m"), tmp_path / "out.gguf", "i2_s")
    with GGUFFile(tmp_path / "out.gguf") as file:
        types = {name: file.tensors[name].type for name in model.dense}
        tables = {"token_embd.weight", "output.weight"}
        assert types == {n: "BF16" if n in tables else "F32" for n in model.dense}
        assert file.metadata["llama.attention.key_length"] == 32


@pytest.mark.usefixtures("no_tokenizer")
def test_any_rows_of_turned_heads_can_be_read(tmp_path: Path) -> None:
    model = make_tiny("llama")
    folder = write_tiny_folder(model, tmp_path / "m", "bitlinear", kind="F32")
    name = "blk.1.attn_k.weight"
    turned = interleave_rows(model.codes[name], model.spec.n_kv_heads)
    with Origin(folder) as origin:
        tensor = origin.ternary(name)
        for start, stop in ((0, 64), (0, 0), (5, 6), (7, 41), (33, 64)):
            assert_same_bits(tensor.codes(start, stop), turned[start:stop])


@pytest.mark.usefixtures("no_tokenizer")
def test_numbers_that_are_no_float32_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_folder(
        make_tiny("llama"), tmp_path / "m", config={"rope_theta": 16777217.0}
    )
    with pytest.raises(UnsupportedModelError, match=r"16777217\.0 is no float32"):
        convert(folder, tmp_path / "out.gguf", "i2_s")
