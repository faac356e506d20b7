"""`bitnet tokenize`: text as the tokens a model reads, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from bitnet import InvalidArgumentError, bundled_model_path
from bitnet.cli import options
from bitnet.cli.run import read_prompt, write
from bitnet.cli.texts import read_file
from bitnet.models import open_checkpoint
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.store import resolve
from bitnet.tokenizers import Tokenizer


def tokenize(
    text: Annotated[
        str | None,
        typer.Option(
            help="What to encode; without it or --file, standard input up to its last line break.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Encode this file, in UTF-8, to its last byte.", show_default=False),
    ] = None,
    model: options.ModelPath = None,
    tokenizer: options.TokenizerPath = None,
    bos: Annotated[
        bool,
        typer.Option("--bos/--no-bos", help="Begin with the begin-of-text token if models do."),
    ] = True,
    special: Annotated[
        bool, typer.Option("--special", help="Control tokens that the text spells are meant.")
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="The input is token ids; print their text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Print the tokens of a text: id, tab and the vocabulary's spelling in quotes.

    Models are not loaded for it. Ids for --decode may stand between any other characters than
    digits and letters, as in a JSON list. For example:

        bitnet tokenize -m model.gguf --text "Once upon a time" --json
    """
    source = _read(text, file)
    chosen = _find(model, tokenizer)
    if decode:
        ids = _parse_ids(source, chosen)
        source = chosen.decode(ids, skip_special=not special)
    else:
        ids = chosen.encode(source, add_bos=bos and chosen.add_bos, parse_special=special)
    if as_json:
        typer.echo(json.dumps(_report(chosen, ids, source if decode else None, bos=bos), indent=2))
    elif decode:
        write(source + "\n")
    else:
        for id in ids:
            typer.echo(f"{id}\t{chosen.piece(id)!r}")


def _find(model: str | None, tokenizer: Path | None) -> Tokenizer:
    if tokenizer is not None and model is None:
        return open_tokenizer(tokenizer)
    path = bundled_model_path() if model is None else resolve(model)
    with open_checkpoint(path, tokenizer) as checkpoint:
        return checkpoint.tokenizer


def _read(text: str | None, file: Path | None) -> str:
    if text is not None and file is not None:
        raise InvalidArgumentError("--text and --file exclude each other")
    if file is None:
        return read_prompt() if text is None else text
    return read_file(file)


def _parse_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    ids = []
    for number in re.findall(r"[\w-]+", text):
        if not re.fullmatch(r"[0-9]{1,10}", number):
            raise InvalidArgumentError(f"{number[:40]!r} is no token id")
        tokenizer.piece(int(number))  # refuses ids outside the vocabulary
        ids.append(int(number))
    return ids


def _report(tokenizer: Tokenizer, ids: list[int], text: str | None, *, bos: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "tokens": {"ids": ids, "pieces": [*map(tokenizer.piece, ids)], "count": len(ids)},
        "gen_policy": {"bos": bos and tokenizer.add_bos},
        "tokenizer": {
            "type": tokenizer.spelling,
            "origin": str(tokenizer.path),
            "bos": tokenizer.bos_id,
            "eos": tokenizer.eos_id,
            "ends": sorted(tokenizer.eos_ids),
        },
    }
    return report if text is None else {"text": text, **report}
