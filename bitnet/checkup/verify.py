"""Reading all of a model to see whether it is sound: codes, scales, norms, tables; and hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitnet.checkup.stored import open_stored
from bitnet.errors import InvalidModelError, ModelFileError
from bitnet.models import Checkpoint, open_checkpoint
from bitnet.models.tensors import DenseTensor

_WEIGHTS_AT_ONCE = 1 << 22
_BYTES_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome: what was read, the SHA-256 of each file, and what is wrong, if anything."""

    n_tensors: int
    sha256: dict[Path, str]
    problems: list[str]


def verify_model(
    path: str | os.PathLike[str], progress: Callable[[float], None] = lambda _: None
) -> Verification:
    """Read every tensor of a model that can be loaded, and hash its files.

    Ternary tensors must hold the codes of -1, 0 and +1 and scales that are finite and positive, all
    others finite numbers. progress: called with the share done, 0 to 1. Raises what `bitnet.load`
    does for files that are no model.
    """
    problems: list[str] = []
    with open_stored(Path(path)) as stored, open_checkpoint(path) as checkpoint:
        spec = checkpoint.spec
        ternary, dense = list(spec.ternary_shapes()), list(spec.dense_shapes())
        n = len(ternary) + len(dense)
        checks = [(_check_ternary, name) for name in ternary]
        checks += [(_check_dense, name) for name in dense]
        for i, (check, name) in enumerate(checks):
            try:
                check(checkpoint, name)
            except ModelFileError as error:
                problems.append(str(error))
            checkpoint.release()
            progress((i + 1) / n * 0.8)
        hashes = {file: _sha256(file) for file in stored.files}
        progress(1.0)
    return Verification(n, hashes, problems)


def _check_ternary(checkpoint: Checkpoint, name: str) -> None:
    """Raise ModelFileError if anything is wrong."""
    tensor = checkpoint.ternary(name)
    tensor.scale  # noqa: B018  # is checked when it is read, as codes are
    rows, columns = tensor.shape
    step = max(1, _WEIGHTS_AT_ONCE // columns)
    for start in range(0, rows, step):
        tensor.codes(start, min(start + step, rows))


def _check_dense(checkpoint: Checkpoint, name: str) -> None:
    """Raise InvalidModelError for numbers that are not finite."""
    tensor = checkpoint.dense(name)
    step = max(1, _WEIGHTS_AT_ONCE // max(1, tensor.data[0].size))
    for start in range(0, len(tensor.data), step):
        some = DenseTensor(name, tensor.data[start : start + step], tensor.kind).float32()
        bad = ~np.isfinite(some)
        if bad.any():
            value, row = some[bad].reshape(-1)[0], start + int(np.argwhere(bad)[0][0])
            raise InvalidModelError(
                checkpoint.path, f"holds {value}, first in row {row}", tensor=name
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_BYTES_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()
