"""The options that `run` and `chat` share, and loading a model with them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import bitnet
from bitnet import SamplingParams
from bitnet.cli.progress import progress
from bitnet.kernels.layouts import LayoutName
from bitnet.program.plan import HeadKind

DEFAULTS = SamplingParams()

ModelPath = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        help="GGUF file or Hugging Face folder; without it, the bundled story model.",
        show_default=False,
    ),
]
MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", "-n", help="End after this many new tokens.")
]
Temperature = Annotated[
    float, typer.Option(help="How much chance decides; 0 always takes the likeliest token.")
]
TopK = Annotated[int, typer.Option(help="Choose among this many tokens; 0 is all.")]
TopP = Annotated[
    float, typer.Option(help="Choose among the likeliest tokens that have this probability.")
]
Seed = Annotated[
    int | None,
    typer.Option(help="Make the choices repeatable; without it, they are not.", show_default=False),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads to compute with; without it, one per core, fewer for small models.",
        show_default=False,
    ),
]
TargetName = Annotated[
    str | None,
    typer.Option(
        help="Instruction set to compile for, see `bitnet doctor`; without it, the best.",
        show_default=False,
    ),
]
Layout = Annotated[
    LayoutName | None,
    typer.Option(
        help="How ternary weights lie in memory: b3 (1.6 bits), 2bit, or as they are in the file "
        "(i2_s, tl1, tl2); without it, the fastest one here. Results are the same.",
        show_default=False,
    ),
]
Head = Annotated[
    HeadKind | None,
    typer.Option(
        help="How the output head is computed; without it, large tables of floats are certified: "
        "read as int8, and exactly only where it matters.",
        show_default=False,
    ),
]
Numa = Annotated[
    bool,
    typer.Option(
        "--numa", help="Pin threads to cores, and keep the weights near those that read them."
    ),
]


def load_model(
    path: Path | None,
    threads: int | None,
    target: str | None,
    layout: LayoutName | None,
    head: HeadKind | None,
    *,
    numa: bool,
) -> bitnet.Model:
    """`bitnet.load` that shows its progress where somebody watches stderr."""
    load = partial(
        bitnet.load, path, threads=threads, target=target, layout=layout, head=head, numa=numa
    )
    with progress("loading") as show:
        return load(progress=show)
