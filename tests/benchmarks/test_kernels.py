"""benchmarks/kernels.py: every kernel can be called, and its rates are right."""

from __future__ import annotations

import pytest

from benchmarks.kernels import COLUMNS, KERNELS, ROWS, TOKENS, rates, ternary_tiled
from bitnet.codegen import find_target


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_runs(name: str) -> None:
    assert KERNELS[name]().seconds(1, find_target()) > 0


def test_rates_are_amounts_over_time() -> None:
    kernel = ternary_tiled("2bit", TOKENS)
    assert (kernel.bytes, kernel.macs) == (ROWS * COLUMNS / 4, TOKENS * ROWS * COLUMNS)
    assert rates(kernel, 1e-3) == "    0.4 GB/s, 209.7 GMAC/s"
