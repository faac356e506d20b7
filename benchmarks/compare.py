"""Times bitnet beside other engines: the same prompts, new tokens and threads, in one table.

    python benchmarks/compare.py MODEL --llama-bench BitNet/build/bin/llama-bench=THEIRS.gguf

MODEL is a GGUF file or a Hugging Face folder. transformers takes part, in float32, when it is
installed and MODEL is a folder. Any number of llama-bench programs, of bitnet.cpp or llama.cpp,
may be given, each with the model file that it reads. A prompt starts from nothing, and so do the
new tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bitnet.bench import Options, measure
from bitnet.bench.report import table
from bitnet.errors import BitNetError
from bitnet.models import open_checkpoint


class CannotTakePartError(Exception):
    """An engine is not there or cannot run the model; says why."""


@dataclass(frozen=True)
class Timing:
    """Tokens per second of one engine in one test, over the repetitions."""

    engine: str
    test: str
    speeds: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    model: Path
    prompt: int
    new: int
    threads: int
    repetitions: int


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--new", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument(
        "--llama-bench", action="append", default=[], metavar="PATH=MODEL.gguf", type=_program
    )
    args = parser.parse_args(arguments)
    request = Request(args.model, args.prompt, args.new, args.threads, args.repetitions)
    try:
        timings = ours(request)
    except BitNetError as error:
        sys.exit(f"error: {error}")
    timings += if_possible(lambda: theirs(request))
    for program, model in args.llama_bench:
        timings += if_possible(partial(llama_bench, program, model, request))
    print(compare(timings), end="")


def if_possible(engine: Callable[[], list[Timing]]) -> list[Timing]:
    try:
        return engine()
    except CannotTakePartError as error:
        print(f"left out: {error}", file=sys.stderr)
        return []


def _program(text: str) -> tuple[str, str]:
    program, equals, model = text.rpartition("=")
    if not (program and equals and model):
        raise argparse.ArgumentTypeError(f"must be PATH=MODEL.gguf, not {text!r}")
    return program, model


def compare(timings: list[Timing]) -> str:
    """All engines, test by test, the fastest first."""
    rows = [
        [
            timing.engine,
            timing.test,
            f"{statistics.median(timing.speeds):.2f}",
            f"{min(timing.speeds):.2f} to {max(timing.speeds):.2f}",
        ]
        for timing in sorted(timings, key=lambda t: (t.test, -statistics.median(t.speeds)))
    ]
    return table(("engine", "test", "tokens/s", "min to max"), rows, left=2)


def ours(request: Request) -> list[Timing]:
    options = Options(
        prompts=(request.prompt,),
        new=(request.new,),
        threads=(request.threads,),
        repetitions=request.repetitions,
    )
    rows = measure(lambda: open_checkpoint(request.model), options)
    return [
        Timing(
            f"bitnet, {row.target}",
            row.test,
            (row.tokens_per_s.min, row.tokens_per_s.median, row.tokens_per_s.max),
        )
        for row in rows
    ]


# -- llama-bench ---------------------------------------------------------------------------------


def llama_bench(program: str, model: str, request: Request) -> list[Timing]:
    """Run a llama-bench on its model."""
    numbers = {
        "-p": request.prompt,
        "-n": request.new,
        "-t": request.threads,
        "-r": request.repetitions,
    }
    options = [text for name, n in numbers.items() for text in (name, str(n))]
    command = [program, "-m", model, *options, "-o", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError as error:
        raise CannotTakePartError(f"cannot run {program}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise CannotTakePartError(f"{program} failed: {reason}") from error
    return parse_llama_bench(program, done.stdout)


def parse_llama_bench(program: str, output: str) -> list[Timing]:
    """What `llama-bench -o json` printed: tests of prompts (n_prompt) and of new tokens (n_gen)."""
    try:
        return [_llama_timing(result) for result in json.loads(output)]
    except (ValueError, KeyError, TypeError) as error:
        raise CannotTakePartError(f"{program} printed no results as expected: {error!r}") from error


def _llama_timing(result: dict[str, Any]) -> Timing:
    prompt, new = int(result["n_prompt"]), int(result["n_gen"])
    tests = [f"pp{prompt}"] * bool(prompt) + [f"tg{new}"] * bool(new)
    engine = f"llama-bench {result['build_commit']}, {result['model_type']}"
    return Timing(engine, "+".join(tests), tuple(float(speed) for speed in result["samples_ts"]))


# -- transformers --------------------------------------------------------------------------------


def theirs(request: Request) -> list[Timing]:
    """transformers in float32."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise CannotTakePartError(f"transformers needs {error.name}, which is missing") from error
    if not request.model.is_dir():
        raise CannotTakePartError(f"transformers reads folders; {request.model} is a file")
    torch.set_num_threads(request.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(request.model, dtype=torch.float32)
    # Packed checkpoints keep the stored type of what is not a linear, whatever dtype says.
    torch.nn.Module.float(model)
    ids = torch.randint(0, model.config.vocab_size, (1, request.prompt))

    def prompt() -> None:
        model(ids, use_cache=True, logits_to_keep=1)

    def new() -> None:
        token, cache = ids[:, :1], None
        for _ in range(request.new):
            out = model(token, past_key_values=cache, use_cache=True)
            token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values

    engine = f"transformers {transformers.__version__}, float32"
    with torch.inference_mode():
        return [
            Timing(engine, f"{name}{n}", _speeds(run, n, request.repetitions))
            for name, n, run in (("pp", request.prompt, prompt), ("tg", request.new, new))
            if n
        ]


def _speeds(run: Callable[[], None], n_tokens: int, repetitions: int) -> tuple[float, ...]:
    speeds = []
    for _ in range(1 + repetitions):
        start = time.perf_counter()
        run()
        speeds.append(n_tokens / (time.perf_counter() - start))
    return tuple(speeds[1:])  # the first one was for warming up


if __name__ == "__main__":
    main()
