"""Embedding rows and the output head, over f32, f16 or bf16 tables used as they are stored."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bitnet.codegen import Buffer, Dim, Function, Value
from bitnet.codegen import types as t
from bitnet.kernels.numerics import F32, LANES, by_lanes, dot_reference, f32xL, padded

Kind = Literal["f32", "f16", "bf16"]

STORED: dict[Kind, t.Type] = {"f32": t.f32, "f16": t.i16, "bf16": t.i16}
_ROWS, _TOKENS = 4, 4  # results that one pass keeps in registers


def widen(k: Function, stored: Value, kind: Kind) -> Value:
    """Stored numbers (`STORED[kind]`) as f32; exact."""
    if kind == "f32":
        return stored
    if kind == "f16":
        return k.target.f16_to_f32(k, stored)
    return (stored.zext(t.i32) << 16).bitcast(t.like(stored.type, t.f32))


def embed(k: Function, table: Buffer, token: Value, n: int, x: Buffer, kind: Kind) -> None:
    """x = row `token` of the table. table: STORED[kind][vocab * n]; x: f32[padded n]."""
    row = table.part(token * n, n)

    def copy(i: Dim, valid: int) -> None:
        x.store(i, widen(k, row.load(i, LANES, valid=valid), kind))

    by_lanes(k, n, copy)
    with k.loop(-(-n // LANES) * LANES, x.count, LANES) as i:
        x.store(i, k.const(f32xL, 0.0))


def head_rows(
    k: Function,
    table: Buffer,
    first: Value,
    stop: Value,
    h: Buffer,
    n: int,
    n_tokens: Dim,
    logits: Buffer,
    vocab: int,
    kind: Kind,
) -> None:
    """logits[token][row] = h[token] . table[row] for rows first..stop-1.

    table: STORED[kind][vocab * n]; h: f32[n_tokens * padded n]; logits: f32[n_tokens * vocab].
    """
    stride = padded(n)

    def block(row: Value, rows: int, token: Value, tokens: int) -> None:
        weights = [table.part((row + r) * n, n) for r in range(rows)]
        hidden = [h.part((token + i) * stride, stride) for i in range(tokens)]
        products = _dot_block(k, weights, hidden, n, kind, ahead=_ROWS * n)
        for i in range(tokens):
            for r in range(rows):
                logits[(token + i) * vocab + row + r] = products[r][i]

    whole_rows = first + (stop - first) // _ROWS * _ROWS
    whole_tokens = n_tokens // _TOKENS * _TOKENS
    for start, end, rows in ((first, whole_rows, _ROWS), (whole_rows, stop, 1)):
        with k.loop(start, end, rows) as row:
            with k.loop(0, whole_tokens, _TOKENS) as token:
                block(row, rows, token, _TOKENS)
            with k.loop(whole_tokens, n_tokens) as token:
                block(row, rows, token, 1)


def row_dot(k: Function, table: Buffer, row: Value, h: Buffer, n: int, kind: Kind) -> Value:
    """The logit of one row of the table, with the bits that `head_rows` gives."""
    return _dot_block(k, [table.part(row * n, n)], [h], n, kind)[0][0]


def _dot_block(
    k: Function, weights: list[Buffer], hidden: list[Buffer], n: int, kind: Kind, ahead: int = 0
) -> list[list[Value]]:
    """Products of all rows with all tokens; memory `ahead` elements further on is asked for."""
    acc = [[k.var(f32xL) for _ in hidden] for _ in weights]

    def step(i: Dim, valid: int) -> None:
        x = [row.load(i, LANES) for row in hidden]
        for r, row in enumerate(weights):
            if ahead:
                row.prefetch(i + ahead)
            w = widen(k, row.load(i, LANES, valid=valid), kind)
            for token, total in enumerate(acc[r]):
                total.set(k.fma(w, x[token], total.get()))

    by_lanes(k, n, step)
    return [[k.reduce(total.get(), "add") for total in row] for row in acc]


def widen_reference(stored: np.ndarray[Any, np.dtype[Any]], kind: Kind) -> F32:
    if kind == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # some CPUs flag signalling NaNs
        return stored.astype(np.float32)


def head_reference(table: F32, h: F32) -> F32:
    """table: f32 (vocab, n), widened; h: (tokens, n); gives (tokens, vocab)."""
    return dot_reference(h[:, None, :], table[None, :, :])
