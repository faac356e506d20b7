"""Attention in numpy, operation by operation as the kernels compute it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bitnet.kernels.attention import SPAN
from bitnet.kernels.numerics import (
    F32,
    LANES,
    exp_reference,
    fma_reference,
    pad_reference,
    tree_reference,
)
from bitnet.kernels.span_merge import NO_SCORE


def attend_reference(q: F32, keys: F32, values: F32, seen: npt.NDArray[np.int64]) -> F32:
    """One head: q (m, d), keys and values (n, d) as stored, seen (m,) up to n; gives (m, d)."""
    q = q * np.float32(1 / math.sqrt(q.shape[1]))
    largest = np.full(len(q), NO_SCORE, np.float32)
    total, acc = np.zeros_like(largest), np.zeros_like(q)
    for start in range(0, len(keys), SPAN):
        span, rows = slice(start, start + SPAN), seen > start
        before = largest[rows], total[rows], acc[rows]
        result = _span_reference(q[rows], keys[span], values[span], seen[rows] - start)
        largest[rows], total[rows], acc[rows] = _merge_reference(before, result)
    return acc / total[:, None]


def _span_reference(
    q: F32, keys: F32, values: F32, seen: npt.NDArray[np.int64]
) -> tuple[F32, F32, F32]:
    """Largest score (m,), sum of the weights (m,), weighted sum of the values (m, d)."""
    scores = np.zeros((len(q), len(keys)), np.float32)
    for d in range(q.shape[1]):
        scores = fma_reference(q[:, d, None], keys[:, d], scores)
    scores[np.arange(len(keys)) >= seen[:, None]] = NO_SCORE
    largest = scores.max(axis=1)
    weights = exp_reference(scores - largest[:, None])
    lanes = np.zeros((len(q), LANES), np.float32)
    for i in range(0, len(keys), LANES):
        lanes = lanes + pad_reference(weights[:, i : i + LANES], LANES)
    acc = np.zeros_like(q)
    for i, value in enumerate(values):
        see = seen > i
        acc[see] = fma_reference(weights[see, i, None], value, acc[see])
    return largest, tree_reference(lanes), acc


def _merge_reference(
    before: tuple[F32, F32, F32], span: tuple[F32, F32, F32]
) -> tuple[F32, F32, F32]:
    largest = np.maximum(before[0], span[0])
    keep, add = exp_reference(before[0] - largest), exp_reference(span[0] - largest)
    total = fma_reference(before[1], keep, span[1] * add)
    acc = fma_reference(before[2], keep[:, None], span[2] * add[:, None])
    return largest, total, acc
