"""Storing the embedding of a GGUF file in another type, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bitnet.conversion.origin import EMBEDDING, Origin
from bitnet.conversion.output import Output
from bitnet.conversion.tables import TableType, check_table_type
from bitnet.errors import UnsupportedModelError, UnsupportedOperationError
from bitnet.formats.gguf_writer import WritableValue
from bitnet.models.native import INT8_HEAD


def quantize_embeddings(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    kind: TableType,
    *,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the GGUF file `source` to `out` with the embedding as `kind`.

    All else is copied, byte for byte; parts become one file. An embedding that is the output head
    too stays that.
    overwrite: whether `out` may exist.
    progress: called with the share that is written, 0 to 1.

    `out` appears when all of it is written and was read again. Raises what `bitnet.load` does for
    the source, UnsupportedOperationError for a folder, UnsupportedModelError for a native file
    whose int8 head was made of the embedding, InvalidArgumentError for the rest.
    """
    source, out = Path(source), Path(out)
    check_table_type(kind)
    with Origin(source, embed=kind) as origin:
        file = origin.file
        if file is None:
            raise UnsupportedOperationError(f"{source} is no GGUF file")
        if origin.spec.tied_head and INT8_HEAD["packed"] in file.tensors:
            raise UnsupportedModelError(
                source, "was made of the embedding; convert the source again", tensor="output.int8"
            )
        output = Output(out, origin.files, overwrite=overwrite, progress=progress)

        def stored(name: str) -> Iterable[npt.NDArray[Any]]:
            yield file.data(name)

        tensors = [
            origin.dense(output, name)
            if name == EMBEDDING
            else output.tensor(name, info.shape, info.type, partial(stored, name), origin.release)
            for name, info in file.tensors.items()
        ]
        metadata: dict[str, WritableValue] = {**file.metadata.stored}
        check = partial(origin.check, weight_types=origin.checkpoint.weight_types)
        output.write(metadata, tensors, check, origin.workers)
