"""`bitnet pull`, `list` and `rm`: models of the Hugging Face hub."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from bitnet.cli.options import stored_names
from bitnet.errors import InvalidArgumentError, printable
from bitnet.store import ModelName, StoredModel, find_all, models, parse_name, remove

Name = Annotated[
    str,
    typer.Argument(
        metavar="OWNER/REPO[@REVISION][:FILE]",
        help="Repository on the Hugging Face hub; FILE is one of its GGUF files.",
        show_default=False,
        autocompletion=stored_names,
    ),
]


def pull(name: Name) -> None:
    """Fetch a model from the Hugging Face hub, and print its path.

    That is the repository's only GGUF model, or else its safetensors with configuration and
    tokenizer. Every file must have the hash that the hub tells; what breaks off goes on the next
    time. HF_TOKEN holds a token where one is needed; with BITNET_OFFLINE=1 nothing is fetched. For
    example:

        bitnet pull microsoft/bitnet-b1.58-2B-4T-gguf
    """
    wanted = parse_name(name)
    if "/" not in wanted.repo:
        raise InvalidArgumentError(f"{name!r} is not of the form OWNER/REPO[@REVISION][:FILE]")
    from bitnet.store.hub import pull as fetch

    typer.echo(fetch(wanted).path)


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the models that `bitnet pull` has fetched.

    Their names are what -m takes, also without the owner where that is clear. For example:

        bitnet list --json
    """
    found = models()
    if as_json:
        typer.echo(json.dumps([_as_json(model) for model in found], indent=2))
        return
    rows = [("NAME", "KIND", "SIZE", "REVISION", "FETCHED"), *map(_row, found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows if found else ():
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(printable("  ".join(cells).rstrip()))
    if not found:
        typer.echo("there are none; `bitnet pull` fetches one", err=True)


def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model that `bitnet pull` has fetched, or the part that came before it broke off.

    Without @REVISION and :FILE that is all that is stored of the repository. For example:

        bitnet rm --yes microsoft/bitnet-b1.58-2B-4T-gguf
    """
    doomed = parse_name(name)
    if not yes:
        if not watched():
            raise InvalidArgumentError("there is nobody to ask; --yes deletes without asking")
        typer.confirm(_question(doomed), abort=True, err=True)
    typer.echo(f"{_size(remove(doomed))} deleted", err=True)


def watched() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _question(doomed: ModelName) -> str:
    sizes = [model.size_bytes for model in find_all(doomed)]
    return f"Delete {doomed} ({_size(sum(sizes))})?"


def _row(model: StoredModel) -> tuple[str, ...]:
    when = datetime.fromtimestamp(model.stored_at).astimezone()
    revision = ", ".join(model.refs) or model.commit[:12]
    return (
        str(model.name),
        model.kind,
        _size(model.size_bytes),
        revision,
        when.strftime("%Y-%m-%d %H:%M"),
    )


def _as_json(model: StoredModel) -> dict[str, Any]:
    return {
        "name": str(model.name),
        "kind": model.kind,
        "bytes": model.size_bytes,
        "commit": model.commit,
        "refs": list(model.refs),
        "fetched": datetime.fromtimestamp(model.stored_at).astimezone().isoformat("T", "seconds"),
        "path": str(model.path),
    }


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
