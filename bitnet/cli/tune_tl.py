"""`bitnet tune-tl`: block sizes for TL1 and TL2 that this machine multiplies fastest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bitnet.bench.machine import busy_warning
from bitnet.cli import options
from bitnet.cli.progress import progress
from bitnet.codegen import find_target
from bitnet.errors import InvalidArgumentError
from bitnet.formats.new_files import written_aside
from bitnet.models import open_checkpoint
from bitnet.program.tl_tuning import TunedBlocks, tune_blocks
from bitnet.program.workers import Workers, team_size
from bitnet.quant.tl_config import TLName, write_config
from bitnet.store import resolve

_KINDS: dict[str, TLName] = {"tl1": "TL1", "tl2": "TL2"}


def tune_tl(
    model: options.ModelArgument,
    kind: Annotated[
        Literal["tl1", "tl2"], typer.Option(help="The type that the tensors are to have.")
    ] = "tl2",
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The kernel_config.ini to write; without it, to standard output.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    threads: options.Threads = None,
    target: options.TargetName = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object with the speeds.")
    ] = False,
) -> None:
    """Find how to cut TL1 or TL2 tensors of a model's shapes, by measuring on this machine.

    Only the shapes of MODEL matter, whatever its weights are stored as. Results do not depend on
    the sizes, and other layouts may well be faster: compare with `bitnet bench`. For example:

        bitnet tune-tl model.gguf --kind tl2 -o kernel_config.ini

        bitnet convert model.gguf model-tl2.gguf --to tl2 --tl-config kernel_config.ini
    """
    if out is not None and out.exists() and not force:
        raise InvalidArgumentError(f"{out} exists; --force replaces it")
    with open_checkpoint(resolve(model)) as checkpoint:
        spec, size = checkpoint.spec, checkpoint.size_bytes
    chosen = find_target(target)
    if warning := busy_warning():
        typer.echo(f"warning: {warning}", err=True)
    workers = Workers(team_size(threads, size))
    try:
        with progress("measuring") as show:
            tuned = tune_blocks(_KINDS[kind], spec, chosen, workers, show)
    finally:
        workers.close()
    text = write_config({t.shape: t.blocks for t in tuned})
    if out is not None:
        _write(out, text)
    if as_json:
        report = {"kind": kind, "target": chosen.name, "threads": workers.n}
        typer.echo(json.dumps(report | {"shapes": _facts(tuned)}, indent=2))
        return
    if out is None:
        typer.echo(text, nl=False)
    for t in tuned:
        rows, columns = t.shape
        typer.echo(
            f"{rows} x {columns}: {t.weights_per_s / 1e9:.1f} G weights/s, "
            f"at worst {t.slowest / 1e9:.1f}",
            err=True,
        )


def _facts(tuned: Sequence[TunedBlocks]) -> list[dict[str, Any]]:
    return [
        {"m": t.shape[0], "k": t.shape[1]}
        | asdict(t.blocks)
        | {"weights_per_s": t.weights_per_s, "slowest": t.slowest}
        for t in tuned
    ]


def _write(path: Path, text: str) -> None:
    try:
        with written_aside(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {path}: {error.strerror}") from error
