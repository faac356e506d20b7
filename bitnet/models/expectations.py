"""What somebody says that a model's files are, compared with what they are."""

from __future__ import annotations

import os
from typing import Literal

from bitnet.errors import InvalidModelError
from bitnet.formats import sniff

FormatName = Literal["gguf", "safetensors", "huggingface"]
QuantizationName = Literal["I2_S", "TL1", "TL2"]


def check_format(path: str | os.PathLike[str], expected: FormatName, source: str) -> None:
    """Raises InvalidModelError that names `source` when the files are of another format.

    "safetensors" and "huggingface" both are a folder with configuration and safetensors.
    """
    kind = sniff(path)
    if (expected == "gguf") != (kind == "gguf"):
        raise InvalidModelError(path, f"is {kind}, not {expected} as {source} says")


def check_quantization(
    path: str | os.PathLike[str],
    weight_types: frozenset[str],
    expected: QuantizationName,
    source: str,
) -> None:
    """Raises InvalidModelError that names `source` when not all weights are stored like that."""
    if weight_types != {expected}:
        found = ", ".join(sorted(weight_types))
        raise InvalidModelError(path, f"holds {found}, not {expected} as {source} says")
