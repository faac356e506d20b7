"""What a GGUF file says of the tokenizer in a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from bitnet.errors import UnsupportedOperationError
from bitnet.formats.gguf_writer import WritableValue
from bitnet.models.spec import ModelSpec


def gguf_vocabulary(folder: Path, spec: ModelSpec) -> dict[str, WritableValue]:
    """The ``tokenizer.`` keys of a GGUF file, the chat template among them."""
    raise UnsupportedOperationError(
        f"{folder} is no GGUF file: writing the tokenizer of a Hugging Face folder "
        f"({spec.architecture}) into one is not there yet"
    )
