"""Ternary tensors packed, by all threads, in the types that other engines read."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitnet.errors import UnsupportedModelError
from bitnet.formats.gguf_types import tensor_bytes
from bitnet.models.tensors import TernaryTensor
from bitnet.models.ternary_tensors import TLTensor
from bitnet.program.workers import Workers
from bitnet.quant import i2s, iq_bn, tl1, tl2, tq
from bitnet.quant.ternary import TRAILER_BYTES, pack_trailer
from bitnet.quant.tiled import GROUP_ROWS
from bitnet.quant.tl_config import Blocks

TernaryType = Literal["I2_S", "TL1", "TL2", "TQ1_0", "TQ2_0", "IQ1_BN", "IQ2_BN"]

ONE_SCALE: tuple[TernaryType, ...] = ("I2_S", "TL1", "TL2")
"""Types with one scale a tensor; the others have one a row, or more."""
_HALF_SCALES: tuple[TernaryType, ...] = ("TQ1_0", "TQ2_0", "IQ1_BN")

_WEIGHTS_AT_ONCE = 1 << 18  # that a thread packs: so many codes stay in its cache

Array = npt.NDArray[Any]
Scales = npt.NDArray[np.float32]


def pack_tensor(
    kind: TernaryType,
    tensor: TernaryTensor,
    blocks: Blocks | None,
    path: str | os.PathLike[str],
    workers: Workers,
) -> Array:
    """All bytes of a tensor as `kind`, flat.

    blocks: how TL1 and TL2 are cut. path: the model, for messages. Raises UnsupportedModelError if
    a scale does not fit, and what reading codes does.
    """
    n_rows, columns = tensor.shape
    scales = _scales(kind, tensor, path)
    out = np.zeros(tensor_bytes(kind, tensor.shape), np.uint8)
    if kind in ONE_SCALE:
        out[-TRAILER_BYTES:] = np.frombuffer(pack_trailer(float(scales[0])), np.uint8)

    def pack(start: int) -> None:
        stop = min(start + at_once, n_rows)
        parts = _encode(kind, tensor.codes(start, stop), scales[start:stop], blocks)
        section = 0
        for part in parts:  # each section has as many bytes for every row
            row_bytes = part.size // (stop - start)
            first = section + start * row_bytes
            out[first : first + part.size] = part
            section += n_rows * row_bytes

    # Whole blocks of the new tensor, or else of the old one.
    old = tensor.blocks if isinstance(tensor, TLTensor) else None
    block_rows = next((b.bm for b in (blocks, old) if b is not None), GROUP_ROWS)
    at_once = max(1, _WEIGHTS_AT_ONCE // (block_rows * columns)) * block_rows
    workers.run_all(partial(pack, start) for start in range(0, n_rows, at_once))
    return out


def _encode(
    kind: TernaryType, codes: npt.NDArray[np.uint8], scales: Scales, blocks: Blocks | None
) -> tuple[Array, ...]:
    """What each section of a tensor has of some rows, flat."""
    if kind == "I2_S":
        return (i2s.pack_codes(codes),)
    if kind == "TQ1_0" or kind == "TQ2_0":  # noqa: PLR1714  # mypy narrows this
        d = np.repeat(scales[:, None].astype(np.float16), codes.shape[1] // tq.BLOCK, axis=1)
        return (tq.pack(kind, codes, d).reshape(-1),)
    if kind == "IQ1_BN" or kind == "IQ2_BN":  # noqa: PLR1714
        return (iq_bn.pack(kind, codes, scales).reshape(-1),)
    if blocks is None:
        raise TypeError(f"{kind} needs block sizes")
    return (tl1.pack_codes(codes, blocks),) if kind == "TL1" else tl2.pack_sections(codes, blocks)


def _scales(kind: TernaryType, tensor: TernaryTensor, path: str | os.PathLike[str]) -> Scales:
    """The scale of each row (rows,), as `kind` can hold it."""
    scales = np.broadcast_to(np.float32(tensor.scale), tensor.shape[:1])
    if kind not in _HALF_SCALES:
        return scales
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    wrong = np.flatnonzero(~np.isfinite(halves) | ((halves == 0) & (scales > 0)))
    if wrong.size:
        raise UnsupportedModelError(
            path,
            f"{kind} has float16 scales, which cannot hold {scales[wrong[0]]:g}",
            tensor=tensor.name,
        )
    return halves.astype(np.float32)
