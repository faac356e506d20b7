"""Native model files: GGUF files whose ternary matrices are used where they are mapped.

    bitnet.layout            "b3" or "2bit", see `bitnet.quant.tiled`
    bitnet.layout.version    1
    blk.N.MATRIX.LAYOUT      I8 [rows / 32][bytes of 32 rows], for each of `matrices`
    blk.N.MATRIX.scale       F32, one for each linear layer in it; one for each row of the matrix
                             where one of these layers has a scale a row
    output.int8              I8 [vocab / 16][16 * columns padded to 64], see `bitnet.kernels.int8`;
    output.int8.scale        and F32 [vocab padded to 16] each: all four where the output head is
    output.int8.residual     certified, else none
    output.int8.norm

Everything else is as in other GGUF files. The data of these tensors starts on cache lines. Opening
a file checks names, shapes and scales. Bytes that stand for no codes are not looked for: they do no
harm but to the model's answers, and reading them as codes refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.models.matrices import Place, matrices
from bitnet.models.spec import ModelSpec
from bitnet.models.tensors import StoredRows
from bitnet.models.ternary_tensors import StoredTensor
from bitnet.quant.tiled import (
    GROUP_ROWS,
    PAD,
    STEPS,
    TILE,
    TILE_BYTES,
    TiledName,
    group_bytes,
    unpack_tiles,
)

LAYOUT_KEY = "bitnet.layout"
VERSION_KEY = "bitnet.layout.version"
VERSION = 1
# Field of bn_head -> tensor.
INT8_HEAD = {
    "packed": "output.int8",
    "scale": "output.int8.scale",
    "residual": "output.int8.residual",
    "norm": "output.int8.norm",
}


def matrix_name(layer: int, matrix: str, layout: str) -> str:
    return f"blk.{layer}.{matrix}.{layout}"


def scale_name(layer: int, matrix: str) -> str:
    return f"blk.{layer}.{matrix}.scale"


@dataclass(frozen=True, kw_only=True)
class TiledTensor(StoredTensor):
    """The rows of a linear layer in a packed matrix."""

    layout: TiledName
    place: Place
    scale: float | npt.NDArray[np.float32]

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        self._check_rows(start, stop)
        rows = self.place.rows(start, stop)
        if not rows.size:
            return np.empty((0, self.shape[1]), np.uint8)
        step, first = self.place.step, int(rows[0]) // TILE
        tiles = range(first, int(rows[-1]) // TILE + 1, step)
        with self._named():
            codes = unpack_tiles(self.layout, self.source(), self.shape[1], tiles)
        return np.ascontiguousarray(codes[(rows // TILE - first) // step * TILE + rows % TILE])

    def stored(self) -> list[StoredRows]:
        return []


class NativeTensors:
    """What a native file has in place of the ternary tensors."""

    def __init__(self, file: GGUFFile, spec: ModelSpec) -> None:
        self._file = file
        self.layout = _layout(file)
        self.names: set[str] = set()
        """All tensors described above."""
        self._linears: dict[str, tuple[str, Place, npt.NDArray[np.float32]]] = {}
        for n in range(spec.n_layers):
            self._find_layer(n, spec)
        if INT8_HEAD["packed"] in file.tensors:
            self._find_head(spec)

    def ternary(self, name: str, shape: tuple[int, int]) -> TiledTensor:
        """The linear layer `name`, such as ``blk.0.attn_q.weight``."""
        matrix, place, scales = self._linears[name]
        path, file = self._file.path, self._file
        return TiledTensor(
            path,
            matrix,
            shape,
            lambda: file.data(matrix),
            layout=self.layout,
            place=place,
            scale=float(scales[0]) if scales.size == 1 else scales[place.rows(0, shape[0])],
        )

    def packed(self, name: str) -> npt.NDArray[Any] | None:
        """A tensor of `names`, mapped; None for others."""
        if name not in self.names:
            return None
        data = self._file.data(name)
        return data if self._file.tensors[name].type == "I8" else data.view(np.float32)

    def _find_layer(self, n: int, spec: ModelSpec) -> None:
        for name, matrix in matrices(spec).items():
            packed, scale = matrix_name(n, name, self.layout), scale_name(n, name)
            size = group_bytes(self.layout, matrix.columns)
            self._find(packed, "I8", (matrix.rows // GROUP_ROWS, size))
            shape = (len(matrix.places),)
            if scale in self._file.tensors and self._file.tensors[scale].shape != shape:
                shape = (matrix.rows,)
            scales = self._find(scale, "F32", shape)
            if not (np.isfinite(scales) & (scales >= 0)).all():
                raise self._invalid(scale, "holds numbers that are not finite and positive")
            for i, place in enumerate(matrix.places):
                own = scales if shape == (matrix.rows,) else scales[i : i + 1]
                self._linears[f"blk.{n}.{place.linear}.weight"] = (packed, place, own)

    def _find_head(self, spec: ModelSpec) -> None:
        tiles, width = -(-spec.vocab_size // TILE), -(-spec.hidden_size // PAD) * PAD
        self._find(INT8_HEAD["packed"], "I8", (tiles, TILE * width))
        for field in ("scale", "residual", "norm"):
            values = self._find(INT8_HEAD[field], "F32", (tiles * TILE,))
            # The scale is NaN for rows that are none, or that hold infinities.
            if (values < 0).any() or (field == "scale" and np.isinf(values).any()):
                raise self._invalid(INT8_HEAD[field], "holds numbers that are negative or infinite")

    def _find(self, name: str, kind: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A tensor's data, after checking what can be checked without reading it."""
        info = self._file.tensors.get(name)
        if info is None:
            raise self._invalid(name, "is missing")
        if (info.type, info.shape) != (kind, shape):
            raise self._invalid(name, f"is {info.type} {info.shape}, not {kind} {shape}")
        if info.offset % TILE_BYTES:
            raise self._invalid(name, f"starts at byte {info.offset}, not on a cache line")
        self.names.add(name)
        data = self._file.data(name)
        return data if kind == "I8" else data.view(np.float32)

    def _invalid(self, name: str, rule: str) -> InvalidModelError:
        return InvalidModelError(self._file.path, rule, tensor=name)


def _layout(file: GGUFFile) -> TiledName:
    version = file.metadata.get_int(VERSION_KEY, 0, 2**31)
    if version != VERSION:
        raise UnsupportedModelError(
            file.path, f"version {version} of bitnet layouts is not known here; {VERSION} is"
        )
    layout = file.metadata.get_str(LAYOUT_KEY)
    for known in STEPS:
        if layout == known:
            return known
    raise UnsupportedModelError(file.path, f"layout {layout!r} is not one of {', '.join(STEPS)}")
