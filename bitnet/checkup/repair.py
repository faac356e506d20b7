"""Writing a GGUF file again without its faults; never in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitnet.checkup.faults import Fault, gguf_faults
from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    UnsupportedOperationError,
)
from bitnet.formats import sniff
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, WritableValue, write_gguf
from bitnet.quant import i2s
from bitnet.quant.i2s import SourceLayout
from bitnet.quant.ternary import TRAILER_BYTES

_BYTES_AT_ONCE = 1 << 24  # whole blocks of I2_S

Bytes = npt.NDArray[np.uint8]


def find_repairs(source: str | os.PathLike[str], layout: SourceLayout = "x86") -> list[Fault]:
    """The faults of a GGUF file that can be mended.

    layout: "arm64" for a file whose I2_S tensors were written by an ARM build of bitnet.cpp, in
    blocks of 64 weights; no file says so itself.

    Raises what `GGUFFile` does, UnsupportedOperationError for a folder, InvalidArgumentError if
    there is no I2_S to repack.
    """
    source = Path(source)
    if sniff(source) != "gguf":
        raise UnsupportedOperationError(f"{source} is no GGUF file; only those can be repaired")
    with GGUFFile(source) as file:
        return _repairs(file, layout)


def write_repaired(
    source: str | os.PathLike[str], out: str | os.PathLike[str], layout: SourceLayout = "x86"
) -> list[Fault]:
    """Write `source` without the faults that `find_repairs` finds, and give these back.

    All else stays as it is, but parts become one file, and big-endian becomes little-endian. `out`
    appears when all of it is written and was read again. Raises as `find_repairs`, and
    InvalidArgumentError if `out` exists, cannot be written, or if there is nothing to repair.
    """
    source, out = Path(source), Path(out)
    repairs = find_repairs(source, layout)
    if not repairs:
        raise InvalidArgumentError(f"{source} has nothing that can be repaired; nothing is written")
    if out.exists():
        raise InvalidArgumentError(f"{out} exists")
    with GGUFFile(source) as file:
        metadata: dict[str, WritableValue] = {**file.metadata.stored}
        for fault in repairs:
            metadata |= fault.changes
        digests: dict[str, bytes] = {}
        tensors = [
            TensorData(name, info.shape, info.type, _stream(file, name, layout, digests))
            for name, info in file.tensors.items()
        ]
        try:
            write_gguf(out, metadata, tensors, partial(_verify, digests))
        except OSError as error:
            raise InvalidArgumentError(f"cannot write {out}: {error.strerror}") from error
    return repairs


def _repairs(file: GGUFFile, layout: SourceLayout) -> list[Fault]:
    repairs = [fault for fault in gguf_faults(file) if fault.changes]
    if layout == "arm64":
        count = sum(info.type == "I2_S" for info in file.tensors.values())
        if not count:
            raise InvalidArgumentError(f"{file.path} has no I2_S tensors to repack")
        repairs.append(
            Fault("arm-layout", f"{count} I2_S tensors are in blocks of 64 weights, by your word")
        )
    return repairs


def _stream(
    file: GGUFFile, name: str, layout: SourceLayout, digests: dict[str, bytes]
) -> Iterator[Bytes]:
    """The bytes of a tensor in pieces; their hash is in `digests` afterwards."""
    data, digest = file.data(name), hashlib.sha256()
    repack = layout == "arm64" and file.tensors[name].type == "I2_S"
    codes_end = data.size - TRAILER_BYTES if repack else 0
    for start in range(0, data.size, _BYTES_AT_ONCE):
        piece = data[start : start + _BYTES_AT_ONCE]
        if start < codes_end:
            try:
                codes = i2s.from_arm64(piece[: codes_end - start])
            except InvalidArgumentError as error:
                raise InvalidModelError(file.path, str(error), tensor=name) from error
            piece = np.concatenate([codes, piece[codes_end - start :]])
        digest.update(piece.data)
        yield piece
    digests[name] = digest.digest()
    file.release()


def _verify(digests: dict[str, bytes], path: Path) -> None:
    """Raise InvalidModelError unless the written file holds what was given."""
    with GGUFFile(path) as file:
        for name, digest in digests.items():
            if hashlib.sha256(file.data(name).data).digest() != digest:
                raise InvalidModelError(path, "is not what was written", tensor=name)
        left = [fault.name for fault in gguf_faults(file) if fault.changes]
        if left:
            raise InvalidModelError(path, f"still has the faults {', '.join(left)}")
