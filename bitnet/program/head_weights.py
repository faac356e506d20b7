"""The weights of the output head: the table as it is stored, and packed for a quantised head."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.kernels import int8
from bitnet.program.head import LAYOUTS, n_tiles
from bitnet.program.memory import address, allocate, allocate_pages, ffi
from bitnet.program.program import Program
from bitnet.program.workers import Workers
from bitnet.quant.tiled import TILE

_TILES_AT_ONCE = 64


class HeadWeights:
    """Owns the memory that `struct`, a bn_head, points at.

    table: the stored table, an aligned array; workers: who pack it.
    """

    def __init__(self, program: Program, table: npt.NDArray[Any], workers: Workers) -> None:
        plan = program.plan
        self.table = table
        self.packed: dict[str, npt.NDArray[Any]] = {}
        self.struct = ffi.new("bn_head *", {"table": address(table)})
        if plan.head_kind == "stored":
            return
        tiles = n_tiles(plan)
        size = LAYOUTS[plan.head_kind].tile_bytes(plan.spec.hidden_size)
        self.packed["packed"] = allocate_pages(tiles * size)
        if LAYOUTS[plan.head_kind] is int8:
            for name in ("scale", "residual", "norm"):
                self.packed[name] = allocate(tiles * TILE, np.float32, zero=True)
            self.packed["scale"][:] = np.nan  # of rows that only fill the last tile
        for name, array in self.packed.items():
            setattr(self.struct, name, address(array))
        self._pack(program, tiles, workers)
        self.struct.largest_norm = self._largest_norm() if plan.head_kind == "certified" else 0.0

    def _pack(self, program: Program, tiles: int, workers: Workers) -> None:
        def pack(first: int) -> None:
            program.pack_head(self.struct, first, min(first + _TILES_AT_ONCE, tiles))

        workers.run_all(partial(pack, first) for first in range(0, tiles, _TILES_AT_ONCE))
        program.check_bounds()

    def _largest_norm(self) -> float:
        whole = np.isfinite(self.packed["scale"])
        norms = self.packed["residual"][whole].astype(float) + self.packed["norm"][whole]
        return float(np.nextafter(np.float32(norms.max(initial=0.0)), np.float32(np.inf)))
