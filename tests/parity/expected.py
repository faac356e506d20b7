"""What another engine computed, as kept beside a model in `expected.npz`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FILE = "expected.npz"


@dataclass(frozen=True)
class Expected:
    """A sequence of tokens, its logits, and which tokens depend on no activation near a tie."""

    ids: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    """(tokens, vocab)."""
    tie_free: npt.NDArray[np.bool_]


def save(folder: Path, sequences: Sequence[Expected]) -> None:
    np.savez(
        folder / FILE,
        lengths=np.array([len(sequence.ids) for sequence in sequences]),
        **{
            name: np.concatenate([getattr(sequence, name) for sequence in sequences])
            for name in ("ids", "logits", "tie_free")
        },
    )


def load(folder: Path) -> list[Expected]:
    with np.load(folder / FILE) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        parts = (np.split(file[name], ends) for name in ("ids", "logits", "tie_free"))
        return [Expected(*part) for part in zip(*parts, strict=True)]
