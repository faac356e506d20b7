"""Rotary position embedding (Su et al., "RoFormer", 2021), in both pairings.

"halves" rotates elements (i, i + d/2) together, as Hugging Face and GPT-NeoX do; "interleaved"
rotates (2i, 2i+1), as Meta's Llama and llama-type GGUF files do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bitnet.codegen import Buffer, Function, Value
from bitnet.kernels.numerics import F32, LANES

Pairing = Literal["halves", "interleaved"]


def rope(k: Function, x: Buffer, cos: Buffer, sin: Buffer, y: Buffer, pairing: Pairing) -> None:
    """Rotate one head: y = x turned by the angles of its position.

    x, y: f32[head_dim]; cos, sin: f32[head_dim / 2], that position's row. x may be y.
    """
    half = cos.known_count
    for start in range(0, half, LANES):
        n = min(LANES, half - start)
        c, s = cos.load(start, n), sin.load(start, n)
        if pairing == "halves":
            a, b = x.load(start, n), x.load(half + start, n)
            y.store(start, a * c - b * s)
            y.store(half + start, b * c + a * s)
        else:
            both = x.load(2 * start, 2 * n)
            a, b = (both.shuffle(list(range(first, 2 * n, 2))) for first in (0, 1))
            low, high = a * c - b * s, b * c + a * s
            y.store(2 * start, _interleave(k, low, high, n))


def _interleave(k: Function, a: Value, b: Value, n: int) -> Value:
    if n == 1:
        return k.concat([a, b])
    return a.shuffle([i // 2 + (i % 2) * n for i in range(2 * n)], b)


def rope_reference(x: F32, cos: F32, sin: F32, pairing: Pairing) -> F32:
    """x: (tokens, heads, head_dim); cos, sin: (tokens, head_dim / 2)."""
    half = x.shape[-1] // 2
    c, s = cos[:, None, :], sin[:, None, :]
    out = np.empty_like(x)
    first, second = (
        (slice(0, half), slice(half, None))
        if pairing == "halves"
        else (slice(0, None, 2), slice(1, None, 2))
    )
    a, b = x[..., first], x[..., second]
    out[..., first] = a * c - b * s
    out[..., second] = b * c + a * s
    return out


def rope_tables(n_positions: int, head_dim: int, theta: float) -> tuple[F32, F32]:
    """cos and sin of position * theta**(-2i/head_dim): two arrays (n_positions, head_dim / 2).

    The powers and the angles are rounded to f32 where transformers rounds them. cos and sin are
    computed from additions and multiplications only, so that every machine gets the same table.
    """
    exponents = (np.arange(0, head_dim, 2) / np.float32(head_dim)).astype(np.float32)
    powers = np.array([theta ** float(e) for e in exponents]).astype(np.float32)
    inverse = np.float32(1) / powers
    angles = np.arange(n_positions, dtype=np.float32)[:, None] * inverse
    return _cos_sin(angles.astype(np.float64))


# pi/2 as the sum of three doubles of 33 bits, so that multiples below 2**20 are exact.
_PIO2 = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)


def _cos_sin(x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[F32, F32]:
    turns = np.rint(x * (2 / np.pi))
    r = x
    for part in _PIO2:
        r = r - turns * part
    square = r * r
    cos, sin = np.ones_like(r), np.ones_like(r)
    for n in range(18, 0, -2):  # Taylor series in nested form, |r| <= pi/4
        cos = 1.0 - square / (n * (n - 1)) * cos
        sin = 1.0 - square / (n * (n + 1)) * sin
    sin = sin * r
    quadrant = turns.astype(np.int64) % 4
    c = np.choose(quadrant, [cos, -sin, -cos, sin])
    s = np.choose(quadrant, [sin, cos, -sin, -cos])
    return c.astype(np.float32), s.astype(np.float32)
