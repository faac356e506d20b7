"""Ternary matrices in the layout of a program: packed by all threads, or used where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.kernels.layouts import TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, UNIT_ROWS, unit_offsets
from bitnet.models.matrices import Matrix
from bitnet.models.spec import ModelSpec
from bitnet.models.tensors import StoredBlock, StoredRows, TernaryTensor
from bitnet.program.memory import allocate, allocate_pages
from bitnet.program.program import Program
from bitnet.program.workers import Workers
from bitnet.quant.tiled import TILE
from bitnet.quant.tl_config import Cut

_STRIPS_AT_ONCE = 64  # of 16 rows: what a thread packs at a time

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Rows of a matrix that come from one tensor: every `step`-th tile of 16 from `first` on."""

    tensor: TernaryTensor | Joined
    first: int = 0
    step: int = 1


class Joined:
    """Tensors one below the other as one, where they do not start with a whole tile."""

    def __init__(self, tensors: Sequence[TernaryTensor]) -> None:
        self._tensors = tensors
        self.name = tensors[0].name
        self.shape = (sum(t.shape[0] for t in tensors), tensors[0].shape[1])

    def codes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        whole = np.concatenate([t.codes(0, t.shape[0]) for t in self._tensors])
        return whole[start:stop]

    def stored(self) -> list[StoredRows]:
        return []


def cuts_of(spec: ModelSpec, ternary: Callable[[str], TernaryTensor]) -> tuple[Cut, ...]:
    """The ways in which TL1 and TL2 tensors of a model are cut."""
    stored = (ternary(name).stored() for name in spec.ternary_shapes())
    cuts = (block.cut for blocks in stored for block in blocks if isinstance(block, StoredBlock))
    return tuple(dict.fromkeys(cuts))


def parts_of(matrix: Matrix, tensors: Sequence[TernaryTensor]) -> list[Part]:
    """What a matrix is packed from; `tensors` are those of its places."""
    if any(place.first % TILE for place in matrix.places):
        return [Part(Joined(tensors))]
    return [
        Part(tensor, place.first // TILE, place.step)
        for place, tensor in zip(matrix.places, tensors, strict=True)
    ]


class Packer:
    """Packs the matrices of a model into one piece of memory.

    n_bytes: what all of them take.
    """

    def __init__(
        self, program: Program, layout: TiledLayout, n_bytes: int, workers: Workers
    ) -> None:
        self._program = program
        self._layout = layout
        # Regions of a matrix are smaller than huge pages.
        self._memory = allocate_pages(n_bytes, huge=not workers.numa)
        self._used = 0
        self._workers = workers

    def matrix(self, rows: int, parts: Sequence[Part]) -> Array:
        """A matrix of `rows` rows, a multiple of 32; those that no part fills are zeros."""
        columns = parts[0].tensor.shape[1]
        size = self._layout.packed_bytes(rows, columns)
        packed = self._memory[self._used : self._used + size]
        self._used += size
        self._workers.place(packed)
        self._workers.run_all(job for part in parts for job in self._jobs(part, packed))
        return packed

    def _jobs(self, part: Part, packed: Array) -> Iterator[Callable[[], None]]:
        """Pieces of a part's packing, in any order, on any thread."""
        stored = part.tensor.stored()
        if any(len(run.rows) % TILE for run in stored):
            stored = []
        for run in stored:
            if isinstance(run, StoredBlock):
                yield partial(self._pack_block, part, run, packed)
                continue
            for rows in _pieces(run.rows):
                yield partial(self._pack, part, run.part(rows), packed)
        if not stored:
            for rows in _pieces(range(part.tensor.shape[0])):
                yield partial(self._pack_codes, part, rows, packed)

    def _pack_codes(self, part: Part, rows: range, packed: Array) -> None:
        whole_tiles = -(-len(rows) // TILE) * TILE
        codes = np.zeros((whole_tiles, part.tensor.shape[1]), np.uint8)
        codes[: len(rows)] = part.tensor.codes(rows.start, rows.stop)
        run = StoredRows("bytes", codes.reshape(-1), range(rows.start, rows.start + whole_tiles))
        self._pack(part, run, packed)

    def _pack(self, part: Part, run: StoredRows, packed: Array) -> None:
        columns = part.tensor.shape[1]
        tile = part.first + run.rows.start // TILE * part.step
        n_strips = len(run.rows) // TILE
        ok = self._program.pack(
            run.kind, columns, run.data, n_strips, run.shift, packed, tile, part.step
        )
        if not ok:
            self._refuse(part, run.rows)

    def _pack_block(self, part: Part, block: StoredBlock, packed: Array) -> None:
        tile = part.first + block.rows.start // TILE * part.step
        if not self._program.pack_block(block.cut, block.sections, packed, tile, part.step):
            self._refuse(part, block.rows)

    def _refuse(self, part: Part, rows: range) -> NoReturn:
        raise InvalidModelError(
            getattr(part.tensor, "path", ""),
            f"something in rows {rows.start} to {rows.stop} stands for no ternary code",
            tensor=part.tensor.name,
        )


def _pieces(rows: range) -> Iterator[range]:
    at_once = TILE * _STRIPS_AT_ONCE
    for start in range(rows.start, rows.stop, at_once):
        yield range(start, min(start + at_once, rows.stop))


def strip_addresses(rows: int, parts: Sequence[Part]) -> tuple[Array, list[Array]]:
    """Where each 16 rows of a matrix are in I2_S tensors as they are stored: i64[rows / 16].

    Rows that no part fills are those of the first part. Also gives the data pointed at. Raises
    InvalidArgumentError for tensors that are not stored as I2_S.
    """
    addresses = np.zeros(rows // TILE, np.int64)
    keep = []
    for part in parts:
        runs = part.tensor.stored()
        run = runs[0] if len(runs) == 1 else None
        if not isinstance(run, StoredRows) or run.kind != "i2_s":
            raise InvalidArgumentError(
                f"layout 'i2_s' uses tensors as they are stored, and {part.tensor.name} is not I2_S"
            )
        n, columns = part.tensor.shape
        data = run.data
        strips = data.ctypes.data + np.arange(n // TILE) * (TILE * columns // 4)
        addresses[part.first : part.first + n // TILE * part.step : part.step] = strips
        keep.append(data)
    addresses[addresses == 0] = addresses[parts[0].first]
    return addresses, keep


def unit_records(rows: int, parts: Sequence[Part], layout: LookUp) -> tuple[Array, list[Array]]:
    """Where each 32 rows of a matrix are in TL1 or TL2 tensors as they are stored.

    i64[rows / 32][UNIT_FIELDS], see `kernels.lookup.unit_block`. Rows that no part fills are those
    of the first part. Also gives the data pointed at. Raises InvalidArgumentError for tensors that
    are not of the layout's type, or that do not begin with 32 rows of their own.
    """
    units = np.zeros((rows // UNIT_ROWS, UNIT_FIELDS), np.int64)
    keep: list[Array] = []
    for part in parts:
        blocks = [block for block in part.tensor.stored() if isinstance(block, StoredBlock)]
        if (
            not blocks
            or blocks[0].cut.name != layout.kind
            or part.first % (2 * part.step) >= part.step
        ):
            raise InvalidArgumentError(
                f"layout {layout.name!r} uses tensors as they are stored, and {part.tensor.name} "
                f"is not {layout.kind}, or not in whole parts of {UNIT_ROWS} rows"
            )
        for block in blocks:
            number = layout.of(block.cut.columns).index(block.cut)
            addresses = [section.ctypes.data for section in block.sections]
            for within in range(len(block.rows) // UNIT_ROWS):
                tile = part.first + (block.rows.start + within * UNIT_ROWS) // TILE * part.step
                unit = units[tile // (2 * part.step) * part.step + tile % part.step]
                unit[: len(addresses)] = np.add(addresses, unit_offsets(block.cut, within))
                unit[-1] = number
            keep += block.sections
    first = parts[0].first // (2 * parts[0].step) * parts[0].step + parts[0].first % parts[0].step
    units[units[:, 0] == 0] = units[first]
    return units, keep


def row_scales(matrix: Matrix, tensors: Sequence[TernaryTensor]) -> npt.NDArray[np.float32]:
    """The scale of each row; 0 where there is none."""
    scales = allocate(matrix.rows, np.float32, zero=True)
    for place, tensor in zip(matrix.places, tensors, strict=True):
        scales[place.rows(0, tensor.shape[0])] = tensor.scale
    return scales
