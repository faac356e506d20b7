"""The options that commands share, and loading a model with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import bitnet
from bitnet import BitNetError, InvalidArgumentError, InvalidModelError, SamplingParams
from bitnet.cli.progress import progress
from bitnet.cli.settings import CURRENT, SIZES, parse_bytes
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.layouts import LayoutName
from bitnet.model import Options
from bitnet.models.expectations import check_format, check_quantization
from bitnet.program.plan import HeadKind
from bitnet.quant.i2s import SourceLayout
from bitnet.store import models
from bitnet.tokenizers.templates import TEMPLATES

DEFAULTS = SamplingParams()


def stored_names(incomplete: str) -> list[str]:
    """The names of models in the store that begin so, for the completion of shells."""
    try:
        names = [str(model.name) for model in models()]
    except (BitNetError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


ModelPath = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="GGUF file, Hugging Face folder, or a name of `bitnet list`; without it, the bundled "
        "story model.",
        show_default=False,
        autocompletion=stored_names,
    ),
]


def _model_argument(metavar: str, kinds: str) -> Any:
    return typer.Argument(
        metavar=metavar,
        help=f"{kinds}, or a name of `bitnet list`.",
        show_default=False,
        autocompletion=stored_names,
    )


ModelArgument = Annotated[str, _model_argument("MODEL", "GGUF file, Hugging Face folder")]
SourceArgument = Annotated[str, _model_argument("IN", "GGUF file, Hugging Face folder")]
SourceFileArgument = Annotated[str, _model_argument("IN", "GGUF file")]
SourceLayoutOption = Annotated[
    SourceLayout,
    typer.Option(
        "--source-layout",
        help="arm64 for I2_S that an ARM build of bitnet.cpp has written, in blocks of 64 weights: "
        "files do not show it.",
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
TokenizerPath = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        help="tokenizer.json, tokenizer.model, a folder with one, or a GGUF file; without it, what "
        "the model's files hold, or a tokenizer.json beside or above them.",
        show_default=False,
    ),
]
ChatTemplate = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help=f"How a conversation becomes text: {', '.join(TEMPLATES)}, a name in the model's "
        "files, or a file; auto is the model's own.",
    ),
]
Numa = Annotated[
    bool,
    typer.Option(
        "--numa", help="Pin threads to cores, and keep the weights near those that read them."
    ),
]


Context = Annotated[
    int | None,
    typer.Option(
        help="Tokens that a sequence may have; without it, as many as the model can, at most 4096.",
        show_default=False,
    ),
]
KV = Annotated[KVKind, typer.Option(help="How keys and values are kept: f16 or f32.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Refuse what takes more memory than this, such as 2G or 1_500M.",
        show_default=False,
    ),
]
MinP = Annotated[
    float, typer.Option(help="Drop tokens less likely than this share of the likeliest.")
]
RepetitionPenalty = Annotated[
    float, typer.Option(help="Above 1, what was there before becomes less likely.")
]
FrequencyPenalty = Annotated[
    float, typer.Option(help="Taken from the score of a token each time it occurred.")
]
PresencePenalty = Annotated[
    float, typer.Option(help="Taken once from the score of a token that occurred.")
]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="End before this text; may be given several times.", show_default=False),
]


@dataclass(frozen=True)
class Loading:
    """Which model to load, and how."""

    model: ModelPath = None
    tokenizer: TokenizerPath = None
    context: Context = None
    threads: Threads = None
    target: TargetName = None
    layout: Layout = None
    head: Head = None
    kv: KV = "f16"
    numa: Numa = False
    memory_limit: MemoryLimit = None

    def load(self, chat_template: str = "auto") -> bitnet.Model:
        """`bitnet.load` that shows its progress where somebody watches stderr."""
        load = partial(
            bitnet.load,
            self.model,
            tokenizer=self.tokenizer,
            chat_template=chat_template,
            context=self.context,
            threads=self.threads,
            target=self.target,
            layout=self.layout,
            head=self.head,
            kv=self.kv,
            numa=self.numa,
            memory=bitnet.MemoryBudget(size("--memory-limit", self.memory_limit)),
        )
        with progress("loading") as show:
            loaded = load(progress=show)
        try:
            check_expectations(loaded)
        except BaseException:
            loaded.close()
            raise
        return loaded


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen, and when it ends."""

    max_new_tokens: MaxNewTokens = DEFAULTS.max_new_tokens
    temperature: Temperature = DEFAULTS.temperature
    top_k: TopK = DEFAULTS.top_k
    top_p: TopP = DEFAULTS.top_p
    min_p: MinP = DEFAULTS.min_p
    repetition_penalty: RepetitionPenalty = DEFAULTS.repetition_penalty
    frequency_penalty: FrequencyPenalty = DEFAULTS.frequency_penalty
    presence_penalty: PresencePenalty = DEFAULTS.presence_penalty
    seed: Seed = None
    stop: Stop = None

    def options(self) -> Options:
        """The same for `bitnet.Model`."""
        return Options(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            seed=self.seed,
            stop=self.stop or (),
        )


def size(option: str, value: str | None) -> int | None:
    """The bytes that an option tells, such as "2G". Raises InvalidArgumentError."""
    try:
        return None if value is None else parse_bytes(value)
    except ValueError as error:
        raise InvalidArgumentError(f"{option}: {error}") from error


def check_expectations(model: bitnet.Model) -> None:
    """Compare what the settings say of the model with what it is. Raises InvalidModelError."""
    settings = CURRENT.get()
    if settings is None:
        return
    origins = settings.origins
    if form := settings.tree.model.format:
        check_format(model.path, form, origins["model.format"])
    if kind := settings.tree.quantization.quantization_type:
        origin = origins["quantization.quantization_type"]
        check_quantization(model.path, model.weight_types, kind, origin)
    for name, size in settings.expected_sizes().items():
        found = getattr(model.config, SIZES[name])
        if found != size:
            origin = origins[f"model.{name}"]
            raise InvalidModelError(model.path, f"{name} is {found}, not {size} as {origin} says")
