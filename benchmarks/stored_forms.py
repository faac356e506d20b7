"""A model in every form that it can be stored in, made by `bitnet.conversion`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from bitnet.conversion import Target, convert
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models import open_checkpoint
from bitnet.quant.tiled import TiledName

FOLDER = "Hugging Face folder"
FLOATS = ("F32", "F16", "BF16")
TARGETS: dict[str, Target] = {t.upper(): t for t in get_args(Target) if t not in ("native", "hf")}
TENSOR_TYPES = (*FLOATS, *TARGETS)
NATIVE: tuple[TiledName, ...] = get_args(TiledName)
FORMATS = (FOLDER, *(f"GGUF, {kind}" for kind in TENSOR_TYPES), *(f"native, {n}" for n in NATIVE))


def layout_of(form: str) -> TiledName:
    """One layout for all but native files; it does not change results."""
    return next((layout for layout in NATIVE if form == f"native, {layout}"), "b3")


def store(folder: Path, types: Sequence[str] = TENSOR_TYPES) -> dict[str, Path]:
    """A model in a Hugging Face folder, and beside it in other formats."""
    first = folder.with_name(f"{folder.name}.gguf")
    convert(folder, first, "i2_s")
    return {FOLDER: folder, **store_gguf(first, folder, types)}


def store_gguf(source: Path, folder: Path, types: Sequence[str] = TENSOR_TYPES) -> dict[str, Path]:
    """A GGUF file of type I2_S in other types of tensors and as native files."""
    forms = {}
    for kind in types:
        forms[f"GGUF, {kind}"] = out = folder / f"{kind}.gguf"
        if kind in FLOATS:
            write_floats(source, out, kind)
        else:
            convert(source, out, TARGETS[kind])
    for layout in NATIVE:
        forms[f"native, {layout}"] = out = folder / f"native-{layout}.gguf"
        convert(source, out, layout=layout)
    return forms


def write_floats(source: Path, out: Path, kind: str) -> None:
    """Write a GGUF file with its ternary tensors as floats, as they are before quantisation."""
    with GGUFFile(source) as file, open_checkpoint(source) as checkpoint:
        tensors = []
        for name, info in file.tensors.items():
            if name in checkpoint.spec.ternary_shapes():
                tensor = checkpoint.ternary(name)
                values = tensor.codes(0, info.shape[0]).astype(np.float32) - 1
                data = _as_floats(values * np.float32(tensor.scale), kind)
                tensors.append(TensorData(name, info.shape, kind, data))
            else:
                tensors.append(TensorData(name, info.shape, info.type, file.data(name)))
        write_gguf(out, file.metadata.stored, tensors)


def _as_floats(values: npt.NDArray[np.float32], kind: str) -> npt.NDArray[Any]:
    """Rounded to nearest."""
    if kind == "BF16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return values.astype({"F16": np.float16, "F32": np.float32}[kind])


def same_scales(one: Path, other: Path) -> bool:
    if other == one:
        return True
    with open_checkpoint(one) as a, open_checkpoint(other) as b:
        names = a.spec.ternary_shapes()
        return all(np.array_equal(a.ternary(n).scale, b.ternary(n).scale) for n in names)
