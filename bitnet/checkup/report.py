"""What a model is, and what is wrong with it: also of files that cannot be loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from bitnet.checkup.faults import Fault
from bitnet.checkup.memory import Memory, memory_needs
from bitnet.checkup.stored import Stored, StoredTensor, open_stored
from bitnet.errors import BitNetError, ModelFileError
from bitnet.formats import sniff
from bitnet.models import Checkpoint, ModelSpec, open_checkpoint

FAMILIES = {
    "bitnet-b1.58": "BitNet b1.58",
    "bitnet": "BitNet of 1bitLLM",
    "llama": "Llama with ternary linear layers",
    "qwen3": "BitNet embedding of Qwen3",
    "gemma3": "BitNet embedding of Gemma 3",
}


@dataclass(frozen=True, slots=True)
class TypeTotal:
    """What all tensors of one type make together."""

    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TokenizerSummary:
    tokens: int
    bos_id: int | None
    eos_ids: list[int]
    add_bos: bool
    has_chat_template: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What `inspect_model` found; None and empty are what could not be told."""

    path: str
    format: str
    stored: Stored | None
    types: dict[str, TypeTotal]
    spec: ModelSpec | None
    tokenizer: TokenizerSummary | None
    memory: list[Memory]
    problems: list[str]
    """Why it cannot be loaded, or used with text."""

    @property
    def loads(self) -> bool:
        return self.spec is not None

    @property
    def faults(self) -> list[Fault]:
        return [] if self.stored is None else self.stored.faults


def inspect_model(path: str | os.PathLike[str]) -> Report:
    """Look at a model without reading its weights.

    Raises ModelNotFoundError if there is nothing at `path`, InvalidModelError if it is neither a
    GGUF file nor a folder of safetensors files. All that is wrong with such is in the report.
    """
    path = Path(path)
    kind = "GGUF" if sniff(path) == "gguf" else "Hugging Face folder"
    try:
        with open_stored(path) as stored:
            types = _totals(stored.tensors)
    except ModelFileError as error:
        return Report(os.fspath(path), kind, None, {}, None, None, [], [str(error)])
    try:
        with open_checkpoint(path) as checkpoint:
            tokenizer, problems = _tokenizer(checkpoint)
            spec, memory = checkpoint.spec, memory_needs(checkpoint)
    except ModelFileError as error:
        problems = [str(error)]
        return Report(os.fspath(path), stored.format, stored, types, None, None, [], problems)
    return Report(os.fspath(path), stored.format, stored, types, spec, tokenizer, memory, problems)


def _totals(tensors: Iterable[StoredTensor]) -> dict[str, TypeTotal]:
    totals: dict[str, TypeTotal] = {}
    for tensor in tensors:
        old = totals.get(tensor.type, TypeTotal(0, 0, 0))
        totals[tensor.type] = TypeTotal(
            old.tensors + 1, old.elements + prod(tensor.shape), old.bytes + tensor.bytes
        )
    return dict(sorted(totals.items(), key=lambda item: -item[1].bytes))


def _tokenizer(checkpoint: Checkpoint) -> tuple[TokenizerSummary | None, list[str]]:
    try:
        tokenizer = checkpoint.tokenizer
    except BitNetError as error:
        return None, [str(error)]
    return TokenizerSummary(
        tokens=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        eos_ids=sorted(tokenizer.eos_ids),
        add_bos=tokenizer.add_bos,
        has_chat_template=tokenizer.chat_template is not None,
    ), []
