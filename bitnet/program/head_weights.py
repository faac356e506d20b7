"""The weights of the output head: the table as it is stored, and packed for a quantised head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.kernels import int8
from bitnet.models.native import INT8_HEAD
from bitnet.program.head import LAYOUTS, n_tiles
from bitnet.program.memory import address, allocate, allocate_pages, ffi
from bitnet.program.plan import Plan
from bitnet.program.program import Program
from bitnet.program.workers import Workers
from bitnet.quant.tiled import TILE

_TILES_AT_ONCE = 64
_TILES_PER_RELEASE = 1024

Array = npt.NDArray[Any]


class HeadWeights:
    """Owns the memory that `struct`, a bn_head, points at.

    table: the stored table, an aligned array. stored: gives what a native file holds of the head,
    by name. release: gives back what was read of the table. workers: who pack it.
    """

    def __init__(
        self,
        program: Program,
        table: Array,
        stored: Callable[[str], Array | None],
        release: Callable[[], None],
        workers: Workers,
    ) -> None:
        plan = program.plan
        self.table = table
        self.packed: dict[str, Array] = {}
        self.struct = ffi.new("bn_head *", {"table": address(table)})
        if plan.head_kind == "stored":
            return
        is_int8 = LAYOUTS[plan.head_kind] is int8
        if is_int8 and stored(INT8_HEAD["packed"]) is not None:
            found = {field: stored(name) for field, name in INT8_HEAD.items()}
            self.packed = {
                f: workers.near(array) for f, array in found.items() if array is not None
            }
            self._point()
        else:
            self._allocate(plan, with_bounds=is_int8)
            workers.place(self.packed["packed"])
            self._point()
            self._pack(program, release, workers)
        self.struct.largest_norm = self._largest_norm() if plan.head_kind == "certified" else 0.0

    def _allocate(self, plan: Plan, *, with_bounds: bool) -> None:
        tiles = n_tiles(plan)
        size = LAYOUTS[plan.head_kind].tile_bytes(plan.spec.hidden_size)
        self.packed["packed"] = allocate_pages(tiles * size)
        if with_bounds:
            for field in ("scale", "residual", "norm"):
                self.packed[field] = allocate(tiles * TILE, np.float32, zero=True)
            self.packed["scale"][:] = np.nan  # of rows that only fill the last tile

    def _point(self) -> None:
        for field, array in self.packed.items():
            setattr(self.struct, field, address(array))

    def _pack(self, program: Program, release: Callable[[], None], workers: Workers) -> None:
        tiles = n_tiles(program.plan)

        def pack(first: int) -> None:
            program.pack_head(self.struct, first, min(first + _TILES_AT_ONCE, tiles))

        for start in range(0, tiles, _TILES_PER_RELEASE):
            part = range(start, min(start + _TILES_PER_RELEASE, tiles), _TILES_AT_ONCE)
            workers.run_all(partial(pack, first) for first in part)
            release()
        program.check_bounds()

    def _largest_norm(self) -> float:
        whole = np.isfinite(self.packed["scale"])
        norms = self.packed["residual"][whole].astype(float) + self.packed["norm"][whole]
        return float(np.nextafter(np.float32(norms.max(initial=0.0)), np.float32(np.inf)))
