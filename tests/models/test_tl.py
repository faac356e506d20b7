"""TL1 and TL2 files: where their block sizes come from, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.models.checkpoint import open_checkpoint
from bitnet.quant.tl_config import (
    CONFIG_NAME,
    MAX_CONFIG_BYTES,
    PRESETS,
    Blocks,
    Shape,
    TLName,
    write_config,
)

Maker = Callable[..., Any]

kinds = pytest.mark.parametrize("kind", PRESETS)
SIZES = {"hidden_size": 256, "ffn_size": 384, "head_dim": 64, "n_layers": 1}
SHAPES = [(256, 256), (128, 256), (384, 256), (256, 384)]
# In every shape another way of cutting.
RIGHT: dict[TLName, dict[Shape, Blocks]] = {
    "TL1": {
        SHAPES[0]: Blocks(128, 64, 64),
        SHAPES[1]: Blocks(64, 32, 32),
        SHAPES[2]: Blocks(192, 128, 64),
        SHAPES[3]: Blocks(256, 96, 32),
    },
    "TL2": {
        SHAPES[0]: Blocks(128, 96, 32),
        SHAPES[1]: Blocks(64, 192, 32),
        SHAPES[2]: Blocks(192, 264, 32),
        SHAPES[3]: Blocks(256, 192, 32),
    },
}
WRONG: dict[TLName, dict[Shape, Blocks]] = {
    "TL1": dict.fromkeys(SHAPES, Blocks(32, 16, 32)),
    "TL2": dict.fromkeys(SHAPES, Blocks(32, 24, 32)),
}


@pytest.fixture
def write(tiny: Maker, write_gguf_model: Maker, tmp_path: Path) -> Maker:
    """write(kind, metadata): a file of that kind, and the model in it."""

    def write(kind: TLName, metadata: dict[str, Any] | None = None) -> tuple[Path, Any]:
        model = tiny("bitnet", **SIZES)
        path = write_gguf_model(
            model,
            tmp_path / "m.gguf",
            linear_type=kind,
            blocks=RIGHT[kind],
            metadata=metadata,
        )
        return path, model

    return write


def keys(model_shapes: dict[str, Shape], blocks: dict[Shape, Blocks]) -> dict[str, int]:
    return {
        f"bitnet.tl.{name}.{size}": getattr(blocks[shape], size)
        for name, shape in model_shapes.items()
        for size in ("bm", "bk", "bmm")
    }


def assert_opens_as(path: Path, model: Any) -> None:
    with open_checkpoint(path) as checkpoint:
        for name, codes in model.codes.items():
            tensor = checkpoint.ternary(name)
            assert tensor.scale == model.scales[name]
            for start, stop in ((0, len(codes)), (5, 70), (64, 64)):
                np.testing.assert_array_equal(tensor.codes(start, stop), codes[start:stop])


@kinds
def test_sizes_in_the_file_come_first(
    write: Maker, tiny: Maker, tmp_path: Path, kind: TLName
) -> None:
    shapes = tiny("bitnet", **SIZES).spec.ternary_shapes()
    path, model = write(kind, keys(shapes, RIGHT[kind]))
    (tmp_path / CONFIG_NAME).write_text(write_config(WRONG[kind]))
    assert_opens_as(path, model)


@kinds
def test_then_those_of_the_configuration_beside_it(
    write: Maker, tmp_path: Path, kind: TLName, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = write(kind)
    (tmp_path / CONFIG_NAME).write_text(write_config(RIGHT[kind]))
    monkeypatch.setitem(PRESETS, kind, WRONG[kind])
    assert_opens_as(path, model)


@kinds
def test_then_those_that_bitnet_cpp_comes_with(
    write: Maker, tmp_path: Path, kind: TLName, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = write(kind)
    (tmp_path / CONFIG_NAME).write_text(write_config({(8, 8): Blocks(1, 1, 1)}))
    monkeypatch.setitem(PRESETS, kind, RIGHT[kind])
    assert_opens_as(path, model)


@kinds
def test_without_any_the_error_says_what_is_missing(write: Maker, kind: TLName) -> None:
    path, _ = write(kind)
    rule = rf"tensor blk.0.\w+.weight: .*{kind}.*{CONFIG_NAME}.*m = \d+, k = \d+"
    with pytest.raises(UnsupportedModelError, match=rule):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"[Kernels_0]\nm = 1\n", rf"{CONFIG_NAME}: \[Kernels_0\] k is None"),
        (b"\xff", f"{CONFIG_NAME}: .*utf-8"),
        (b"#" * (MAX_CONFIG_BYTES + 1), f"{CONFIG_NAME}: is larger"),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    write: Maker, tmp_path: Path, text: bytes, rule: str
) -> None:
    path, _ = write("TL2")
    (tmp_path / CONFIG_NAME).write_bytes(text)
    with pytest.raises(InvalidModelError, match=rule):
        open_checkpoint(path)


def test_a_configuration_that_cannot_be_read_is_an_error(write: Maker, tmp_path: Path) -> None:
    path, _ = write("TL2")
    (tmp_path / CONFIG_NAME).mkdir()
    with pytest.raises(InvalidModelError, match=f"{CONFIG_NAME}: cannot be read"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"bm": 64}, "bitnet.tl.blk.0.attn_q.weight.bk"),
        ({"bm": 64, "bk": 96, "bmm": 0}, "bmm' is 0"),
        ({"bm": 64, "bk": 96, "bmm": "32"}, "bmm' must be an integer"),
        ({"bm": 96, "bk": 96, "bmm": 32}, "attn_q.weight: .*rows 256 is no multiple of 96"),
    ],
)
def test_sizes_in_the_file_are_checked(write: Maker, metadata: dict[str, Any], rule: str) -> None:
    path, _ = write(
        "TL2", {f"bitnet.tl.blk.0.attn_q.weight.{size}": n for size, n in metadata.items()}
    )
    with pytest.raises(InvalidModelError, match=rule):
        open_checkpoint(path)


@kinds
def test_data_that_is_broken_is_refused_when_it_is_read(
    write: Maker, tmp_path: Path, kind: TLName
) -> None:
    path, model = write(kind)
    (tmp_path / CONFIG_NAME).write_text(write_config(RIGHT[kind]))
    with open_checkpoint(path) as checkpoint:
        name = "blk.0.attn_q.weight"
        data = checkpoint.ternary(name).source()
        start = path.read_bytes().index(data.tobytes())
    spoilt = bytearray(path.read_bytes())
    spoilt[start] = 0xFF
    spoilt[start + data.size - 32 : start + data.size - 28] = b"\xff" * 4
    path.write_bytes(spoilt)
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.ternary(name)
        np.testing.assert_array_equal(tensor.codes(128, 256), model.codes[name][128:])
        with pytest.raises(InvalidModelError, match=f"{name}: an index stands for no"):
            tensor.codes(0, 128)
        with pytest.raises(InvalidModelError, match=f"{name}: a scale"):
            tensor.scale  # noqa: B018
