"""Writing a GGUF file again without its faults; never in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitnet.checkup.faults import Fault, gguf_faults
from bitnet.conversion.output import Output
from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    UnsupportedOperationError,
)
from bitnet.formats import sniff
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import WritableValue
from bitnet.program.workers import Workers, team_size
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
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    layout: SourceLayout = "x86",
    progress: Callable[[float], None] = lambda _: None,
) -> list[Fault]:
    """Write `source` without the faults that `find_repairs` finds, and give these back.

    All else stays as it is, but parts become one file, and big-endian becomes little-endian. `out`
    appears when all of it is written and was read again.
    progress: called with the share that is written, 0 to 1.

    Raises as `find_repairs`, and InvalidArgumentError if `out` exists, cannot be written, or if
    there is nothing to repair.
    """
    source, out = Path(source), Path(out)
    repairs = find_repairs(source, layout)
    if not repairs:
        raise InvalidArgumentError(f"{source} has nothing that can be repaired; nothing is written")
    with GGUFFile(source) as file, closing(Workers(team_size(None, file.size_bytes))) as workers:
        output = Output(out, file.files, overwrite=False, progress=progress)
        metadata: dict[str, WritableValue] = {**file.metadata.stored}
        for fault in repairs:
            metadata |= fault.changes
        tensors = [
            output.tensor(name, info.shape, info.type, partial(make, file, name), file.release)
            for name, info in file.tensors.items()
            for make in [_repacked if layout == "arm64" and info.type == "I2_S" else _stored]
        ]
        output.write(metadata, tensors, _check_sound, workers)
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


def _stored(file: GGUFFile, name: str) -> Iterator[Bytes]:
    yield file.data(name)


def _repacked(file: GGUFFile, name: str) -> Iterator[Bytes]:
    """The bytes of an I2_S tensor of an ARM build as others write it."""
    data = file.data(name)
    codes, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    try:
        for start in range(0, codes.size, _BYTES_AT_ONCE):
            yield i2s.from_arm64(codes[start : start + _BYTES_AT_ONCE])
    except InvalidArgumentError as error:
        raise InvalidModelError(file.path, str(error), tensor=name) from error
    yield trailer


def _check_sound(path: Path) -> None:
    """Raise InvalidModelError if a written file still has faults."""
    with GGUFFile(path) as file:
        left = [fault.name for fault in gguf_faults(file) if fault.changes]
        if left:
            raise InvalidModelError(path, f"still has the faults {', '.join(left)}")
