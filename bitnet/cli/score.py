"""`bitnet score` and `bitnet perplexity`: how well a model predicts text."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import bitnet
from bitnet.cli.options import Loading
from bitnet.cli.progress import progress
from bitnet.cli.texts import read_file, split_lines
from bitnet.evaluation import Divergence, Evaluation, Score

# Takes baseline, save_baseline and progress by name.
Evaluate = Callable[..., Evaluation]

_File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


@dataclass(frozen=True)
class Reporting:
    """What else to do with the predictions, and how to tell of them."""

    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Tell how far the predictions are from those in this file, see --save-baseline.",
            show_default=False,
        ),
    ] = None
    save_baseline: Annotated[
        Path | None,
        typer.Option(
            help="Write the predictions to this file: 2 bytes for each token and each entry of "
            "the vocabulary.",
            show_default=False,
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False


def score(
    file: _File,
    loading: Loading = Loading(),
    reporting: Reporting = Reporting(),
) -> None:
    """Tell how well a model predicts the texts in FILE, one a line.

    Each is read by itself, after the begin-of-text token if the model uses one, and all its tokens
    but the first are predicted. Empty lines are left out. For example:

        bitnet score prompts.txt -m model.gguf
    """
    texts = [line for line in split_lines(read_file(file)) if line]
    with loading.load() as model:
        _report("score", file, model, partial(model.score, texts), reporting)


def perplexity(
    file: _File,
    loading: Loading = Loading(),
    reporting: Reporting = Reporting(),
) -> None:
    """Tell how well a model predicts the one long text in FILE, in windows of --context tokens.

    The windows follow each other and know nothing of each other; the first half of each is only
    read, the second is predicted, and what does not fill a last window is left out: the rule of
    llama-perplexity, whose --ctx-size is 512. The second of these tells what a rounded output head
    costs. For example:

        bitnet perplexity wiki.txt -m model.gguf --context 512 --save-baseline stored.bin

        bitnet perplexity wiki.txt -m model.gguf --context 512 --head q6_k --baseline stored.bin
    """
    text = read_file(file)
    with loading.load() as model:
        _report("perplexity", file, model, partial(model.perplexity, text), reporting)


def _report(
    kind: str, file: Path, model: bitnet.Model, evaluate: Evaluate, reporting: Reporting
) -> None:
    start = time.perf_counter()
    with progress("scoring") as show:
        found = evaluate(
            baseline=reporting.baseline, save_baseline=reporting.save_baseline, progress=show
        )
    seconds = time.perf_counter() - start
    if reporting.as_json:
        report = {"type": kind, "model": str(model.path), "dataset": str(file)}
        typer.echo(json.dumps(report | _facts(model, found, seconds), indent=2))
        return
    total = found.total
    low, high = total.perplexity_interval
    typer.echo(
        f"perplexity {total.perplexity:.4f} (95 %: {low:.4f} to {high:.4f}) · "
        f"mean nll {total.mean_nll:.5f} ± {total.standard_error:.5f}"
    )
    if found.divergence is not None:
        typer.echo(_describe(found.divergence))
    typer.echo(
        f"{total.tokens} tokens of {len(found.scores)} "
        f"{'texts' if kind == 'score' else 'windows'}, {total.tokens / seconds:.0f}/s",
        err=True,
    )


def _describe(divergence: Divergence) -> str:
    before = Score(divergence.baseline_nll)
    return (
        f"baseline: perplexity {before.perplexity:.4f} · mean KL {divergence.mean_kl:.3g} ± "
        f"{divergence.standard_error:.2g} · largest KL {divergence.max_kl:.3g} · "
        f"same top token {divergence.top1_agreement:.3%}"
    )


def _facts(model: bitnet.Model, found: Evaluation, seconds: float) -> dict[str, Any]:
    total, tokenizer = found.total, model.tokenizer
    facts: dict[str, Any] = {
        "tokens": total.tokens,
        "mean_nll": total.mean_nll,
        "standard_error": _number(total.standard_error),
        "ppl": _number(total.perplexity),
        "ppl_interval": [_number(end) for end in total.perplexity_interval],
        "latency": {"total_ms": seconds * 1000},
        "tokenizer": {"type": tokenizer.spelling, "origin": str(tokenizer.path)},
        "gen_policy": {"bos": tokenizer.add_bos, "context": model.context},
        "counts": {
            "sequences": len(found.scores),
            "without_tokens": sum(not score.tokens for score in found.scores),
        },
    }
    if found.divergence is None:
        return facts
    before = Score(found.divergence.baseline_nll)
    return facts | {
        "baseline": {
            "mean_nll": before.mean_nll,
            "ppl": _number(before.perplexity),
            "mean_kl": found.divergence.mean_kl,
            "kl_standard_error": _number(found.divergence.standard_error),
            "max_kl": found.divergence.max_kl,
            "top1_agreement": found.divergence.top1_agreement,
        }
    }


def _number(value: float) -> float | None:
    """JSON has no infinity and nothing that is not a number."""
    return value if math.isfinite(value) else None
