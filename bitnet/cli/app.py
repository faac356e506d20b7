"""The commands, put together."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import bitnet
from bitnet.cli.bench import bench
from bitnet.cli.chat import chat
from bitnet.cli.convert import convert
from bitnet.cli.doctor import doctor
from bitnet.cli.inspect import inspect
from bitnet.cli.outcome import exit_codes
from bitnet.cli.repair import repair
from bitnet.cli.run import run
from bitnet.cli.tokenize import tokenize
from bitnet.cli.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run, chat, tokenize, convert, inspect, verify, repair, bench, doctor):
    app.command()(exit_codes()(command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bitnet {bitnet.__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Run ternary language models, compiled for this CPU."""
    # Models know more characters than some terminals, the tokenizer tells what is no text, and line
    # ends are a part of the text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape", newline="")
