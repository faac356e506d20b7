"""The commands, put together."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

import bitnet
from bitnet.cli import config
from bitnet.cli.bench import bench
from bitnet.cli.chat import chat
from bitnet.cli.convert import convert, quantize_embeddings
from bitnet.cli.doctor import doctor
from bitnet.cli.embed import embed
from bitnet.cli.groups import flat
from bitnet.cli.inspect import inspect
from bitnet.cli.outcome import EXIT_CODES, exit_codes
from bitnet.cli.repair import repair
from bitnet.cli.run import run
from bitnet.cli.score import perplexity, score
from bitnet.cli.settings import CURRENT, read
from bitnet.cli.store import list_models, pull, rm
from bitnet.cli.tokenize import tokenize
from bitnet.cli.tune_tl import tune_tl
from bitnet.cli.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "chat": chat,
    "embed": embed,
    "tokenize": tokenize,
    "score": score,
    "perplexity": perplexity,
    "pull": pull,
    "list": list_models,
    "rm": rm,
    "convert": convert,
    "quantize-embeddings": quantize_embeddings,
    "inspect": inspect,
    "verify": verify,
    "repair": repair,
    "bench": bench,
    "tune-tl": tune_tl,
    "doctor": doctor,
}
# How a model is run says nothing of how one is to be written.
_WRITERS = {"convert", "quantize-embeddings"}
for name, command in COMMANDS.items():
    app.command(name)(exit_codes()(flat(command)))
app.add_typer(config.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bitnet {bitnet.__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Settings, as TOML or JSON; without it, BITNET_CONFIG_FILE or your own, see "
            "`bitnet config`.",
            show_default=False,
        ),
    ] = None,
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
    if context.invoked_subcommand == doctor.__name__:  # which tells all that is wrong with them
        context.obj = config_file
        return
    with exit_codes():
        context.obj = read(config_file)
    CURRENT.set(context.obj)
    defaults = context.obj.option_defaults()
    context.default_map = dict.fromkeys(COMMANDS.keys() - _WRITERS, defaults)
