"""The Python API: generate text with a model, score texts or make embeddings of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

import numpy as np
import numpy.typing as npt

from bitnet.closing import Closing
from bitnet.engine import Engine, SamplingParams
from bitnet.errors import BitNetError, InvalidArgumentError, UnsupportedOperationError
from bitnet.evaluation import Evaluation, Excerpt, evaluate, whole, windows
from bitnet.generation import Completion, Generation
from bitnet.models.spec import Pooling
from bitnet.program.memory import MemoryBudget
from bitnet.program.weights import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bitnet.models import Checkpoint, ModelSpec
    from bitnet.tokenizers import Tokenizer

Messages = Sequence[Mapping[str, str]]


class Options(TypedDict, total=False):
    """Keyword arguments of a generation; see `bitnet.SamplingParams` for their meaning."""

    max_new_tokens: int
    max_length: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int | None
    stop: Sequence[str]
    logprobs: int


class Model(Closing):
    """A compiled model, ready to generate; made by `bitnet.load`. Usable from any thread.

    It closes what it is made of; memory: what the other two are counted in.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine, memory: MemoryBudget) -> None:
        self._checkpoint = checkpoint
        self._engine = engine
        self._memory = memory

    @property
    def context(self) -> int:
        """Positions that a sequence may have, prompt and answer together."""
        return self._engine.context

    @property
    def config(self) -> ModelSpec:
        """The model's shape and arithmetic."""
        return self._checkpoint.spec

    @property
    def path(self) -> Path:
        """The file or folder that the model was loaded from."""
        return self._checkpoint.path

    @property
    def name(self) -> str:
        """What the files call the model, or else the file or folder name."""
        return self._checkpoint.name

    @property
    def version(self) -> str:
        """The version that the files give the model; empty when they give none."""
        return self._checkpoint.version

    @property
    def weight_types(self) -> frozenset[str]:
        """How the files hold the ternary weights, such as {"I2_S"}."""
        return self._checkpoint.weight_types

    @property
    def file_bytes(self) -> int:
        """Size of the files that hold the weights."""
        return self._checkpoint.size_bytes

    @property
    def memory_usage(self) -> int:
        """Bytes in use, as `MemoryBudget` counts them; 0 once closed."""
        return self._memory.used

    @property
    def threads(self) -> int:
        """How many threads work together."""
        return self._engine.threads

    def set_threads(self, n: int) -> None:
        """Use `n` threads from the next step on, or one per core if that is fewer.

        Raises InvalidArgumentError.
        """
        self._engine.set_threads(n)

    def trim(self) -> None:
        """Free memory that is only kept to be used again."""
        self._engine.trim()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; raises ModelFileError when the files have none."""
        return self._checkpoint.tokenizer

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits of every next token after each prefix of `ids`: float32 (len(ids), vocab).

        One full forward pass from an empty cache. Raises InvalidArgumentError for an id outside
        the vocabulary, ContextLengthExceededError for too many ids, UnsupportedOperationError for
        an embedding model, which gives none.
        """
        return self._engine.logits([int(i) for i in ids])

    def hidden_states(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Hidden states of `ids` after the final norm: float32 (len(ids), hidden_size).

        These are what the output head reads, and embeddings of the text so far. Raises
        InvalidArgumentError and ContextLengthExceededError as `logits`.
        """
        return self._engine.hidden_states([int(i) for i in ids])

    def embed(
        self, texts: str | Sequence[str], *, pooling: Pooling | None = None
    ) -> npt.NDArray[np.float32]:
        """Embeddings of texts, vectors of length 1: float32 (len(texts), hidden_size).

        For one text that is no list it is (hidden_size,). The product of two of them is the cosine
        of the angle between. Texts are read as they are, in the model's begin- and end-of-text
        tokens if it uses those; an instruction such as "query: " is for the caller to put in front.

        pooling: "mean" of the hidden states of all tokens, or that of the first ("cls") or the
            "last" one; None is what the model's files say.

        Raises UnsupportedOperationError if the files do not say and `pooling` is None,
        InvalidArgumentError for a text without a token, ContextLengthExceededError for a long one.
        """
        chosen = pooling or self.config.pooling
        if chosen is None:
            raise UnsupportedOperationError(
                f"the files of {self.name} do not say how to make embeddings of its hidden states; "
                'choose pooling "mean", "cls" or "last"'
            )
        if chosen not in get_args(Pooling):
            known = ", ".join(get_args(Pooling))
            raise InvalidArgumentError(f"pooling must be one of {known}, not {chosen!r}")
        tokenizer = self.tokenizer
        ids = [
            tokenizer.encode(text, add_bos=tokenizer.add_bos, add_eos=tokenizer.add_eos)
            for text in ([texts] if isinstance(texts, str) else texts)
        ]
        vectors = self._engine.embeddings(ids, chosen)
        return vectors[0] if isinstance(texts, str) else vectors

    def score(
        self,
        texts: Sequence[str | Sequence[int]],
        *,
        baseline: str | os.PathLike[str] | None = None,
        save_baseline: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """How likely each of `texts`, as text or as token ids, is to the model.

        Each text is read by itself, many at a time; all its tokens but the first are predicted.
        Text gets the model's begin-of-text token in front if it uses one.

        baseline, save_baseline, progress: see `bitnet.evaluation.evaluate`, which also says what
        is raised.
        """
        excerpts = [whole(self._prompt_ids(text)) for text in texts]
        return self._evaluate(excerpts, baseline, save_baseline, progress)

    def perplexity(
        self,
        text: str,
        *,
        baseline: str | os.PathLike[str] | None = None,
        save_baseline: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """How likely a long text is to the model, in windows of the context.

        `bitnet.evaluation.windows` says which of its tokens are predicted; there is a score for
        each window. The other arguments are as in `score`.
        """
        tokenizer = self.tokenizer
        bos = tokenizer.bos_id if tokenizer.add_bos else None
        excerpts = windows(self._prompt_ids(text), self.context, bos)
        return self._evaluate(excerpts, baseline, save_baseline, progress)

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Completion:
        """Continue `prompt`, text or token ids, with the options of `SamplingParams`.

        Text gets the model's begin-of-text token in front if it uses one; ids are taken as they
        are. Raises InvalidArgumentError, ContextLengthExceededError, GenerationError, and
        UnsupportedOperationError for an embedding model, which writes no text.
        """
        return self.start(prompt, **options).result()

    def generate_batch(
        self, prompts: Sequence[str | Sequence[int]], **options: Unpack[Options]
    ) -> list[Completion | BitNetError]:
        """Continue several prompts together, each as `generate` would.

        The result has what came of each prompt, or what `generate` would have raised for it.
        Raises InvalidArgumentError for the options.
        """
        params = SamplingParams(**options)
        running: list[Generation | BitNetError] = []
        try:
            running.extend(self._try_start(prompt, params) for prompt in prompts)
            return [_outcome(generation) for generation in running]
        finally:
            for generation in running:
                if isinstance(generation, Generation):
                    generation.close()

    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Generation:
        """Like `generate`, but gives the text piece by piece, in whole characters."""
        return self.start(prompt, **options)

    def chat(self, messages: Messages, **options: Unpack[Options]) -> Completion:
        """The model's answer to a conversation: mappings with `role` and `content`.

        Raises InvalidArgumentError when the model has no chat template.
        """
        return self.stream_chat(messages, **options).result()

    def stream_chat(self, messages: Messages, **options: Unpack[Options]) -> Generation:
        """Like `chat`, but gives the answer piece by piece, in whole characters."""
        return self.start(self.tokenizer.encode_chat(messages), **self._in_chat(options))

    def start(
        self,
        prompt: str | Sequence[int],
        *,
        max_ahead: int | None = None,
        **options: Unpack[Options],
    ) -> Generation:
        """Begin a generation after `prompt`, as for `generate`; iterate over it for its text.

        max_ahead: new tokens that may wait to be read before the generation pauses, at least 1.
        While others run it goes on by itself; None lets it run to its end.
        """
        if max_ahead is not None and max_ahead < 1:
            raise InvalidArgumentError(f"max_ahead must be at least 1, not {max_ahead}")
        params = SamplingParams(**options)
        ids = self._prompt_ids(prompt)
        return Generation(self._engine, self.tokenizer, ids, params, max_ahead)

    def close(self) -> None:
        """Free the model's memory and threads; using it afterwards raises ModelClosedError."""
        self._engine.close()
        self._checkpoint.close()
        self._memory.close()

    def _evaluate(
        self,
        excerpts: Sequence[Excerpt],
        baseline: str | os.PathLike[str] | None,
        save_baseline: str | os.PathLike[str] | None,
        progress: Progress | None,
    ) -> Evaluation:
        return evaluate(
            self._engine,
            excerpts,
            baseline=None if baseline is None else Path(baseline),
            save_baseline=None if save_baseline is None else Path(save_baseline),
            progress=progress,
        )

    def _try_start(
        self, prompt: str | Sequence[int], params: SamplingParams
    ) -> Generation | BitNetError:
        try:
            return Generation(self._engine, self.tokenizer, self._prompt_ids(prompt), params)
        except BitNetError as error:
            return error

    def _in_chat(self, options: Options) -> Options:
        return {**options, "stop": [*options.get("stop", ()), *self.tokenizer.chat_stop]}

    def _prompt_ids(self, prompt: str | Sequence[int]) -> Sequence[int]:
        if not isinstance(prompt, str):
            return [int(i) for i in prompt]
        return self.tokenizer.encode(prompt, add_bos=self.tokenizer.add_bos)


def _outcome(generation: Generation | BitNetError) -> Completion | BitNetError:
    if isinstance(generation, BitNetError):
        return generation
    try:
        return generation.result()
    except BitNetError as error:
        return error
