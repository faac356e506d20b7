"""A model that every format can hold, in each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from bitnet.conversion import Target, convert
from bitnet.quant.tl_config import Blocks, write_config
from tests.models.conftest import TinyModel, make_tiny, write_tiny_gguf

FORMATS = [to for to in get_args(Target) if to != "hf"]
ROUNDED = ("tq1_0", "tq2_0", "iq1_bn")  # their scales are float16
SHAPES = ((256, 256), (128, 256), (512, 256), (256, 512))
BLOCKS = {"tl1": Blocks(64, 128, 32), "tl2": Blocks(64, 96, 32)}


def f16(scale: float) -> float:
    return float(np.float16(scale))


def make_model(**changes: Any) -> TinyModel:
    """Its scales are no float16 numbers."""
    sizes = {"hidden_size": 256, "ffn_size": 512, "head_dim": 64, "n_layers": 1}
    model = make_tiny("bitnet-b1.58", **{**sizes, **changes})
    random = np.random.default_rng(3)
    model.scales = {name: float(np.float32(random.uniform(0.01, 0.1))) for name in model.codes}
    return model


def options(to: str, folder: Path) -> dict[str, Any]:
    """What `convert` needs for the formats that look-ups are made of."""
    if to not in BLOCKS:
        return {}
    config = folder / f"{to}.ini"
    config.write_text(write_config(dict.fromkeys(SHAPES, BLOCKS[to])))
    return {"tl_config": config}


@pytest.fixture(scope="session")
def model() -> TinyModel:
    return make_model()


@pytest.fixture(scope="session")
def written(model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Format -> file; "f32" is what they are converted from."""
    folder = tmp_path_factory.mktemp("formats")
    metadata = {"an.array": np.arange(3, dtype=np.int16), "general.file_type": 0}
    source = write_tiny_gguf(model, folder / "f32.gguf", linear_type="F32", metadata=metadata)
    files = {"f32": source}
    for to in FORMATS:
        files[to] = folder / f"{to}.gguf"
        convert(source, files[to], to, **options(to, folder))
    return files
