"""`bitnet run`: continue a prompt."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from bitnet import Timings
from bitnet.cli.options import Loading, Sampling


def run(
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            help="Text to continue; without it, standard input up to its last line break.",
            show_default=False,
        ),
    ] = None,
    loading: Loading = Loading(),
    sampling: Sampling = Sampling(),
) -> None:
    """Continue a prompt.

    The new text goes to stdout as it comes, without the prompt; timings go to stderr. For example:

        bitnet run -m model.gguf -p "Once upon a time" --temperature 0
    """
    if prompt is None:
        prompt = read_prompt()
    start = time.perf_counter()
    with loading.load() as model:
        load_s = time.perf_counter() - start
        generation = model.stream(prompt, **sampling.options())
        for piece in generation:
            write(piece)
        write("\n")
        typer.echo(describe(load_s, generation.timings), err=True)


def read_prompt() -> str:
    """The prompt from a pipe or file on stdin, without the line break that ends it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter("give one with -p, or on standard input", param_hint="prompt")
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


def write(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def describe(load_s: float, timings: Timings) -> str:
    """The timings in one line."""
    return (
        f"load {load_s:.2f} s · first token {timings.time_to_first_token_s:.3f} s · "
        f"prompt {timings.prompt_tokens} tokens, {timings.prefill_tokens_per_s:.0f}/s · "
        f"new {timings.completion_tokens} tokens, {timings.decode_tokens_per_s:.0f}/s"
    )
