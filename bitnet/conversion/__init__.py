"""Rewriting a model in another format: `bitnet convert`.

    native           a GGUF file whose matrices are used where they are mapped (`native`)
    i2_s ... iq2_bn  a GGUF file of that ternary type, which other engines read too (`exchange`)
    hf               a Hugging Face folder (`huggingface`)

What a GGUF file says of the tokenizer of a folder comes from `vocabulary`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, get_args

from bitnet.conversion.native import HeadTable, write_native
from bitnet.errors import InvalidArgumentError, UnsupportedOperationError
from bitnet.quant.tiled import TiledName

Target = Literal["native", "i2_s", "tl1", "tl2", "tq1_0", "tq2_0", "iq1_bn", "iq2_bn", "hf"]


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: Target = "native",
    *,
    layout: TiledName = "b3",
    head: HeadTable | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the model `source` to `out` in another format.

    to: the format.
    layout: in which the ternary weights of a native file will be multiplied, "b3" or "2bit"; see
        `quant.tiled`.
    head: how to store the table of the output head; None as it is. An embedding that was the head
        too stays as it was.
    overwrite: whether `out` may exist.
    progress: called with the share that is written, 0 to 1.

    `out` appears when all of it is written and was read again. Raises what `bitnet.load` does for
    the source, InvalidArgumentError for the rest, UnsupportedOperationError for a folder.
    """
    if to not in get_args(Target):
        raise InvalidArgumentError(f"to must be one of {', '.join(get_args(Target))}, not {to!r}")
    if to == "hf":
        raise UnsupportedOperationError("writing Hugging Face folders is not there yet")
    if to != "native":
        raise UnsupportedOperationError(f"writing {to} is not there yet")
    write_native(source, out, layout, head, overwrite=overwrite, progress=progress)
