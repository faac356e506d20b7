"""`bitnet verify`: whether a model's files are sound."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from bitnet.checkup.verify import verify_model
from bitnet.cli import options
from bitnet.cli.outcome import ExitCode
from bitnet.cli.progress import progress
from bitnet.errors import InvalidArgumentError, printable
from bitnet.store import resolve


def verify(
    model: options.ModelArgument,
    sha256: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="The SHA-256 that the file must have; for a model of one file.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read all of a model: codes, scales, norms and tables must be sound.

    Writes the SHA-256 of each file. The exit code is 8 when something is wrong. For example:

        bitnet verify model.gguf --sha256 4221b252...
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InvalidArgumentError(f"--sha256 takes 64 hexadecimal digits, not {sha256!r}")
    with progress("verifying") as show:
        outcome = verify_model(resolve(model), show)
    if sha256 is not None and len(outcome.sha256) != 1:
        raise InvalidArgumentError(f"{model} has {len(outcome.sha256)} files, --sha256 is of one")
    problems = list(outcome.problems)
    for file, digest in outcome.sha256.items():
        typer.echo(f"{digest}  {printable(str(file))}")
        if sha256 is not None and digest != sha256.lower():
            problems.append(f"{file}: its SHA-256 is not {sha256.lower()}")
    for problem in problems:
        typer.secho(f"PROBLEM: {printable(problem)}", fg=typer.colors.RED)
    if problems:
        raise typer.Exit(ExitCode.INVALID_MODEL)
    typer.echo(f"{outcome.n_tensors} tensors, all sound")
