"""The distributions that a model predicted, in a file, and how far another one's are from them.

The file is safetensors: for each predicted token the log-probabilities of the whole vocabulary in
fixed point, and what follows from them before they are rounded:

    log_probs   u16 (tokens, vocab), -2048 log p: 0 to -31.99 in steps of 1/2048
    nll         f64 (tokens,), of the token that came
    best        i32 (tokens,), the likeliest token

Rounding makes a distribution sum to a little more or less than 1, and is undone that far. What it
then does to a divergence is about a percent for one token, a thousandth for some hundreds, and at
least about 1e-8. Both sides are rounded, so that a model is 0 away from itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors

from bitnet.errors import InvalidArgumentError, printable
from bitnet.evaluation.excerpts import Excerpt, digest
from bitnet.evaluation.statistics import standard_error
from bitnet.formats.new_files import written_aside
from bitnet.formats.safetensors import DTYPES

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U16 = npt.NDArray[np.uint16]

FORMAT = "bitnet baseline 1"
_STEPS = 2048  # to 1 of a log-probability
_MOST = 2**16 - 1


@dataclass(frozen=True)
class Divergence:
    """How far a model's distributions are from those of a baseline.

    kl: of each token, sum p log(p / q) with p of the baseline, in nats, float64 (tokens,).
    same_top: of each token, whether both say that the same one is the likeliest, bool (tokens,).
    baseline_nll: what the baseline's model had, see `Score.nll`.
    """

    kl: F64
    same_top: npt.NDArray[np.bool_]
    baseline_nll: F64

    @property
    def mean_kl(self) -> float:
        return float(self.kl.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, as if the tokens did not depend on each other; nan for less than two."""
        return standard_error(self.kl)

    @property
    def max_kl(self) -> float:
        return float(self.kl.max())

    @property
    def top1_agreement(self) -> float:
        """A share, 0 to 1."""
        return float(self.same_top.mean())


class BaselineWriter:
    """Takes the distributions of all tokens in order."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._nll: list[F64] = []
        self._best: list[npt.NDArray[np.int32]] = []

    def add(self, log_probs: F32, nll: F64) -> None:
        """log_probs: (tokens, vocab); nll: (tokens,)."""
        self._file.write(_rounded(log_probs).astype("<u2").tobytes())
        self._nll.append(nll)
        self._best.append(_best(log_probs))

    def finish(self) -> None:
        self._file.write(np.concatenate(self._nll).astype("<f8").tobytes())
        self._file.write(np.concatenate(self._best).astype("<i4").tobytes())


@contextmanager
def writing_baseline(
    path: Path, excerpts: Sequence[Excerpt], vocab: int
) -> Iterator[BaselineWriter]:
    """Give a writer for what a model predicts in excerpts; the file is there when all went well.

    Raises InvalidArgumentError when it cannot be written.
    """
    n = sum(excerpt.n_predicted for excerpt in excerpts)
    try:
        with written_aside(path) as file:
            file.write(_header(n, vocab, digest(excerpts)))
            writer = BaselineWriter(file)
            yield writer
            writer.finish()
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {path}: {error.strerror}") from error


class Baseline:
    """A file that was written so, opened for the same excerpts, to be compared token by token.

    Raises InvalidArgumentError when it is something else, or of other excerpts.
    """

    def __init__(self, path: Path, excerpts: Sequence[Excerpt], vocab: int) -> None:
        self._path = path
        self._next = 0
        self._kl: list[F64] = []
        self._same_top: list[npt.NDArray[np.bool_]] = []
        try:
            file: Any = safetensors.safe_open(path, framework="numpy")
            self._check(file, excerpts, vocab)
            self._log_probs = file.get_slice("log_probs")
            self._nll: F64 = file.get_tensor("nll")
            self._best: npt.NDArray[np.int32] = file.get_tensor("best")
        except FileNotFoundError as error:
            raise InvalidArgumentError(f"there is no file {path}") from error
        except (OSError, safetensors.SafetensorError) as error:
            raise self._refusal(str(error)) from error
        if not (np.isfinite(self._nll).all() and (self._nll >= 0).all()):
            raise self._refusal("a number of nll is negative or none")

    def compare(self, log_probs: F32) -> None:
        """Take the distributions (n, vocab) of the next n tokens."""
        stop = self._next + len(log_probs)
        before = _normal(self._log_probs[self._next : stop])
        now = _normal(_rounded(log_probs))
        # Where all is equal but for rounding, the sum may be less than 0.
        self._kl.append(np.maximum((np.exp(before) * (before - now)).sum(axis=1), 0))
        self._same_top.append(_best(log_probs) == self._best[self._next : stop])
        self._next = stop

    @property
    def divergence(self) -> Divergence:
        """That of all tokens, when all have been compared."""
        return Divergence(np.concatenate(self._kl), np.concatenate(self._same_top), self._nll)

    def _check(self, file: Any, excerpts: Sequence[Excerpt], vocab: int) -> None:
        found = file.metadata() or {}
        if found.get("format") != FORMAT:
            raise self._refusal(f"its format is {found.get('format')!r}, not {FORMAT!r}")
        tensors = _tensors(sum(excerpt.n_predicted for excerpt in excerpts), vocab)
        if set(file.keys()) != tensors.keys():
            raise self._refusal(f"it does not hold {', '.join(tensors)}")
        of_vocab = file.get_slice("log_probs").get_shape()[-1:]
        if of_vocab != [vocab]:
            raise self._refusal(f"it is of a vocabulary of {of_vocab}, not of {vocab}")
        if found.get("digest") != digest(excerpts):
            raise self._refusal("it is of another text, of other tokens, or of other windows")
        for name, (dtype, shape) in tensors.items():
            stored = file.get_slice(name)
            if (stored.get_dtype(), stored.get_shape()) != (dtype, shape):
                raise self._refusal(f"{name} is not {dtype} of shape {shape}")

    def _refusal(self, rule: str) -> InvalidArgumentError:
        return InvalidArgumentError(printable(f"{self._path} is no baseline for this: {rule}"))


def _tensors(n: int, vocab: int) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of each tensor of a file, in order."""
    return {"log_probs": ("U16", [n, vocab]), "nll": ("F64", [n]), "best": ("I32", [n])}


def _header(n: int, vocab: int, excerpts_digest: str) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": FORMAT, "digest": excerpts_digest}}
    at = 0
    for name, (dtype, shape) in _tensors(n, vocab).items():
        stop = at + math.prod(shape) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, stop]}
        at = stop
    header = json.dumps(entries).encode()
    header = header.ljust(-(-len(header) // 8) * 8)
    return len(header).to_bytes(8, "little") + header


def _rounded(log_probs: F32) -> U16:
    steps: F32 = np.rint(log_probs * np.float32(-_STEPS))
    return np.minimum(steps, _MOST).astype(np.uint16)


def _normal(rounded: U16) -> F64:
    """The log-probabilities (tokens, vocab) that rounded ones stand for; each row sums to 1."""
    log_probs = rounded.astype(np.float64) / -_STEPS
    sums = np.exp(log_probs).sum(axis=1, keepdims=True)
    log_probs -= np.log(sums)
    return log_probs


def _best(log_probs: F32) -> npt.NDArray[np.int32]:
    best: npt.NDArray[np.int64] = log_probs.argmax(axis=1)
    return best.astype(np.int32)
