"""Small models with random weights and odd shapes, and their logits by the numpy reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from bitnet.codegen import Target
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.layouts import LayoutName
from bitnet.models.spec import ModelSpec
from bitnet.models.tensors import DenseTensor, StoredRows, TableKind
from bitnet.program import Plan, Program
from bitnet.program.plan import HeadKind
from bitnet.program.reference import hidden_reference, logits_reference
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers
from bitnet.quant import i2s, q6_k, q8_0

Array = np.ndarray

VOCAB = 77
LENGTH = 70  # tokens of a prompt: past two blocks of positions and one page
N_POSITIONS = 128
MAX_TOKENS = 80


@dataclass(frozen=True)
class Codes:
    """A TernaryTensor in memory."""

    name: str
    scale: float
    data: Array

    @cached_property
    def _i2_s(self) -> Array:
        return i2s.pack(self.data, self.scale)

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.data.shape
        return rows, columns

    def codes(self, start: int, stop: int) -> Array:
        return self.data[start:stop]

    def stored(self) -> list[StoredRows]:
        """As I2_S where that is possible."""
        rows, columns = self.shape
        if columns % i2s.BLOCK:
            return []
        return [StoredRows("i2_s", self._i2_s[: rows * columns // 4], range(rows))]


@dataclass(frozen=True)
class Case:
    """An architecture with the number formats of its tables and its KV cache."""

    spec: ModelSpec
    embedding: TableKind
    head: TableKind
    kv: KVKind
    head_kind: HeadKind = "stored"

    @property
    def tensors(self) -> RandomTensors:
        return random_tensors(self)

    def plan(self, layout: LayoutName = "2bit", page_size: int = 64) -> Plan:
        return Plan(
            self.spec, self.embedding, self.head, self.kv, layout, self.head_kind, page_size
        )


class RandomTensors:
    """Tensors of a case, the same on every run."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(11)
        self._ternary = {
            name: Codes(
                name, float(np.float32(rng.uniform(0.01, 0.1))), rng.integers(0, 3, shape, np.uint8)
            )
            for name, shape in case.spec.ternary_shapes().items()
        }
        self._dense = {}
        for name, shape in case.spec.dense_shapes().items():
            values = rng.standard_normal(shape).astype(np.float32) * np.float32(0.5)
            kind: TableKind = "f32"
            if len(shape) == 2:
                kind = case.head if name == "output.weight" else case.embedding
            else:
                values += 1
            self._dense[name] = DenseTensor(name, stored_as(values, kind), kind)

    def ternary(self, name: str) -> Codes:
        return self._ternary[name]

    def dense(self, name: str) -> DenseTensor:
        return self._dense[name]

    def packed(self, name: str) -> None:
        """There is no file."""

    def release(self) -> None:
        """There is no file."""


def stored_as(values: Array, kind: TableKind) -> Array:
    """f32 numbers in a stored format; bf16 as the bits, cut off."""
    if kind == "q8_0":
        return q8_0.quantize(values)
    if kind == "q6_k":
        return q6_k.quantize(values)
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float16 if kind == "f16" else np.float32)


random_tensors = cache(RandomTensors)


def spec(
    architecture: str = "bitnet-b1.58",
    *,
    n_layers: int = 3,
    activation: str = "relu2",
    sub_norms: bool = True,
    tied_head: bool = True,
    rope_pairing: str = "halves",
    hidden_size: int = 72,
    vocab_size: int = VOCAB,
    **more: Any,
) -> ModelSpec:
    """Nothing here is a multiple of a vector, and two query heads share a kv head."""
    return ModelSpec(
        architecture=architecture,
        n_layers=n_layers,
        hidden_size=hidden_size,
        ffn_size=100,
        n_heads=4,
        n_kv_heads=2,
        head_dim=20,
        vocab_size=vocab_size,
        context_length=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        rope_pairing=rope_pairing,
        activation=activation,
        sub_norms=sub_norms,
        tied_head=tied_head,
        **more,
    )


LLAMA = spec(
    "llama", activation="silu", sub_norms=False, tied_head=False, rope_pairing="interleaved"
)
# Rows and columns such that I2_S weights can be used where they are.
ALIGNED = Case(
    replace(spec(), hidden_size=128, ffn_size=384, n_heads=4, n_kv_heads=2, head_dim=32),
    "f16",
    "f16",
    "f16",
)
CASES = {
    "bitnet-b1.58": Case(spec(), "f16", "f16", "f16"),
    "bitnet": Case(spec("bitnet", activation="silu"), "bf16", "bf16", "f32"),
    "llama": Case(LLAMA, "f32", "bf16", "f16"),
}
# Embedding models: hidden states only.
QWEN3 = spec(
    "qwen3", activation="silu", sub_norms=False, input_norms=True, qk_norms=True, has_head=False
)
GEMMA3 = replace(
    QWEN3, architecture="gemma3", activation="gelu", post_norms=True, scaled_embedding=True
)
EMBEDDERS = {
    "qwen3": Case(QWEN3, "f16", "f16", "f16"),
    "gemma3": Case(GEMMA3, "bf16", "bf16", "f32"),
}


def prompt(seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, LENGTH).tolist()


@cache
def reference(case: Case, length: int = LENGTH) -> Array:
    """Logits of the first tokens of `prompt()`."""
    tokens = np.array(prompt()[:length])
    return logits_reference(case.spec, case.tensors, tokens, case.kv, case.head_kind)


@cache
def hidden_states(case: Case) -> Array:
    """Hidden states of `prompt()` by the reference."""
    return hidden_reference(case.spec, case.tensors, np.array(prompt()), case.kv)


@cache
def program(
    case: Case,
    target: Target,
    *,
    checked: bool = False,
    layout: LayoutName = "2bit",
    page_size: int = 64,
) -> Program:
    return Program(case.plan(layout, page_size), target, checked=checked)


def stepper(
    case: Case,
    target: Target,
    *,
    threads: int = 1,
    checked: bool = False,
    layout: LayoutName = "2bit",
    page_size: int = 64,
) -> Stepper:
    compiled = program(case, target, checked=checked, layout=layout, page_size=page_size)
    weights = Weights(compiled, case.tensors, N_POSITIONS, Workers(1))
    return Stepper(compiled, weights, Workers(threads), MAX_TOKENS)


def all_logits(
    steps: Stepper, tokens: Sequence[int], chunk: int, sequence: KVSequence | None = None
) -> Array:
    """Logits of every token of a new sequence, fed `chunk` tokens at a time."""
    sequence = sequence or KVSequence()
    parts = [tokens[i : i + chunk] for i in range(0, len(tokens), chunk)]
    logits = [steps.step([Chunk(sequence, part, range(len(part)))]) for part in parts]
    return np.concatenate(logits)
