"""The Python API: load a model, generate text with it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from bitnet.codegen import find_target
from bitnet.engine import Engine, SamplingParams, Timings
from bitnet.engine.request import FinishReason
from bitnet.engine.text import StopStrings
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.layouts import LayoutName
from bitnet.models import open_checkpoint
from bitnet.program import Plan, Program
from bitnet.program.plan import HeadKind, choose_head
from bitnet.program.step import Stepper
from bitnet.program.ternary_weights import cuts_of
from bitnet.program.tuning import tune
from bitnet.program.weights import Progress, Weights
from bitnet.program.workers import Workers, team_size

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bitnet.models import Checkpoint, ModelSpec
    from bitnet.tokenizers import Tokenizer

_DEFAULT_CONTEXT = 4096
STEP_TOKENS = 128  # prompt tokens that one step takes

Messages = Sequence[Mapping[str, str]]


class Options(TypedDict, total=False):
    """Keyword arguments of a generation; see `bitnet.SamplingParams` for their meaning."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int | None
    stop: Sequence[str]


@dataclass(frozen=True)
class Completion:
    """The result of a generation."""

    text: str
    token_ids: list[int]
    """The new tokens, without the one that ended the generation."""
    finish_reason: FinishReason
    """What ended it: "stop", the model or a stop string; "length", max_new_tokens or the context;
    "cancelled", `Generation.close`."""
    timings: Timings


def bundled_model_path() -> Path:
    """The model that comes with the package: a small writer of children's stories."""
    return Path(__file__).parent / "data" / "stories.gguf"


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    target: str | None = None,
    threads: int | None = None,
    context: int | None = None,
    kv: KVKind = "f16",
    layout: LayoutName | None = None,
    head: HeadKind | None = None,
    numa: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Load and compile a model.

    path: a GGUF file or a Hugging Face folder; None is the bundled model.
    target: what to compile for ("avx512", "avx2", ...); None is the best this CPU runs.
    threads: how many threads work together, at most one per core; None is one per core, fewer for
        small models.
    context: positions a sequence may have; None is the model's own, at most 4096.
    kv: number format of the key/value cache, "f16" or "f32".
    layout: how the ternary weights lie in memory, see `bitnet.kernels.layouts`; it does not change
        results. None is that of a native file, see `bitnet convert`, or else "b3".
    head: how the output head is computed. "stored" uses the table as it is in the file; "q6_k",
        "q8_0" and "int8" fewer bits, so other logits. "certified" computes with int8 which tokens
        may be the best and then only those exactly: what is sampled, and `Model.logits`, stay as
        with "stored". None is the file's own Q6_K or Q8_0, "certified" for large tables of
        floats, else "stored".
    numa: pin each thread to a core of its own, spread over all memory nodes, and keep packed
        weights near the threads that read them; a native file is copied for that.
    progress: called with the share of the weights that is loaded, 0 to 1.

    Raises ModelNotFoundError, InvalidModelError and UnsupportedModelError for the files,
    UnsupportedTargetError for the target, UnsupportedOperationError for `numa` where the system
    does not tell its nodes, InvalidArgumentError for the rest.
    """
    chosen = find_target(target)
    checkpoint = open_checkpoint(bundled_model_path() if path is None else path)
    try:
        return Model(
            checkpoint, chosen.name, threads, context, kv, layout, head, progress, numa=numa
        )
    except BaseException:
        checkpoint.close()
        raise


def compile_model(
    checkpoint: Checkpoint,
    target: str | None,
    context: int,
    kv: KVKind,
    layout: LayoutName | None,
    head: HeadKind | None,
    workers: Workers,
    progress: Progress | None,
    *,
    profiled: bool = False,
) -> tuple[Program, Weights]:
    """The program for a checkpoint, and its weights, for sequences of up to `context` positions.

    profiled: see `Program`; the other arguments, and what is raised, as in `load`.
    """
    spec = checkpoint.spec
    embedding = checkpoint.dense("token_embd.weight").kind
    table = embedding if spec.tied_head else checkpoint.dense("output.weight").kind
    chosen = find_target(target)
    tuning = tune(spec, chosen, workers, layout or checkpoint.layout)
    plan = Plan(
        spec,
        embedding,
        table,
        kv,
        tuning.layout,
        choose_head(head, table, spec),
        blocking=tuning.blocking,
        cuts=cuts_of(spec, checkpoint.ternary),
    )
    program = Program(plan, chosen, profiled=profiled)
    return program, Weights(program, checkpoint, context, workers, progress)


class Model:
    """A compiled model, ready to generate; made by `bitnet.load`. Usable from any thread."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: str,
        threads: int | None,
        context: int | None,
        kv: KVKind,
        layout: LayoutName | None,
        head: HeadKind | None,
        progress: Progress | None,
        *,
        numa: bool,
    ) -> None:
        limit = checkpoint.spec.context_length
        if context is not None and not 1 <= context <= limit:
            raise InvalidArgumentError(f"context must be in 1..{limit}, not {context}")
        self.context = context or min(limit, _DEFAULT_CONTEXT)
        workers = Workers(team_size(threads, checkpoint.size_bytes), numa=numa)
        try:
            program, weights = compile_model(
                checkpoint, target, self.context, kv, layout, head, workers, progress
            )
            stepper = Stepper(program, weights, workers, min(STEP_TOKENS, self.context))
        except BaseException:
            workers.close()
            raise
        self._checkpoint = checkpoint
        self._engine = Engine(stepper, self.context)

    @property
    def config(self) -> ModelSpec:
        """The model's shape and arithmetic."""
        return self._checkpoint.spec

    @property
    def path(self) -> Path:
        """The file or folder that the model was loaded from."""
        return self._checkpoint.path

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; raises ModelFileError when the files have none."""
        return self._checkpoint.tokenizer

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits of every next token after each prefix of `ids`: float32 (len(ids), vocab).

        One full forward pass from an empty cache. Raises InvalidArgumentError for an id outside
        the vocabulary, ContextLengthExceededError for too many ids.
        """
        return self._engine.logits([int(i) for i in ids])

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Completion:
        """Continue `prompt`, text or token ids, with the options of `SamplingParams`.

        Text gets the model's begin-of-text token in front if it uses one; ids are taken as they
        are. Raises InvalidArgumentError, ContextLengthExceededError, GenerationError.
        """
        return self._complete(self._prompt_ids(prompt), options)

    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Generation:
        """Like `generate`, but gives the text piece by piece, in whole characters."""
        return self.start(self._prompt_ids(prompt), **options)

    def chat(self, messages: Messages, **options: Unpack[Options]) -> Completion:
        """The model's answer to a conversation: mappings with `role` and `content`.

        Raises InvalidArgumentError when the model has no chat template.
        """
        return self._complete(self.tokenizer.encode_chat(messages), options)

    def stream_chat(self, messages: Messages, **options: Unpack[Options]) -> Generation:
        """Like `chat`, but gives the answer piece by piece, in whole characters."""
        return self.start(self.tokenizer.encode_chat(messages), **options)

    def start(self, prompt: Sequence[int], **options: Unpack[Options]) -> Generation:
        """Begin a generation after the given token ids; iterate over it for its text."""
        return Generation(self._engine, self.tokenizer, prompt, SamplingParams(**options))

    def close(self) -> None:
        """Free the model's memory and threads; using it afterwards raises ModelClosedError."""
        self._engine.close()
        self._checkpoint.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _complete(self, prompt: Sequence[int], options: Options) -> Completion:
        generation = self.start(prompt, **options)
        text = "".join(generation)
        return generation.completion(text)

    def _prompt_ids(self, prompt: str | Sequence[int]) -> Sequence[int]:
        if not isinstance(prompt, str):
            return [int(i) for i in prompt]
        return self.tokenizer.encode(prompt, add_bos=self.tokenizer.add_bos)


class Generation:
    """A running generation: an iterator over its text that ends with the generation.

    Closing or dropping it before its end frees what it held.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, prompt: Sequence[int], params: SamplingParams
    ) -> None:
        self._engine = engine
        self._decoder = tokenizer.stream_decoder(prompt)
        self._stop = StopStrings(params.stop)
        self._request = engine.submit(prompt, params, tokenizer.eos_ids)
        self._taken = 0
        self._pieces = self._run()
        self._finalizer = weakref.finalize(self, engine.drop, self._request)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """End the generation now."""
        self._finalizer.detach()
        self._engine.finish(self._request)

    @property
    def token_ids(self) -> list[int]:
        """The tokens whose text has come out so far, or is held back."""
        return self._request.output[: self._taken]

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the generation ended; None while it runs."""
        return "stop" if self._stop.found else self._request.finish_reason

    @property
    def timings(self) -> Timings:
        return self._request.timings

    def completion(self, text: str) -> Completion:
        """The result, `text` being all that came out."""
        return Completion(text, self.token_ids, self.finish_reason or "cancelled", self.timings)

    def _run(self) -> Iterator[str]:
        engine, request = self._engine, self._request
        try:
            while not self._stop.found:
                token = engine.next_token(request, self._taken)
                if token is None:
                    break
                self._taken += 1
                if piece := self._stop.push(self._decoder.push(token)):
                    yield piece
            if not self._stop.found:
                rest = self._stop.push(self._decoder.flush()) + self._stop.flush()
                if rest:
                    yield rest
            self.close()
        finally:
            # An error, or the garbage collector, which may come while a step holds the lock.
            self._finalizer()
