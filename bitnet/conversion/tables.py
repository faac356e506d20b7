"""Embeddings and output heads in other types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitnet.errors import InvalidArgumentError
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.models.tensors import DenseTensor, TableKind
from bitnet.program.workers import Workers
from bitnet.quant import q6_k, q8_0

TableType = Literal["f16", "q8_0", "q6_k"]
"""What a table can be converted to."""

_ROWS_AT_ONCE = 64  # that a thread quantises
_ROWS_OF_A_PIECE = 4096

Array = npt.NDArray[Any]


def table_pieces(
    table: DenseTensor, columns: int, kind: TableKind, workers: Workers
) -> Iterator[Array]:
    """The bytes of a table (rows, columns) as `kind`, in order; its own bytes if that is its kind.

    Raises InvalidArgumentError, which names the tensor, for weights that do not fit `kind`.
    """
    if kind == table.kind:
        yield table.data
        return
    quantize, row_bytes = _QUANTIZE[kind], tensor_bytes(kind.upper(), (1, columns))
    n_rows = len(table.data)
    for first in range(0, n_rows, _ROWS_OF_A_PIECE):
        last = min(first + _ROWS_OF_A_PIECE, n_rows)
        piece = np.empty((last - first, row_bytes), np.uint8)

        def convert(start: int, piece: Array, first: int, last: int) -> None:
            stop = min(start + _ROWS_AT_ONCE, last)
            rows = DenseTensor(table.name, table.data[start:stop], table.kind)
            try:
                piece[start - first : stop - first] = quantize(rows.float32()).view(np.uint8)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"{table.name}: {error}") from error

        starts = range(first, last, _ROWS_AT_ONCE)
        workers.run_all(partial(convert, i, piece, first, last) for i in starts)
        yield piece


def _to_f16(weights: npt.NDArray[np.float32]) -> Array:
    with np.errstate(over="ignore"):
        halves = weights.astype("<f2")
    if not np.isfinite(halves).all():
        raise InvalidArgumentError("F16 cannot hold weights that are too large or not finite")
    return halves


_QUANTIZE: dict[str, Callable[[npt.NDArray[np.float32]], Array]] = {
    "f16": _to_f16,
    "q8_0": q8_0.quantize,
    "q6_k": q6_k.quantize,
}


def check_table_type(kind: str) -> None:
    """Raise InvalidArgumentError unless tables can be converted to `kind`."""
    if kind not in _QUANTIZE:
        raise InvalidArgumentError(
            f"the type of a table must be one of {', '.join(_QUANTIZE)}, not {kind!r}"
        )
