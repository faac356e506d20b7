"""How fast TL1 and TL2 tensors are multiplied where they are mapped, with one token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bitnet.codegen import Function, StructRef, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.ternary import BLOCK_ROWS, Use
from bitnet.kernels.ternary_lookup import UNIT_FIELDS, UNIT_ROWS, unit_block, unit_offsets
from bitnet.models.spec import ModelSpec
from bitnet.program.memory import allocate, allocate_pages
from bitnet.program.trial import MOST_BYTES, fewest_seconds, trial_module
from bitnet.program.workers import Workers
from bitnet.quant import tl1, tl2
from bitnet.quant.tiled import TILE
from bitnet.quant.tl_config import Blocks, Cut, Shape, TLName


class LookUpTrial:
    """Multiplies tensors that are in memory as often as makes them as large as the model."""

    def __init__(self, kind: TLName, spec: ModelSpec, target: Target, workers: Workers) -> None:
        shapes = spec.ternary_shapes().values()
        self._kind: TLName = kind
        self._target = target
        self._workers = workers
        self._n_bytes = min(sum(data_bytes(kind, s) for s in shapes), MOST_BYTES)
        # One tensor may be larger than MOST_BYTES.
        self._memory = allocate_pages(max(self._n_bytes, *(data_bytes(kind, s) for s in shapes)))
        self._memory[:] = 0

    def speed(self, shape: Shape, blocks: Blocks) -> float:
        """Weights per second."""
        columns = shape[1]
        cut = Cut(self._kind, columns, blocks)
        layout = LookUp(self._kind, (cut,))
        copies = max(1, self._n_bytes // data_bytes(self._kind, shape))
        units = np.concatenate([self._units(shape, cut, number) for number in range(copies)])
        n_blocks = max(1, len(units) // 2)
        units = np.resize(units, (2 * n_blocks, UNIT_FIELDS))
        q = allocate(layout.q_width(columns), np.int8, zero=True)

        def block(k: Function, job: StructRef, number: Value, use: Use) -> None:
            row = job.buffer("q", t.i8, layout.q_width(columns))
            size = 2 * UNIT_FIELDS
            every = job.buffer("weights", t.i64, job["n_blocks"] * size)
            part = every.part(number * size, size)
            unit_block(k, layout, part, row, columns, TILE, 1, use)

        module = trial_module(self._target, block)
        seconds = fewest_seconds(module, self._workers, n_blocks, units, q)
        return n_blocks * BLOCK_ROWS * columns / seconds

    def _units(self, shape: Shape, cut: Cut, number: int) -> npt.NDArray[np.int64]:
        """What describes each 32 rows of a tensor, the `number`-th in memory."""
        size = data_bytes(self._kind, shape)
        data = self._memory[number * size : (number + 1) * size]
        bm = cut.blocks.bm
        within = np.array([unit_offsets(cut, i) for i in range(bm // UNIT_ROWS)])
        codec = tl1 if self._kind == "TL1" else tl2
        units = np.zeros((shape[0] // bm, bm // UNIT_ROWS, UNIT_FIELDS), np.int64)
        for block, some in enumerate(units):
            sections = codec.block_sections(data, shape, cut.blocks, block)
            addresses = [section.ctypes.data for section in sections]
            some[:, : len(addresses)] = within + addresses
        return units.reshape(-1, UNIT_FIELDS)


def data_bytes(kind: TLName, shape: Shape) -> int:
    """Of a tensor."""
    return tl1.tensor_bytes(shape[0] * shape[1]) if kind == "TL1" else tl2.tensor_bytes(shape)
