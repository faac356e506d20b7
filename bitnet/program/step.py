"""One step: a ragged batch of tokens of several sequences through the forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.codegen import types as t
from bitnet.errors import InvalidArgumentError, UnsupportedOperationError
from bitnet.kernels.span_merge import partial_size
from bitnet.program.attention import Items, attention_items
from bitnet.program.forward import n_phases
from bitnet.program.head import head_scratch
from bitnet.program.memory import MemoryBudget, Sizes, address, allocate, ffi
from bitnet.program.plan import Plan
from bitnet.program.program import Program
from bitnet.program.team import sync_words
from bitnet.program.timer import empty_profile
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers, yield_function


class Pages:
    """KV pages, allocated when first needed and used again after they are given back."""

    def __init__(self, program: Program, memory: MemoryBudget) -> None:
        kv = program.plan.kv_layout
        self.size = kv.page_size
        self._bytes = program.plan.spec.n_layers * kv.page_elements * t.size(kv.element)
        self._memory = memory
        self._free: list[npt.NDArray[np.uint8]] = []
        self.n_allocated = 0

    def take(self) -> npt.NDArray[np.uint8]:
        """A page. Raises ModelMemoryError."""
        if self._free:
            return self._free.pop()
        self._memory.take(self._bytes, "a page of the KV cache")
        try:
            page = allocate(self._bytes, np.uint8)
        except BaseException:
            self._memory.give_back(self._bytes)
            raise
        self.n_allocated += 1
        return page

    def give_back(self, pages: list[npt.NDArray[np.uint8]]) -> None:
        self._free.extend(pages)

    def trim(self) -> None:
        """Free the pages that wait to be used again."""
        self._memory.give_back(len(self._free) * self._bytes)
        self.n_allocated -= len(self._free)
        self._free.clear()


@dataclass
class KVSequence:
    """The cached keys and values of one sequence: `length` positions in `pages`."""

    length: int = 0
    pages: list[npt.NDArray[np.uint8]] = field(default_factory=list)


@dataclass(frozen=True)
class Chunk:
    """The next tokens of a sequence, and for which of them results are wanted."""

    sequence: KVSequence
    tokens: Seq[int]
    wanted: range
    """Indices into `tokens`."""
    best: int = 0
    """How many of the largest logits must be exact, for a certified head; 0 is all of them."""
    exact_ids: Seq[int] = ()
    """Tokens whose logits must be exact as well when not all are."""


@dataclass(frozen=True)
class _Step:
    """A batch and the arrays it points at, alive as long as a thread may look at them."""

    batch: Any
    arrays: dict[str, npt.NDArray[Any]]


def scratch_sizes(plan: Plan, n: int) -> Sizes:
    """The buffers of bn_batch for steps of up to `n` tokens."""
    return {
        "x": (n * plan.hidden, np.float32),
        "row": (n * plan.widest_row, np.float32),
        "q": (n * plan.q_bytes, np.int8),
        "q_scale": (n * plan.n_inputs, np.float32),
        "q_total": (n * plan.n_inputs, np.int32),
        "qkv": (n * plan.qkv, np.float32),
        **head_scratch(plan, n),
    }


class Stepper:
    """Runs steps of at most `max_tokens` tokens on a team of threads.

    memory: counts the KV pages.
    """

    def __init__(
        self,
        program: Program,
        weights: Weights,
        workers: Workers,
        max_tokens: int,
        memory: MemoryBudget | None = None,
    ) -> None:
        self.program = program
        self.weights = weights
        self.workers = workers
        self.max_tokens = max_tokens
        self.profiles: list[npt.NDArray[np.int64]] = []
        """What a profiled program recorded, one table a step; see `timer.phase_times`."""
        self._end_workers = weakref.finalize(self, workers.close)
        self.pages = Pages(program, memory or MemoryBudget())
        self._scratch = {
            name: allocate(count, dtype, zero=True)
            for name, (count, dtype) in scratch_sizes(program.plan, max_tokens).items()
        }
        self._common = {name: address(array) for name, array in self._scratch.items()}
        self._common["max_tokens"] = max_tokens
        self._common["yield_thread"] = ffi.cast("void *", yield_function())

    def step(self, chunks: Seq[Chunk]) -> npt.NDArray[np.float32]:
        """Advance every chunk's sequence by its tokens; gives the wanted logits.

        The result is (number of wanted tokens, vocab), chunk by chunk; logits that need not be
        exact may be -inf. Raises InvalidArgumentError for what the program has no memory for,
        UnsupportedOperationError for logits of a model without an output head.
        """
        rows = _wanted_rows(chunks)
        if rows and not self.program.plan.spec.has_head:
            raise UnsupportedOperationError("the model has no output head, so it gives no logits")
        return _in_order(rows, self._run(chunks, rows, len(rows)))

    def hidden_states(self, chunks: Seq[Chunk]) -> npt.NDArray[np.float32]:
        """Like `step`, but gives (number of wanted tokens, hidden_size): what the head would read.

        These are the hidden states after the final norm.
        """
        rows = _wanted_rows(chunks)
        self._run(chunks, rows, 0)
        plan = self.program.plan
        states = self._scratch["row"][: len(rows) * plan.hidden].reshape(len(rows), plan.hidden)
        return _in_order(rows, states[:, : plan.spec.hidden_size].copy())

    def _run(self, chunks: Seq[Chunk], rows: list[_Row], n_logits: int) -> npt.NDArray[np.float32]:
        """A step; gives the logits of the first `n_logits` rows."""
        self._check(chunks)
        plan = self.program.plan
        for chunk in chunks:
            self.reserve(chunk.sequence, len(chunk.tokens))
        arrays = _describe(chunks) | _describe_rows(rows)
        logits = np.empty((n_logits, plan.spec.vocab_size), np.float32)
        arrays["logits"] = logits
        items = attention_items((c.sequence.length, len(c.tokens)) for c in chunks)
        arrays |= self._attention_arrays(items)
        n_words = sync_words(self.workers.n_regions, n_phases(plan))
        arrays["sync"] = allocate(n_words, np.int64, zero=True)
        batch = ffi.new("bn_batch *", self._common)
        if self.program.profiled:
            arrays["profile"] = empty_profile(self.workers.n)
            batch.profile_rows = self.workers.n
            self.profiles.append(arrays["profile"])
        batch.n_regions = self.workers.n_regions
        batch.n_tokens = len(arrays["tokens"])
        batch.n_hidden, batch.n_logits = len(rows), n_logits
        batch.n_certified, batch.n_exact = len(arrays["ranks"]), len(arrays["exact_ids"])
        batch.n_sequences, batch.pages_per_sequence = arrays["page_table"].shape
        batch.n_attention_items, batch.n_blocks = len(items.rows), items.n_blocks
        batch.n_slots = items.n_slots
        for name, array in arrays.items():
            setattr(batch, name, address(array))

        step = _Step(batch, arrays)
        self.workers.run(lambda i: self.program.forward(self.weights.struct, step.batch, i))
        self.program.check_bounds()
        for chunk in chunks:
            chunk.sequence.length += len(chunk.tokens)
        return logits

    def _attention_arrays(self, items: Items) -> dict[str, npt.NDArray[Any]]:
        plan = self.program.plan
        n_partials = items.n_slots * plan.spec.n_heads
        return {
            "attention_items": items.rows,
            "partials": allocate(n_partials * partial_size(plan.kv_layout), np.float32),
            "arrived": allocate(items.n_slots * plan.spec.n_kv_heads, np.int64, zero=True),
        }

    def use_workers(self, workers: Workers) -> None:
        """Run further steps on other threads, and end those so far."""
        self._end_workers()
        self.workers = workers
        self._end_workers = weakref.finalize(self, workers.close)

    def close(self) -> None:
        """End the threads; nothing may be running."""
        self._end_workers()

    def reserve(self, sequence: KVSequence, n_tokens: int) -> None:
        """Take the pages for `n_tokens` more positions."""
        while len(sequence.pages) * self.pages.size < sequence.length + n_tokens:
            sequence.pages.append(self.pages.take())

    def release(self, sequence: KVSequence) -> None:
        """Forget a sequence and take back its pages."""
        self.pages.give_back(sequence.pages)
        sequence.pages, sequence.length = [], 0

    def _check(self, chunks: Seq[Chunk]) -> None:
        n_tokens = sum(len(chunk.tokens) for chunk in chunks)
        if not 1 <= n_tokens <= self.max_tokens:
            raise InvalidArgumentError(f"a step takes 1..{self.max_tokens} tokens, not {n_tokens}")
        vocab, n_positions = self.program.plan.spec.vocab_size, self.weights.struct.n_positions
        for chunk in chunks:
            if min(chunk.tokens) < 0 or max(chunk.tokens) >= vocab:
                raise InvalidArgumentError(f"a token id is outside the vocabulary of {vocab}")
            if min(chunk.exact_ids, default=0) < 0 or max(chunk.exact_ids, default=0) >= vocab:
                raise InvalidArgumentError(f"an exact id is outside the vocabulary of {vocab}")
            if chunk.best < 0:
                raise InvalidArgumentError(f"best must be 0 or more, not {chunk.best}")
            if chunk.sequence.length + len(chunk.tokens) > n_positions:
                raise InvalidArgumentError(f"a sequence is longer than {n_positions} positions")


def _describe(chunks: Seq[Chunk]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of bn_batch that say which tokens a step takes."""
    tokens: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    table = np.zeros((len(chunks), max(len(c.sequence.pages) for c in chunks)), np.int64)
    for row, chunk in enumerate(chunks):
        tokens += chunk.tokens
        first = chunk.sequence.length
        positions += range(first, first + len(chunk.tokens))
        sequences += [row] * len(chunk.tokens)
        pages = chunk.sequence.pages
        table[row, : len(pages)] = [page.ctypes.data for page in pages]
    lists = {"tokens": tokens, "positions": positions, "sequences": sequences}
    arrays = {name: np.array(numbers, np.int32) for name, numbers in lists.items()}
    return {**arrays, "page_table": table}


@dataclass(frozen=True)
class _Row:
    """A row of results: where it comes, for which token of the batch, what of it is wanted."""

    place: int
    token: int
    chunk: Chunk


def _wanted_rows(chunks: Seq[Chunk]) -> list[_Row]:
    """The rows in the order in which the program computes them: full ones come last."""
    rows: list[_Row] = []
    first = 0
    for chunk in chunks:
        rows += [_Row(len(rows) + i, first + w, chunk) for i, w in enumerate(chunk.wanted)]
        first += len(chunk.tokens)
    return sorted(rows, key=lambda row: row.chunk.best == 0)


def _describe_rows(rows: list[_Row]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of bn_batch that say which results are wanted."""
    certified = [row.chunk for row in rows if row.chunk.best]
    exact = [(i, token) for i, chunk in enumerate(certified) for token in chunk.exact_ids]
    return {
        "hidden_tokens": np.array([row.token for row in rows], np.int32),
        "ranks": np.array([chunk.best for chunk in certified], np.int64),
        "exact_rows": np.array([i for i, _ in exact], np.int32),
        "exact_ids": np.array([token for _, token in exact], np.int32),
    }


def _in_order(rows: list[_Row], results: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The computed rows in the order of the result."""
    places = [row.place for row in rows]
    if places == sorted(places):
        return results
    return results[np.argsort(places)]
