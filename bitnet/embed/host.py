"""What C programs hold by id, and what they ask of it, in terms of Python."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress

import numpy as np
import numpy.typing as npt

import bitnet
from bitnet.embed import requests
from bitnet.embed.errors import UnknownModelError
from bitnet.embed.models import LoadedModel
from bitnet.embed.requests import Cancellation, Request, Result
from bitnet.embed.settings import LoadConfig, LoadSettings, load_settings
from bitnet.embed.streams import Stream, StreamSettings
from bitnet.embed.table import Table, unknown_id
from bitnet.errors import (
    BitNetError,
    InvalidArgumentError,
    ModelClosedError,
    ModelNotFoundError,
    UnsupportedOperationError,
)
from bitnet.model import Options

BACKEND_GPU = 2
POOLING_MEAN = 1
POOLING_LAST = 2

log = logging.getLogger("bitnet.embed")


class Host:
    """All that this process has loaded and started. Safe to use from several threads."""

    def __init__(self) -> None:
        self.models: Table[LoadedModel] = Table(UnknownModelError)
        self.streams: Table[Stream] = Table(unknown_id("Stream"))
        self.results: Table[Result] = Table(unknown_id("Result"))
        self.cancellations: Table[Cancellation] = Table(unknown_id("Cancellation"))
        self.memory = bitnet.MemoryBudget()
        self._threads: int | None = None

    # -- models -----------------------------------------------------------------------------

    def load(self, path: str, config: LoadConfig | None) -> int:
        """Load a model and return its id; a failed load uses up no id."""
        if not os.path.exists(path):
            raise ModelNotFoundError(f"Model file not found: {path}")
        start = time.perf_counter()
        settings = LoadSettings() if config is None else load_settings(path, config)
        model = bitnet.load(
            path,
            threads=settings.threads or self._threads,
            context=settings.context,
            max_requests=settings.max_requests,
            memory=bitnet.MemoryBudget(settings.memory_limit, within=self.memory),
        )
        loaded = LoadedModel(model, has_own_threads=settings.threads is not None)
        loaded.id = self.models.add(loaded)
        self._apply_threads([loaded])  # the setting may have changed meanwhile
        log.info(
            "model %d: loaded %s in %.2f s, %d threads, %.1f MB",
            loaded.id,
            path,
            time.perf_counter() - start,
            model.threads,
            model.memory_usage / 1e6,
        )
        return loaded.id

    def free(self, model_id: int) -> None:
        """Forget a model; it is closed when the runs on it have ended."""
        self.models.remove(model_id).free()
        log.info("model %d: freed", model_id)

    def switch_backend(self, model_id: int, backend: int) -> None:
        self.models.get(model_id)
        if backend == BACKEND_GPU:
            raise UnsupportedOperationError("GPU not available")

    # -- runs -------------------------------------------------------------------------------

    def generate(self, model_id: int, prompt: str, options: Options) -> str:
        """Continue a prompt and return the new text."""
        loaded = self.models.get(model_id)
        with loaded.run() as model:
            completion = model.generate(prompt, **options)
        loaded.record([completion.timings])
        return completion.text

    def generate_batch(
        self, model_id: int, prompts: Sequence[str], options: Options
    ) -> list[str | BitNetError]:
        """Continue prompts together; gives for each the new text or what went wrong."""
        try:
            loaded = self.models.get(model_id)
            with loaded.run() as model:
                outcomes = model.generate_batch(prompts, **options)
        except UnknownModelError as error:
            return [error] * len(prompts)
        loaded.record([o.timings for o in outcomes if isinstance(o, bitnet.Completion)])
        return [o.text if isinstance(o, bitnet.Completion) else o for o in outcomes]

    def generate_result(self, model_id: int, request: Request) -> int:
        """Run a request to its end and return the id of its result."""
        loaded, cancellation = self.models.get(model_id), self._cancellation(request)
        with loaded.run() as model, closing(requests.start(model, request)) as generation:
            if cancellation is not None:
                cancellation.watch(generation)
            result = requests.run(generation)
        loaded.record([result.completion.timings])
        return self.results.add(result)

    def start_stream(self, model_id: int, request: Request, settings: StreamSettings) -> int:
        """Begin a request and return the id of its stream."""
        loaded, cancellation = self.models.get(model_id), self._cancellation(request)
        loaded.begin_run()
        try:
            generation = requests.start(loaded.model, request, settings.max_ahead)
            if cancellation is not None:
                cancellation.watch(generation)
            return self.streams.add(Stream(generation, settings, loaded))
        except BaseException:
            loaded.end_run()
            raise

    def logits(self, model_id: int, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        with self.models.get(model_id).run() as model:
            return model.logits(ids)

    def embeddings(
        self, model_id: int, ids: Sequence[int], pooling: int
    ) -> npt.NDArray[np.float32]:
        """Rows of hidden states: one for each id, their mean, or the last."""
        with self.models.get(model_id).run() as model:
            states = model.hidden_states(ids)
        if pooling == POOLING_MEAN:
            mean: npt.NDArray[np.float64] = states.mean(axis=0, keepdims=True, dtype=np.float64)
            return mean.astype(np.float32)
        return states[-1:] if pooling == POOLING_LAST else states

    # -- the whole --------------------------------------------------------------------------

    def set_threads(self, n: int | None) -> None:
        """Threads of models that were not loaded with a number of their own; None is automatic."""
        self._threads = n
        self._apply_threads(self.models.all().values())

    def collect(self) -> None:
        """Free what is only kept to be faster next time."""
        for loaded in self.models.all().values():
            with suppress(ModelClosedError):  # freed meanwhile
                loaded.model.trim()
        gc.collect()

    def cleanup(self) -> None:
        """Stop all streams, and `collect`."""
        for stream_id in self.streams.all():
            with suppress(InvalidArgumentError):  # stopped meanwhile
                self.streams.remove(stream_id).stop()
        self.collect()

    # -- inside -----------------------------------------------------------------------------

    def _apply_threads(self, models: Iterable[LoadedModel]) -> None:
        for loaded in models:
            if self._threads is not None and not loaded.has_own_threads:
                with suppress(ModelClosedError):  # freed meanwhile
                    loaded.model.set_threads(self._threads)

    def _cancellation(self, request: Request) -> Cancellation | None:
        if request.cancellation is None:
            return None
        return self.cancellations.get(request.cancellation)
