"""`bitnet repair`: a GGUF file without the faults that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitnet.checkup.repair import find_repairs, write_repaired
from bitnet.cli import options
from bitnet.cli.progress import progress
from bitnet.errors import printable
from bitnet.store import resolve


def repair(
    source: options.SourceFileArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="GGUF file to write.", show_default=False)
    ],
    apply: Annotated[
        bool, typer.Option("--apply", help="Write OUT; without it, only tell what is to be done.")
    ] = False,
    source_layout: options.SourceLayoutOption = "x86",
) -> None:
    """Tell what can be repaired in a GGUF file and, with --apply, write one without these faults.

    That is: missing-pre, no name of a pre-tokenizer; template, a chat template that is missing or
    never ends a turn; head-count, numbers of heads that contradict the weights; arm-layout, see
    --source-layout. IN stays as it is. For example:

        bitnet repair model.gguf repaired.gguf --apply
    """
    path = resolve(source)
    if apply:
        with progress("repairing") as show:
            faults = write_repaired(path, out, source_layout, show)
    else:
        faults = find_repairs(path, source_layout)
    for fault in faults:
        typer.echo(printable(f"{fault.name}: {fault.text}"))
        for key, value in fault.changes.items():
            shown = repr(value) if isinstance(value, str) else value
            typer.echo(printable(f"    {key} = {shown}"))
    if apply:
        typer.echo(f"wrote {out}")
    elif faults:
        typer.echo("nothing is written without --apply")
    else:
        typer.echo("nothing to repair")
