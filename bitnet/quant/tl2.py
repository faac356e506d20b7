"""TL2: triples of ternary codes as a sign and a 4-bit number, laid out for 256-bit registers.

The triple of weights a, b, c is v = 9a + 3b + c: |v|, 0 to 13, and a bit that is set when v < 0.
Only whole blocks of bk columns are stored so; of the rest, a multiple of 32, pairs are stored as
in TL1. The sections follow each other, each one in blocks of bm rows, in memory order:

    A   [rows / bm][columns / bk][bm / 32][bk / 6][32 rows], a byte for two triples of a row
    B   [rows / bm][columns / bk][bm / 32][bk / 24][16 rows], 16 bits, little-endian, for eight
        triples of a row and of the 16th after it: from the high bits down, they take turns
    C   [rows / bm][rest / 32][bm / 32][8][32 rows], a byte for two pairs of a row

with the first index in the high bits of a byte. In A and C the second and third 8 of 32 rows have
changed places. Zeros follow up to a size that depends on the shape only, then, from a multiple of
32 on, the tensor's float32 scale and 28 bytes to ignore.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitnet.errors import InvalidArgumentError
from bitnet.quant.ternary import TRAILER_BYTES, check_codes, pack_trailer, read_trailer
from bitnet.quant.tl_config import Blocks, Shape
from bitnet.quant.tl_indexes import PAIRS, blocks_of, check_data, codes_of, join, pair_indexes

GROUP = 32  # rows, and columns that are stored as pairs
MOST_PAIR_COLUMNS = 256
_SWAPPED = [0, 2, 1, 3]  # of 8 rows each

Bytes = NDArray[np.uint8]


def tensor_bytes(shape: Shape) -> int:
    """Size in bytes of a TL2 tensor, scale and padding included."""
    rows, columns = shape
    if columns < MOST_PAIR_COLUMNS:
        raise InvalidArgumentError(
            f"a TL2 tensor has at least {MOST_PAIR_COLUMNS} columns, not {columns}"
        )
    triples = (columns - MOST_PAIR_COLUMNS) * rows // 3 * 5 // 8
    pairs = MOST_PAIR_COLUMNS * rows // 2 * 4 // 8
    return -(-(triples + pairs) // 32) * 32 + TRAILER_BYTES


def pair_columns(columns: int, blocks: Blocks) -> int:
    """How many of the columns, the last ones, are stored as pairs."""
    return columns % blocks.bk


def section_bytes(shape: Shape, blocks: Blocks) -> tuple[int, int, int]:
    """Sizes of the sections A, B and C, or of some whole blocks of rows in them."""
    rows, pairs = shape[0], pair_columns(shape[1], blocks)
    triples = shape[1] - pairs
    return rows * triples // 6, rows * triples // 24, rows * pairs // 4


def check_blocks(shape: Shape, blocks: Blocks) -> None:
    """Raise unless a matrix (rows, columns) can be cut into such blocks."""
    rows, columns = shape
    if blocks.bmm != GROUP:
        raise InvalidArgumentError(f"TL2 parts have {GROUP} rows (bmm), not {blocks.bmm}")
    for what, whole, part in (
        ("bm", blocks.bm, GROUP),
        ("bk", blocks.bk, 24),
        ("rows", rows, blocks.bm),
        ("rest of columns", pair_columns(columns, blocks), GROUP),
    ):
        if whole % part:
            raise InvalidArgumentError(
                f"TL2 of shape {shape} cannot be cut by {blocks}: "
                f"{what} {whole} is no multiple of {part}"
            )
    if sum(section_bytes(shape, blocks)) > tensor_bytes(shape) - TRAILER_BYTES:
        raise InvalidArgumentError(
            f"TL2 of shape {shape} has no room for {pair_columns(columns, blocks)} columns in pairs"
        )


def pack_sections(codes: Bytes, blocks: Blocks) -> tuple[Bytes, Bytes, Bytes]:
    """The sections A, B and C of codes (rows, columns).

    Whole blocks of bm rows may be packed one after the other and each section concatenated.
    """
    check_codes(codes)
    rows, columns = codes.shape
    check_blocks((rows, columns), blocks)
    n_triples = (columns - pair_columns(columns, blocks)) // 3
    v = (codes[:, : 3 * n_triples].astype(np.int8) - 1).reshape(rows, n_triples, 3) @ _PLACES
    triples = join(np.abs(v).astype(np.uint8).reshape(rows, n_triples // 2, 2))
    pairs = pair_indexes(codes[:, 3 * n_triples :])
    return (
        _by_block(triples, blocks.bm, blocks.bk // 6),
        _pack_signs(v < 0, blocks),
        _by_block(join(pairs.reshape(rows, -1, 2)), blocks.bm, GROUP // 4),
    )


def pack(codes: Bytes, scale: float, blocks: Blocks) -> Bytes:
    """A whole tensor from codes (rows, columns) and its scale."""
    data = np.concatenate(pack_sections(codes, blocks))
    packed = np.zeros(tensor_bytes((codes.shape[0], codes.shape[1])), np.uint8)
    packed[: data.size] = data
    packed[-TRAILER_BYTES:] = np.frombuffer(pack_trailer(scale), np.uint8)
    return packed


def read_scale(data: Bytes, shape: Shape) -> float:
    """The scale of a tensor.

    Raises InvalidArgumentError unless it is finite and not negative.
    """
    check_data("TL2", data, tensor_bytes(shape))
    return read_trailer(data)


def block_sections(data: Bytes, shape: Shape, blocks: Blocks, number: int) -> tuple[Bytes, ...]:
    """What the sections A, B and C have of a block of bm rows."""
    sections, at = [], 0
    for size in section_bytes((blocks.bm, shape[1]), blocks):
        sections.append(data[at + number * size :][:size])
        at += size * (shape[0] // blocks.bm)
    return tuple(sections)


def unpack_rows(data: Bytes, shape: Shape, blocks: Blocks, start: int, stop: int) -> Bytes:
    """Codes (stop - start, columns) of the rows start to stop of a tensor of `shape`.

    Only the blocks that hold these rows are read. An index of a triple above 13, or of a pair above
    8, raises InvalidArgumentError; a sign of zero means nothing.
    """
    check_blocks(shape, blocks)
    check_data("TL2", data, tensor_bytes(shape))
    first, last = blocks_of(shape[0], blocks.bm, start, stop)
    if start == stop:
        return np.empty((0, shape[1]), np.uint8)
    wanted = slice(start - first * blocks.bm, stop - first * blocks.bm)
    sections, at = [], 0
    sizes = section_bytes((blocks.bm, shape[1]), blocks)
    for size in sizes:
        sections.append(data[at + first * size : at + last * size])
        at += size * (shape[0] // blocks.bm)
    rows = (last - first) * blocks.bm
    triples = _by_row(sections[0], rows, blocks.bm, blocks.bk // 6)[wanted]
    negative = _unpack_signs(sections[1], rows, blocks)[wanted]
    pairs = _by_row(sections[2], rows, blocks.bm, GROUP // 4)[wanted]
    codes = codes_of(triples, _TRIPLES)
    codes = np.where(np.repeat(negative, 3, axis=1), np.uint8(2) - codes, codes)
    return np.concatenate([codes, codes_of(pairs, PAIRS)], axis=1)


def _by_block(by_row: Bytes, bm: int, width: int) -> Bytes:
    """Bytes (rows, n), `width` of each row in a block, to sections A and C."""
    rows, n = by_row.shape
    cut = by_row.reshape(rows // bm, bm // GROUP, 4, GROUP // 4, n // width, width)
    return cut[:, :, _SWAPPED].transpose(0, 4, 1, 5, 2, 3).reshape(-1)


def _by_row(section: Bytes, rows: int, bm: int, width: int) -> Bytes:
    """The reverse, of some whole blocks."""
    n = section.size // rows
    cut = section.reshape(rows // bm, n // width, bm // GROUP, width, 4, GROUP // 4)
    return cut[:, :, :, :, _SWAPPED].transpose(0, 2, 4, 5, 1, 3).reshape(rows, n)


def _pack_signs(negative: NDArray[np.bool_], blocks: Blocks) -> Bytes:
    rows, n = negative.shape
    per_block = blocks.bk // 24
    cut = negative.reshape(
        rows // blocks.bm, blocks.bm // GROUP, 2, 16, 3 * n // blocks.bk, per_block, 8
    )
    # From the high bits down; then the low byte comes first.
    packed = np.packbits(cut.transpose(0, 4, 1, 5, 3, 6, 2).reshape(-1))
    return packed.reshape(-1, 2)[:, ::-1].reshape(-1)


def _unpack_signs(section: Bytes, rows: int, blocks: Blocks) -> NDArray[np.bool_]:
    """Whether the triples are negative, (rows, triples)."""
    n = section.size * 8 // rows
    bits = np.unpackbits(section.reshape(-1, 2)[:, ::-1].reshape(-1)).view(np.bool_)
    cut = bits.reshape(
        rows // blocks.bm, 3 * n // blocks.bk, blocks.bm // GROUP, blocks.bk // 24, 16, 8, 2
    )
    return cut.transpose(0, 2, 6, 4, 1, 3, 5).reshape(rows, n)


# Index of a triple -> its three codes where it is not negative; 3 where there is none.
_TRIPLES = np.full((16, 3), 3, np.uint8)
_TRIPLES[:14] = [[(i + 13) // place % 3 for place in (9, 3, 1)] for i in range(14)]
_PLACES = np.array([9, 3, 1], np.int8)
