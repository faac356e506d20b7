"""Embedding rows and the output head, over the three stored formats."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels.head import STORED, Kind, embed, head_reference, head_rows, widen_reference
from bitnet.kernels.numerics import pad_reference, padded
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, kernel, seeds, some

WIDTHS = [1, 16, 17, 72, 100]
TABLES = [(1, "f32"), (16, "f16"), (17, "bf16"), (72, "f16"), (100, "f32")]  # width, format
VOCAB = 21
MOST_TOKENS = 6
tables = st.sampled_from(TABLES)


def random_table(seed: int, n: int, kind: Kind) -> tuple[Array, Array]:
    """A table as stored, and its values in f32."""
    values = f32(np.random.default_rng(seed).standard_normal((VOCAB, n)))
    if kind == "bf16":
        stored = (values.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = values.astype(np.float16 if kind == "f16" else np.float32)
    return stored, widen_reference(stored, kind)


@cache
def embed_kernel(target: Target, checked: bool, n: int, kind: Kind) -> Native:
    def body(k: Function, table: Buffer, token: Value, x: Buffer) -> None:
        embed(k, table, token, n, x, kind)

    parameters = {"table": (STORED[kind], VOCAB * n), "token": t.i64, "x": (t.f32, padded(n))}
    return kernel(target, checked, parameters, body)


@given(seeds, tables, st.integers(0, VOCAB - 1))
@few
def test_embed_takes_one_row_and_pads_it_with_zeros(
    target: Target, checked: bool, seed: int, table: tuple[int, Kind], token: int
) -> None:
    n, kind = table
    stored, values = random_table(seed, n, kind)
    x = np.full(padded(n), np.nan, np.float32)
    embed_kernel(target, checked, n, kind)(stored, token, x)
    assert_same_bits(x, pad_reference(values[token], padded(n)))


@cache
def head_kernel(target: Target, checked: bool, n: int, kind: Kind) -> Native:
    def body(
        k: Function, table: Buffer, first: Value, stop: Value, h: Buffer, n_tokens: Value,
        logits: Buffer,
    ) -> None:  # fmt: skip
        head_rows(k, table, first, stop, h, n, n_tokens, logits, VOCAB, kind)

    parameters = {
        "table": (STORED[kind], VOCAB * n),
        "first": t.i64,
        "stop": t.i64,
        "h": (t.f32, MOST_TOKENS * padded(n)),
        "n_tokens": t.i64,
        "logits": (t.f32, MOST_TOKENS * VOCAB),
    }
    return kernel(target, checked, parameters, body)


@given(
    seeds,
    tables,
    st.tuples(st.integers(0, VOCAB), st.integers(0, VOCAB)).map(sorted),
    st.integers(0, MOST_TOKENS),
)
@few
def test_head_rows_give_the_bits_of_their_reference_and_write_nothing_else(
    target: Target,
    checked: bool,
    seed: int,
    table: tuple[int, Kind],
    rows: list[int],
    n_tokens: int,
) -> None:
    n, kind = table
    stored, values = random_table(seed, n, kind)
    h = f32(np.random.default_rng(seed + 1).standard_normal((MOST_TOKENS, n)))
    logits = np.full((MOST_TOKENS, VOCAB), -7, np.float32)
    first, stop = rows
    expected = logits.copy()
    expected[:n_tokens, first:stop] = head_reference(values[first:stop], h[:n_tokens])
    padded_h = pad_reference(h, padded(n))
    head_kernel(target, checked, n, kind)(stored, first, stop, padded_h, n_tokens, logits)
    assert_same_bits(logits, expected)


@given(seeds, st.sampled_from(WIDTHS))
@some
def test_head_reference_is_the_matrix_product(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    table, h = f32(rng.standard_normal((VOCAB, n))), f32(rng.standard_normal((3, n)))
    exact = h.astype(float) @ table.T.astype(float)
    np.testing.assert_allclose(head_reference(table, h), exact, atol=1e-4)
