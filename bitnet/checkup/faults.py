"""What is known to go wrong in the GGUF files of ternary models, and the keys that mend it.

Works on files that cannot be loaded: what is not there, or of another type, is no fault here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import WritableValue
from bitnet.models.embedders import DOUBT_OF_MEAN, EMBEDDERS, POOLING_TYPES
from bitnet.models.native import LAYOUT_KEY
from bitnet.quant import i2s
from bitnet.tokenizers.special import chat_template_for

# general.file_type -> types that most weights then have. Some numbers mean one type in files of
# bitnet.cpp and another one in those of llama.cpp.
FILE_TYPES: dict[int, tuple[str, ...]] = {
    0: ("F32",),
    1: ("F16",),
    7: ("Q8_0",),
    18: ("Q6_K",),
    32: ("BF16",),
    36: ("TQ1_0",),
    37: ("TQ2_0",),
    38: ("TL1", "MXFP4"),
    39: ("TL2", "NVFP4"),
    40: ("I2_S", "Q1_0"),
    136: ("IQ1_BN",),
    137: ("IQ2_BN",),
}
_PRE = "tokenizer.ggml.pre"
_TEMPLATE = "tokenizer.chat_template"
_LLAMA3_TOKEN = "<|begin_of_text|>"  # noqa: S105  # a token of text
_BITNET_2B = ("bitnet-b1.58", "bitnet-25")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a file."""

    name: str
    text: str
    changes: Mapping[str, WritableValue] = field(default_factory=dict)
    """Metadata that mends it; empty where nothing does."""


def gguf_faults(file: GGUFFile) -> list[Fault]:
    """All faults that are found in the metadata and the shapes of tensors."""
    arch = text_value(file, "general.architecture")
    faults = [*_file_type(file), *_columns(file)]
    if arch is not None:
        faults += [
            *_missing_pre(file, arch),
            *_template(file, arch),
            *_heads(file, arch),
            *_pooling(file, arch),
        ]
    return faults


def text_value(file: GGUFFile, key: str) -> str | None:
    """A string of the metadata; None where there is none."""
    value = file.metadata.get(key)
    return value if isinstance(value, str) else None


def int_value(file: GGUFFile, key: str) -> int | None:
    """An integer of the metadata; None where there is none."""
    value = file.metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def linear_elements(file: GGUFFile) -> dict[str, int]:
    """Tensor type -> weights of linear layers that have it, the most frequent first."""
    counts: dict[str, int] = {}
    for name, info in file.tensors.items():
        if name.startswith("blk.") and len(info.shape) == 2:
            counts[info.type] = counts.get(info.type, 0) + info.shape[0] * info.shape[1]
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _file_type(file: GGUFFile) -> Iterator[Fault]:
    number = int_value(file, "general.file_type")
    types = linear_elements(file)
    if number not in FILE_TYPES or not types or LAYOUT_KEY in file.metadata:
        return
    most = next(iter(types))
    if most not in FILE_TYPES[number]:
        said = " or ".join(FILE_TYPES[number])
        yield Fault(
            "file-type",
            f"general.file_type {number} says {said}, but most weights are {most}",
        )


def _columns(file: GGUFFile) -> Iterator[Fault]:
    odd = [
        (name, info.shape[-1])
        for name, info in file.tensors.items()
        if info.type == "I2_S" and info.shape[-1] % i2s.BLOCK
    ]
    if odd:
        name, columns = odd[0]
        yield Fault(
            "columns",
            f"{len(odd)} I2_S tensors, such as {name}, have rows of {columns} weights, no multiple "
            f"of {i2s.BLOCK}: bitnet.cpp drops the end of each row, so they may never have worked",
        )


def _missing_pre(file: GGUFFile, arch: str) -> Iterator[Fault]:
    if text_value(file, "tokenizer.ggml.model") != "gpt2" or _PRE in file.metadata:
        return
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    is_llama3 = isinstance(tokens, list) and _LLAMA3_TOKEN in tokens
    if arch in _BITNET_2B or is_llama3:
        yield Fault(
            "missing-pre",
            f"{_PRE} is missing, so other engines cut words at wrong places; "
            "the vocabulary is Llama 3's",
            {_PRE: "llama-bpe"},
        )
    else:
        yield Fault("missing-pre", f"{_PRE} is missing, so how to cut words is not known")


def _template(file: GGUFFile, arch: str) -> Iterator[Fault]:
    present = text_value(file, _TEMPLATE)
    right = chat_template_for(arch, present)
    if right is not None and right != present:
        what = "is missing" if present is None else "is a placeholder that never ends a turn"
        yield Fault("template", f"{_TEMPLATE} {what}", {_TEMPLATE: right})


def _pooling(file: GGUFFile, arch: str) -> Iterator[Fault]:
    key = f"{arch}.pooling_type"
    if arch in EMBEDDERS and int_value(file, key) == POOLING_TYPES["mean"]:
        yield Fault("pooling", f"{key}: {DOUBT_OF_MEAN}")


def _heads(file: GGUFFile, arch: str) -> Iterator[Fault]:
    """Head counts that contradict the shapes of the first layer."""
    q, k = (file.tensors.get(f"blk.0.attn_{m}.weight") for m in "qk")
    keys = [f"{arch}.attention.head_count", f"{arch}.attention.head_count_kv"]
    said = [int_value(file, key) for key in keys]
    size = _head_size(file, arch, said[0])
    if q is None or k is None or not size or q.shape[0] % size or k.shape[0] % size:
        return
    right = [q.shape[0] // size, k.shape[0] // size]
    means = [said[0], said[0] if said[1] is None else said[1]]  # without the second, the first
    if means == right or right[0] % right[1]:
        return
    changes: dict[str, WritableValue] = {
        key: np.uint32(count)
        for key, count, old in zip(keys, right, said, strict=True)
        if count != old
    }
    yield Fault(
        "head-count",
        f"{said[0]} heads and {said[1]} of keys and values are announced, but the weights have "
        f"{right[0]} and {right[1]} of size {size}",
        changes,
    )


def _head_size(file: GGUFFile, arch: str, n_heads: int | None) -> int | None:
    for key in ("attention.key_length", "rope.dimension_count"):
        size = int_value(file, f"{arch}.{key}")
        if size is not None:
            return size if size > 0 else None
    width = int_value(file, f"{arch}.embedding_length")
    if width is None or n_heads is None or n_heads < 1 or width % n_heads:
        return None
    return width // n_heads
