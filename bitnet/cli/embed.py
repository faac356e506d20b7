"""`bitnet embed`: texts as vectors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from bitnet import InvalidArgumentError
from bitnet.cli.options import Loading
from bitnet.cli.texts import read_file, split_lines
from bitnet.models.embedders import DOUBT_OF_MEAN
from bitnet.models.spec import Pooling

_TEXTS_AT_ONCE = 64  # embedded before their vectors are printed


def embed(
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="A text; may be given several times. Without any and --file, the lines of "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A text a line, in UTF-8.", show_default=False)
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(
            help='Put before each text, such as "query: "; models are trained on such instructions.'
        ),
    ] = "",
    pooling: Annotated[
        Pooling | None,
        typer.Option(
            help="Take the mean of the hidden states, or that of the first (cls) or last token; "
            "without it, what the model's files say.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print objects with text and embedding.")
    ] = False,
    loading: Loading = Loading(),
) -> None:
    """Print the embedding of each text, a vector of length 1, as a line of JSON.

    The product of two embeddings tells how near in meaning their texts are. For example:

        bitnet embed -m bitnet-embedding-0.6b.gguf --prefix "query: " --text "What is BitNet?"
    """
    texts = _texts(text, file)
    with loading.load() as model:
        if pooling is None and model.config.pooling == "mean" and model.path.is_file():
            typer.echo(f"warning: {DOUBT_OF_MEAN}: see --pooling", err=True)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = texts[start : start + _TEXTS_AT_ONCE]
            vectors = model.embed([prefix + one for one in part], pooling=pooling)
            for one, vector in zip(part, vectors, strict=True):
                numbers = _shortest(vector)
                line = {"text": one, "embedding": numbers} if as_json else numbers
                typer.echo(json.dumps(line))


def _texts(given: list[str] | None, file: Path | None) -> list[str]:
    if given and file is not None:
        raise InvalidArgumentError("--text and --file exclude each other")
    if given:
        return given
    if file is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise typer.BadParameter("give one with --text, or --file", param_hint="text")
        return split_lines(sys.stdin.read())
    return split_lines(read_file(file))


def _shortest(vector: npt.NDArray[np.float32]) -> list[float]:
    """The numbers with as many digits as it takes to tell float32 numbers apart."""
    return [float(str(number)) for number in vector]
