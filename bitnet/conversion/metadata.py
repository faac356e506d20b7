"""What GGUF files say of a model in keys and values, but for its tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitnet.errors import UnsupportedModelError
from bitnet.formats.gguf_header import ALIGNMENT_KEY
from bitnet.formats.gguf_metadata import Metadata
from bitnet.formats.gguf_writer import WritableValue
from bitnet.models.embedders import POOLING_TYPES
from bitnet.models.native import LAYOUT_KEY
from bitnet.models.spec import ModelSpec
from bitnet.models.tl_blocks import TL_PREFIX

_OF_THE_WEIGHTS = (ALIGNMENT_KEY, LAYOUT_KEY, TL_PREFIX)


def kept_metadata(metadata: Metadata) -> dict[str, WritableValue]:
    """All that is still true when the weights are stored in another way."""
    stored = metadata.stored.items()
    return {key: value for key, value in stored if not key.startswith(_OF_THE_WEIGHTS)}


def folder_metadata(folder: Path, name: str, spec: ModelSpec) -> dict[str, WritableValue]:
    """The numbers of a model that was no GGUF file.

    Raises UnsupportedModelError for numbers that such a file cannot hold.
    """

    def float32(value: float) -> np.float32:
        if float(np.float32(value)) != value:
            raise UnsupportedModelError(folder, f"{value!r} is no float32, which GGUF files hold")
        return np.float32(value)

    numbers: dict[str, WritableValue] = {
        "vocab_size": spec.vocab_size,
        "context_length": spec.context_length,
        "embedding_length": spec.hidden_size,
        "block_count": spec.n_layers,
        "feed_forward_length": spec.ffn_size,
        "rope.dimension_count": spec.head_dim,
        "rope.freq_base": float32(spec.rope_theta),
        "attention.head_count": spec.n_heads,
        "attention.head_count_kv": spec.n_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": float32(spec.rms_norm_eps),
    }
    if spec.pooling is not None:
        numbers["pooling_type"] = POOLING_TYPES[spec.pooling]
    general: dict[str, WritableValue] = {
        "general.architecture": spec.architecture,
        "general.name": name,
    }
    return general | {f"{spec.architecture}.{key}": value for key, value in numbers.items()}
