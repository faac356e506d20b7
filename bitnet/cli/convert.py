"""`bitnet convert` and `bitnet quantize-embeddings`: a model in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bitnet import conversion
from bitnet.cli import options
from bitnet.cli.progress import progress
from bitnet.conversion import Target
from bitnet.conversion.output import files_to_replace
from bitnet.conversion.tables import TableType
from bitnet.errors import InvalidArgumentError
from bitnet.quant.tiled import TiledName
from bitnet.store import resolve

_Table = Literal["as-is", TableType]
_Force = Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")]


def convert(
    source: options.SourceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="What to write.", show_default=False)],
    to: Annotated[
        Target,
        typer.Option(
            help="native: a GGUF file that loads at once and takes no memory of its own; hf: a "
            "Hugging Face folder; the others: a GGUF file of that type. Weights stay the same, but "
            "tq1_0, tq2_0 and iq1_bn round their scales to float16."
        ),
    ] = "native",
    layout: Annotated[
        TiledName | None,
        typer.Option(
            help="How the weights of a native file lie in memory: b3 (1.6 bits) or 2bit.",
            show_default="b3",
        ),
    ] = None,
    embed: Annotated[_Table, typer.Option(help="How to store the embedding.")] = "as-is",
    head: Annotated[
        _Table,
        typer.Option(
            help="How to store the output head. One that is the embedding too stays that, unless "
            "the two shall differ."
        ),
    ] = "as-is",
    source_layout: options.SourceLayoutOption = "x86",
    tl_config: Annotated[
        Path | None,
        typer.Option(
            help="kernel_config.ini with the block sizes for tl1 and tl2, such as `bitnet tune-tl` "
            "writes; without it, those that bitnet.cpp comes with, or usual ones. bitnet.cpp reads "
            "what its kernels were generated for.",
            show_default=False,
        ),
    ] = None,
    split_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Write a GGUF file for other engines that is larger than this, such as 2G, in "
            "parts: OUT model.gguf becomes model-00001-of-00002.gguf and so on.",
            show_default=False,
        ),
    ] = None,
    force: _Force = False,
) -> None:
    """Write a model in another format.

    OUT appears when all of it is written and was read again. For example:

        bitnet convert model.gguf model-b3.gguf

        bitnet convert model.gguf model-tq2.gguf --to tq2_0 --embed q6_k

        bitnet convert model.gguf model-i2s.gguf --to i2_s --split-size 2G

        bitnet convert model.gguf folder --to hf
    """
    max_file_bytes = options.size("--split-size", split_size)
    _check(out, force, max_file_bytes)
    with progress("converting") as show:
        conversion.convert(
            resolve(source),
            out,
            to,
            layout=layout,
            embed=_type(embed),
            head=_type(head),
            source_layout=source_layout,
            tl_config=tl_config,
            split_size=max_file_bytes,
            overwrite=force,
            progress=show,
        )


def quantize_embeddings(
    source: options.SourceFileArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="GGUF file to write.", show_default=False)
    ],
    type: Annotated[TableType, typer.Option(help="How to store it.", show_default=False)],
    force: _Force = False,
) -> None:
    """Write a GGUF file with its embedding in another type.

    All else is copied as it is. For example:

        bitnet quantize-embeddings model.gguf smaller.gguf --type q6_k
    """
    _check(out, force)
    with progress("quantizing") as show:
        conversion.quantize_embeddings(resolve(source), out, type, overwrite=force, progress=show)


def _check(out: Path, force: bool, max_file_bytes: int | None = None) -> None:
    old = files_to_replace(out, max_file_bytes)
    if old and not force:
        raise InvalidArgumentError(f"{old[0]} exists; --force replaces it")


def _type(table: _Table) -> TableType | None:
    return None if table == "as-is" else table
