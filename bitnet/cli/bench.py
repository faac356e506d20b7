"""`bitnet bench`: how fast a model is, and how fast it could be here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import bitnet
from bitnet.bench import Options, RandomCheckpoint, measure
from bitnet.bench.baseline import TOLERANCE, Baseline, Comparison
from bitnet.bench.machine import busy_warning
from bitnet.bench.profile import collapsed_stacks
from bitnet.bench.report import to_csv, to_json, to_markdown
from bitnet.bench.shapes import SHAPES
from bitnet.cli import options
from bitnet.cli.outcome import ExitCode
from bitnet.errors import InvalidArgumentError
from bitnet.models import Checkpoint, open_checkpoint
from bitnet.store import resolve


class Format(str, Enum):
    """How results are written."""

    md = "md"
    json = "json"
    csv = "csv"


_WRITERS = {Format.md: to_markdown, Format.json: to_json, Format.csv: to_csv}

DEFAULTS = Options()


def _default(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def bench(
    model: options.ModelPath = None,
    random: Annotated[
        str | None,
        typer.Option(
            help=f"Random weights in this shape instead of a file: {', '.join(SHAPES)}.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(help="Cut a random model to this many layers.", show_default=False),
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="Lengths of prompts; 0 is none.")
    ] = _default(DEFAULTS.prompts),
    new: Annotated[
        str, typer.Option("--new", "-n", help="Numbers of new tokens; 0 is none.")
    ] = _default(DEFAULTS.new),
    depth: Annotated[
        str, typer.Option("--depth", "-d", help="Tokens that come before the new ones.")
    ] = _default(DEFAULTS.depths),
    threads: Annotated[
        str | None,
        typer.Option(
            "--threads",
            "-t",
            help="Threads; without it, one per core, fewer for small models.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option("--batch", "-b", help="Sequences at the same time.")
    ] = _default(DEFAULTS.batches),
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", help="Times each test is run, after a first one.")
    ] = DEFAULTS.repetitions,
    target: options.TargetName = None,
    layout: options.Layout = None,
    head: options.Head = None,
    numa: options.Numa = False,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Markdown, JSON or CSV.")
    ] = Format.md,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="An earlier JSON output. The exit code is 9 when a row's tokens per second and "
            f"its share of the limit have both dropped by more than {TOLERANCE:.0%}: a machine "
            "that has become slower itself is not the program's fault.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Tell where the time goes, by phase and thread.")
    ] = False,
    flamegraph: Annotated[
        Path | None,
        typer.Option(
            help="Write the profile as collapsed stacks, for flamegraph.pl or speedscope.",
            show_default=False,
        ),
    ] = None,
    perf_map: Annotated[
        bool,
        typer.Option("--perf-map", help="Tell Linux's perf the names of the generated functions."),
    ] = False,
) -> None:
    """Measure how fast a model reads prompts (pp) and writes new tokens (tg).

    Beside each speed stands what this machine can do at best: the bandwidth of its memory and its
    peak of int8 multiply-accumulates, measured before and after each test on the same threads.
    A model that fits into the caches may go beyond the bandwidth of memory.

    Options that take numbers take several, with commas between; all combinations are measured.
    For example:

        bitnet bench -m model.gguf -p 512 -n 128 -t 1,2
    """
    profiled = profile or flamegraph is not None
    if profile and output is Format.csv:
        raise InvalidArgumentError("a profile does not fit into CSV; use -o md or -o json")
    wanted = Options(
        prompts=_numbers(prompt, "--prompt"),
        new=_numbers(new, "--new"),
        depths=_numbers(depth, "--depth"),
        threads=() if threads is None else _numbers(threads, "--threads"),
        batches=_numbers(batch, "--batch"),
        repetitions=repetitions,
        target=target,
        layout=layout,
        head=head,
        numa=numa,
        profiled=profiled,
        perf_map=perf_map,
    )
    earlier = None if baseline is None else Baseline(baseline)
    open_model = _opener(model, random, layers)
    if flamegraph is not None:
        _write(flamegraph, "")  # that it cannot be written shows before anything is measured
    if warning := busy_warning():
        typer.echo(f"warning: {warning}", err=True)
    if sys.stderr.isatty():
        rows = measure(open_model, wanted, _show)
        _show("")
    else:
        rows = measure(open_model, wanted)
    if flamegraph is not None:
        stacks = [line for row in rows for line in collapsed_stacks(row.name, row.profile or ())]
        _write(flamegraph, "".join(f"{line}\n" for line in stacks))
    typer.echo(_WRITERS[output](rows), nl=False)
    if earlier is not None:
        _judge(earlier.compare(rows))


def _numbers(text: str, option: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InvalidArgumentError(
            f"{option} takes whole numbers with commas between, not {text!r}"
        )
    return [int(part) for part in parts]


def _opener(model: str | None, shape: str | None, layers: int | None) -> Callable[[], Checkpoint]:
    if shape is None:
        if layers is not None:
            raise InvalidArgumentError("--layers cuts random models only; give --random")
        path = bitnet.bundled_model_path() if model is None else resolve(model)
        return lambda: open_checkpoint(path)
    if model is not None:
        raise InvalidArgumentError("--model and --random exclude each other")
    checkpoint = RandomCheckpoint(shape, layers)
    return lambda: checkpoint


def _show(what: str) -> None:
    """Replace what the terminal's line says."""
    typer.echo(f"\r{what:<60}\r", nl=False, err=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {path}: {error.strerror}") from error


def _judge(comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        verdict = "SLOWER: " if comparison.slower else ""
        typer.echo(f"{verdict}{comparison}", err=True)
    if any(comparison.slower for comparison in comparisons):
        raise typer.Exit(ExitCode.SLOWER)
