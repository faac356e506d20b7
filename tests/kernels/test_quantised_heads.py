"""Output heads of int8, Q8_0 and Q6_K: tiles, products, and embedding rows of block tables."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import Buffer, Function, Target, Value
from bitnet.codegen import types as t
from bitnet.kernels import int8, q6_k, q6_k_quantize, q8_0
from bitnet.kernels.head import STORED, Kind, widen
from bitnet.kernels.hilo import V_MAX, Split, layout_reference
from bitnet.kernels.numerics import LANES, padded
from bitnet.quant import q6_k as q6_k_codec
from bitnet.quant import q8_0 as q8_0_codec
from bitnet.quant.tiled import TILE
from tests.kernels.harness import Array, Native, assert_same_bits, f32, few, kernel, seeds
from tests.kernels.test_head import random_table

CODECS = {"q8_0": q8_0_codec, "q6_k": q6_k_codec}
KERNELS: dict[str, ModuleType] = {"int8": int8, "q8_0": q8_0, "q6_k": q6_k}
SHAPES = [("int8", 17), ("int8", 100), ("q8_0", 32), ("q8_0", 96), ("q6_k", 256), ("q6_k", 768)]
BLOCK_SHAPES = SHAPES[2:]
QTYPES = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "q6_k": gguf.GGMLQuantizationType.Q6_K}


def random_blocks(kind: str, rows: int, n: int, seed: int) -> Array:
    """Any bytes but for scales, which are numbers."""
    rng = np.random.default_rng(seed)
    codec = CODECS[kind]
    blocks = rng.integers(0, 256, (rows, n // codec.BLOCK, codec.BLOCK_BYTES), np.uint8)
    at = slice(0, 2) if kind == "q8_0" else slice(208, 210)
    d = rng.standard_normal((*blocks.shape[:2], 1)).astype(np.float16)
    blocks[..., at] = d.view(np.uint8)
    return blocks.reshape(rows, -1)


# -- embedding rows ------------------------------------------------------------------------------


@cache
def embed_kernel(target: Target, checked: bool, kind: str, n: int) -> Native:
    module = KERNELS[kind]

    def body(k: Function, row: Buffer, x: Buffer) -> None:
        module.embed(k, row, x)

    parameters = {"row": (t.i8, module.row_bytes(n)), "x": (t.f32, n)}
    return kernel(target, checked, parameters, body)


@given(seeds, st.sampled_from(BLOCK_SHAPES))
@few
def test_embedding_rows_are_what_gguf_reads(
    target: Target, checked: bool, seed: int, shape: tuple[str, int]
) -> None:
    kind, n = shape
    blocks = random_blocks(kind, 1, n, seed)
    x = np.empty(n, np.float32)
    embed_kernel(target, checked, kind, n)(blocks, x)
    assert_same_bits(x, gguf.quants.dequantize(blocks, QTYPES[kind])[0])


# -- products ------------------------------------------------------------------------------------


@cache
def dots_kernel(target: Target, checked: bool, kind: str, n: int, tokens: int) -> Native:
    module = KERNELS[kind]
    form = module.split_format(n)

    def body(
        k: Function, tile: Buffer, scales: Buffer, q: Buffer, offsets: Buffer, scale: Buffer,
        out: Buffer,
    ) -> None:  # fmt: skip
        x = Split(form, q, offsets, scale)
        extra = (scales.load(0, TILE),) if kind == "int8" else ()
        for i, logits in enumerate(module.dots(k, tile, *extra, x, tokens)):
            out.store(i * TILE, logits)

    parameters = {
        "tile": (t.i8, module.tile_bytes(n)),
        "scales": (t.f32, TILE),
        "q": (t.i8, tokens * 2 * form.columns),
        "offsets": (t.i32, tokens * 2 * form.n_blocks),
        "scale": (t.f32, tokens),
        "out": (t.f32, tokens * TILE),
    }
    return kernel(target, checked, parameters, body)


def check_dots(target: Target, checked: bool, kind: str, weights: tuple, v: Array) -> None:
    """weights: what `tiles_reference` and `head_reference` of the kind take, for one tile."""
    module, tokens, n = KERNELS[kind], *v.shape
    form = module.split_format(n)
    wide = np.zeros((tokens, form.columns), np.int64)
    wide[:, :n] = v
    q, offsets = layout_reference(wide, form)
    scale = f32(np.linspace(0.5, 2, tokens))
    out = np.empty((tokens, TILE), np.float32)
    if kind == "int8":
        tile, scales = int8.tiles_reference(weights[0]), weights[1]
    else:
        tile, scales = module.tiles_reference(*weights), np.zeros(TILE, np.float32)
    dots_kernel(target, checked, kind, n, tokens)(tile, scales, q, offsets, scale, out)
    assert_same_bits(out, module.head_reference(*weights, v, scale))


def random_weights(kind: str, n: int, seed: int) -> tuple:
    if kind != "int8":
        return CODECS[kind].unpack(random_blocks(kind, TILE, n, seed))
    rng = np.random.default_rng(seed)
    return rng.integers(-127, 128, (TILE, n), np.int8), f32(rng.uniform(0.001, 2, TILE))


@given(seeds, st.sampled_from(SHAPES), st.sampled_from([1, 4]))
@few
def test_products_have_the_bits_of_their_reference(
    target: Target, checked: bool, seed: int, shape: tuple[str, int], tokens: int
) -> None:
    kind, n = shape
    v = np.random.default_rng(seed + 1).integers(-int(V_MAX), int(V_MAX) + 1, (tokens, n))
    check_dots(target, checked, kind, random_weights(kind, n, seed), v)


@pytest.mark.parametrize(("kind", "n"), [("int8", 4096), ("q8_0", 2560), ("q6_k", 2560)])
@pytest.mark.parametrize("tokens", [1, 4])
def test_no_intermediate_sum_overflows(target: Target, kind: str, n: int, tokens: int) -> None:
    extremes = {
        "int8": (np.full((TILE, n), 127, np.int8), np.ones(TILE, np.float32)),
        "q8_0": (np.full((TILE, n), -128, np.int8), np.ones((TILE, n // 32), np.float16)),
        "q6_k": (
            np.zeros((TILE, n), np.uint8),
            np.full((TILE, n // 16), -128, np.int8),
            np.ones((TILE, n // 256), np.float16),
        ),
    }
    for sign in (1, -1):
        v = np.full((tokens, n), sign * int(V_MAX))
        check_dots(target, False, kind, extremes[kind], v)


def test_int8_sums_of_the_widest_rows_still_fit(target: Target) -> None:
    n = int8.MAX_COLUMNS
    q = np.full((TILE, n), -127, np.int8)
    v = np.full((1, n), int(V_MAX))
    check_dots(target, False, "int8", (q, np.ones(TILE, np.float32)), v)


@pytest.mark.parametrize("kind", ["q8_0", "q6_k"])
def test_references_are_the_matrix_product(kind: str) -> None:
    n, seed = 512, 3
    blocks = random_blocks(kind, TILE, n, seed)
    v = np.random.default_rng(seed).integers(-int(V_MAX), int(V_MAX) + 1, (2, n))
    scale = f32([0.25, 3])
    exact = (v * scale[:, None]) @ CODECS[kind].dequantize(blocks).astype(float).T
    logits = KERNELS[kind].head_reference(*CODECS[kind].unpack(blocks), v, scale)
    np.testing.assert_allclose(logits, exact, rtol=1e-5, atol=1e-6 * np.abs(exact).max())


# -- packing -------------------------------------------------------------------------------------


@cache
def repack_kernel(target: Target, checked: bool, kind: str, n: int) -> Native:
    module = KERNELS[kind]

    def body(k: Function, table: Buffer, tile: Buffer) -> None:
        size = module.row_bytes(n)
        with k.loop(0, TILE) as row:
            module.pack_row(k, table.part(row * size, size), row, tile, n)

    parameters = {
        "table": (t.i8, TILE * module.row_bytes(n)),
        "tile": (t.i8, module.tile_bytes(n)),
    }
    return kernel(target, checked, parameters, body)


@given(seeds, st.sampled_from(BLOCK_SHAPES))
@few
def test_blocks_of_a_file_land_where_the_layout_says(
    target: Target, checked: bool, seed: int, shape: tuple[str, int]
) -> None:
    kind, n = shape
    blocks = random_blocks(kind, TILE, n, seed)
    tile = np.zeros((1, KERNELS[kind].tile_bytes(n)), np.uint8)
    repack_kernel(target, checked, kind, n)(blocks, tile)
    assert_same_bits(tile, KERNELS[kind].tiles_reference(*CODECS[kind].unpack(blocks)))


def test_a_q6_k_tile_takes_as_many_bits_as_in_a_file() -> None:
    assert q6_k.tile_bytes(2560) == TILE * q6_k.row_bytes(2560)


@cache
def quantize_kernel(target: Target, checked: bool, kind: str, n: int, stored: Kind) -> Native:
    quantize = {"q8_0": q8_0.quantize_row, "q6_k": q6_k_quantize.quantize_row}[kind]

    def body(k: Function, table: Buffer, tile: Buffer) -> None:
        with k.loop(0, TILE) as row:
            source = table.part(row * n, n)

            def load(i: Value) -> Value:
                return widen(k, source.load(i, LANES), stored)

            quantize(k, load, row, tile, n)

    parameters = {
        "table": (STORED[stored], TILE * n),
        "tile": (t.i8, KERNELS[kind].tile_bytes(n)),
    }
    return kernel(target, checked, parameters, body)


@given(seeds, st.sampled_from([("q8_0", 64), ("q6_k", 256)]), st.sampled_from(["f32", "f16"]))
@few
def test_float_rows_are_quantised_as_the_codec_does(
    target: Target, checked: bool, seed: int, shape: tuple[str, int], stored: Kind
) -> None:
    kind, n = shape
    rng = np.random.default_rng(seed)
    table = (rng.standard_normal((TILE, n)) * rng.uniform(0, 0.1, (TILE, 1))).astype(np.float32)
    table[3], table[4, : n // 2] = 0, 0
    table[5] *= np.float32(1e-18)
    source = table.astype(np.float16) if stored == "f16" else table
    tile = np.zeros((1, KERNELS[kind].tile_bytes(n)), np.uint8)
    quantize_kernel(target, checked, kind, n, stored)(source, tile)
    blocks = CODECS[kind].quantize(source.astype(np.float32))
    assert_same_bits(tile, KERNELS[kind].tiles_reference(*CODECS[kind].unpack(blocks)))


@pytest.mark.parametrize(("kind", "n"), [("q8_0", 32), ("q6_k", 256)])
@pytest.mark.parametrize("odd", [np.inf, np.nan, -3e38])
def test_a_block_of_what_cannot_be_held_has_no_scale(
    target: Target, kind: str, n: int, odd: float
) -> None:
    table = np.ones((TILE, n), np.float32)
    table[5, 7] = table[9, n - 1] = odd
    tile = np.zeros(KERNELS[kind].tile_bytes(n), np.uint8)
    quantize_kernel(target, False, kind, n, "f32")(table, tile)
    d = tile[: 2 * TILE].view(np.float16)
    assert np.flatnonzero(np.isnan(d)).tolist() == [5, 9]


@cache
def int8_kernel(target: Target, checked: bool, n: int, stored: Kind) -> Native:
    def body(
        k: Function, table: Buffer, tile: Buffer, scale: Buffer, residual: Buffer, norm: Buffer
    ) -> None:
        with k.loop(0, TILE) as row:
            out = int8.RowBounds(scale, residual, norm)
            int8.pack_row(k, table.part(row * n, n), stored, row, tile, out)

    parameters = {
        "table": (STORED[stored], TILE * n),
        "tile": (t.i8, int8.tile_bytes(n)),
        **dict.fromkeys(("scale", "residual", "norm"), (t.f32, TILE)),
    }
    return kernel(target, checked, parameters, body)


def pack_int8(target: Target, checked: bool, stored: Array, kind: Kind) -> list[Array]:
    """Tile, scale, residual and norm of 16 rows."""
    n = stored.shape[1]
    results = [np.zeros((1, int8.tile_bytes(n)), np.uint8)]
    results += [np.empty(TILE, np.float32) for _ in range(3)]
    int8_kernel(target, checked, n, kind)(stored, *results)
    return results


@given(seeds, st.sampled_from([1, 16, 72, 100]), st.sampled_from(["f32", "f16", "bf16"]))
@few
def test_int8_rows_have_the_bits_of_their_reference(
    target: Target, checked: bool, seed: int, n: int, kind: Kind
) -> None:
    stored, values = (v[:TILE] for v in random_table(seed, n, kind))
    stored[3], values[3] = 0, 0
    tile, scale, residual, norm = pack_int8(target, checked, stored, kind)
    q, expected_scale = int8.quantize_reference(values)
    assert_same_bits(tile, int8.tiles_reference(q))
    assert_same_bits(scale, expected_scale)
    expected_residual, expected_norm = int8.bounds_reference(values, q, expected_scale)
    assert_same_bits(residual, expected_residual)
    assert_same_bits(norm, expected_norm)


def test_int8_bounds_are_no_smaller_than_the_norms_they_stand_for() -> None:
    rng = np.random.default_rng(0)
    values = f32(rng.standard_normal((40, 200)) * 2.0 ** rng.integers(-140, 100, (40, 1)))
    q, scale = int8.quantize_reference(values)
    residual, norm = int8.bounds_reference(values, q, scale)
    approximate = q * scale.astype(np.longdouble)[:, None]
    assert (residual >= np.sqrt(np.square(values - approximate).sum(axis=1))).all()
    assert (norm >= np.sqrt(np.square(approximate).sum(axis=1))).all()


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_row_that_is_not_finite_has_no_scale(target: Target, odd: float) -> None:
    table = np.ones((TILE, 40), np.float32)
    table[2, 5] = table[7, 39] = odd
    scale = pack_int8(target, True, table, "f32")[1]
    assert np.flatnonzero(np.isnan(scale)).tolist() == [2, 7]


def test_padding_columns_weigh_nothing(target: Target) -> None:
    tile = pack_int8(target, False, np.ones((TILE, 17), np.float32), "f32")[0]
    by_column = tile.reshape(padded(17) // 4, TILE, 4)
    assert (by_column[5:] == int8.ZERO).all()
