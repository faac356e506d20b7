"""`bitnet convert`: a model as a file that needs no repacking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bitnet import conversion
from bitnet.cli import options
from bitnet.cli.progress import progress
from bitnet.errors import InvalidArgumentError
from bitnet.quant.tiled import TiledName
from bitnet.store import resolve


def convert(
    source: options.SourceArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="GGUF file to write.", show_default=False)
    ],
    layout: Annotated[
        TiledName,
        typer.Option(help="How ternary weights will lie in memory: b3 (1.6 bits) or 2bit."),
    ] = "b3",
    head: Annotated[
        Literal["as-is", "q8_0", "q6_k"],
        typer.Option(help="How to store the table of the output head."),
    ] = "as-is",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a model as a file whose weights are used where they are mapped.

    It loads at once and takes no memory of its own; results are the same. For example:

        bitnet convert model.gguf model-b3.gguf
    """
    if out.exists() and not force:
        raise InvalidArgumentError(f"{out} exists; --force replaces it")
    path = resolve(source)
    with progress("converting") as show:
        table = None if head == "as-is" else head
        conversion.convert(path, out, layout, table, overwrite=force, progress=show)
