"""Small models with a tokenizer, and a way to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf
from tests.models.conftest import make_tiny, write_tiny_gguf

Array = np.ndarray
Change = Callable[[str, Array], Array | None]

TOKENS = [f"t{i}" for i in range(38)] + ["<|begin_of_text|>", "<|eot_id|>"]
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": np.array([1] * 38 + [3, 3], np.int32),
    "tokenizer.ggml.merges": [],
    "tokenizer.ggml.bos_token_id": 38,
    "tokenizer.ggml.eos_token_id": 39,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound bitnet-b1.58 model of 2 layers, 4 heads of 32 and 2 of keys and values, in I2_S."""
    keys = {**TOKENIZER, "general.file_type": 40, "tokenizer.chat_template": "{{ messages }}"}
    return write_tiny_gguf(make_tiny("bitnet-b1.58"), tmp_path / "model.gguf", metadata=keys)


def rewrite(path: Path, metadata: dict[str, Any], change: Change = lambda _, data: data) -> Path:
    """Write a file again with other metadata (None: without) and tensors changed or left out."""
    with GGUFFile(path) as file:
        tensors = []
        for name, info in file.tensors.items():
            data = change(name, np.array(file.data(name)))
            if data is not None:
                tensors.append(TensorData(name, info.shape, info.type, data))
        values = {**file.metadata.stored, **metadata}
    write_gguf(path, {key: value for key, value in values.items() if value is not None}, tensors)
    return path
