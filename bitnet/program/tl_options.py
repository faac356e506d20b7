"""The block sizes that TL1 and TL2 tensors of a shape may have, the usual ones first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from bitnet.errors import InvalidArgumentError
from bitnet.kernels.lookup import MAX_BK
from bitnet.models.tl_blocks import check_blocks
from bitnet.quant.tl_config import Blocks, Shape, TLName

_BMM: dict[TLName, tuple[int, ...]] = {"TL1": (32, 64), "TL2": (32,)}
_LEAST_BK, _USUAL_BK = 32, 128  # with less, finding a block takes longer than multiplying it
_MOST_BM, _USUAL_BM = 1024, 256


def usual_blocks(kind: TLName, shapes: Iterable[Shape]) -> dict[Shape, Blocks]:
    """Block sizes for tensors of these shapes. Raises InvalidArgumentError if there are none."""
    return {
        shape: row_options(kind, shape, column_options(kind, group)[0])[0]
        for group in by_columns(shapes).values()
        for shape in group
    }


def by_columns(shapes: Iterable[Shape]) -> dict[int, list[Shape]]:
    """The different shapes with as many columns, those with the most rows first."""
    groups: dict[int, list[Shape]] = {}
    for rows, columns in sorted(set(shapes), reverse=True):
        groups.setdefault(columns, []).append((rows, columns))
    return groups


def column_options(kind: TLName, shapes: Sequence[Shape]) -> list[Blocks]:
    """How tensors of as many columns may be cut: each bk and bmm that all of them can have.

    bm is the usual one of the first. Raises InvalidArgumentError if there are none.
    """
    options = []
    for bmm in _BMM[kind]:
        for bk in range(8, min(MAX_BK, shapes[0][1]) + 1, 8):
            cut = [_possible(kind, s, [Blocks(bmm, bk, bmm)]) for s in shapes]
            if all(cut):
                options.append(row_options(kind, shapes[0], Blocks(bmm, bk, bmm))[0])
    if not options:
        raise InvalidArgumentError(f"tensors of the shapes {shapes} cannot all be stored as {kind}")
    wide = [blocks for blocks in options if blocks.bk >= _LEAST_BK]
    return sorted(wide or options, key=lambda b: _distance(b.bk, _USUAL_BK))


def row_options(kind: TLName, shape: Shape, usual: Blocks) -> list[Blocks]:
    """The same with each bm that a shape can have, the usual ones first."""
    most = min(shape[0], _MOST_BM)
    every = [Blocks(bm, usual.bk, usual.bmm) for bm in range(usual.bmm, most + 1, usual.bmm)]
    return sorted(_possible(kind, shape, every), key=lambda b: _distance(b.bm, _USUAL_BM))


def _possible(kind: TLName, shape: Shape, options: Sequence[Blocks]) -> list[Blocks]:
    found = []
    for blocks in options:
        with suppress(InvalidArgumentError):
            check_blocks(kind, shape, blocks)
            found.append(blocks)
    return found


def _distance(size: int, usual: int) -> float:
    return max(size, usual) / min(size, usual)
