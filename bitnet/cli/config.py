"""`bitnet config`: the settings that hold here, and where they come from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bitnet.cli import settings as places
from bitnet.cli.settings import Settings

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Show the settings, and where they are from."
)


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[
        bool, typer.Option("--origin", help="Tell the file or the variable of each.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Print all settings; those that nobody sets are empty.

    Options of a command win over variables, and these over the file. For example:

        BITNET_TOP_K=20 bitnet config show --origin
    """
    settings: Settings = context.obj
    values = settings.values()
    if as_json:
        report = {n: {"value": v, "origin": settings.origins.get(n)} for n, v in values.items()}
        typer.echo(json.dumps(report if origin else values, indent=2))
        return
    for name, value in values.items():
        line = f"{name} = {'' if value is None else json.dumps(value)}".rstrip()
        source = settings.origins.get(name, "default")
        typer.echo(f"{line}  # {source}" if origin else line)


@app.command()
def path() -> None:
    """Print where your own file of settings is looked for: TOML, with sections as shown.

    --config and BITNET_CONFIG_FILE name another. For example:

        mkdir -p "$(dirname "$(bitnet config path)")"
    """
    typer.echo(places.default_file())
