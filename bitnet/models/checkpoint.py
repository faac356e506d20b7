"""Opening a model, whatever it is stored as: a `ModelSpec` and named tensors, read lazily.

Names are those of GGUF files; `ModelSpec.ternary_shapes` and `dense_shapes` list them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy.typing as npt

from bitnet.errors import (
    InvalidArgumentError,
    InvalidModelError,
    ModelClosedError,
    UnsupportedModelError,
)
from bitnet.formats import sniff
from bitnet.models.gguf_checkpoint import GGUFSource
from bitnet.models.huggingface_checkpoint import HuggingFaceSource
from bitnet.models.spec import ModelSpec
from bitnet.models.tensors import DenseTensor, TernaryTensor
from bitnet.models.tokenizer_files import nearby_tokenizer, open_tokenizer
from bitnet.quant.tiled import TiledName
from bitnet.tokenizers.tokenizer import Tokenizer


class Source(Protocol):
    """A kind of checkpoint. Opening one checks that every tensor is there, in its right shape."""

    path: Path
    name: str
    version: str
    weight_types: frozenset[str]
    spec: ModelSpec
    size_bytes: int

    @property
    def layout(self) -> TiledName | None: ...
    def ternary(self, name: str) -> TernaryTensor: ...
    def dense(self, name: str) -> DenseTensor: ...
    def packed(self, name: str) -> npt.NDArray[Any] | None: ...
    def tokenizer(self) -> Tokenizer | None: ...
    def release(self) -> None: ...
    def close(self) -> None: ...


class Checkpoint:
    """An open model. Use as a context manager or call `close`; arrays handed out stay valid."""

    def __init__(
        self,
        source: Source,
        tokenizer: Path | None = None,
        chat_template: str | os.PathLike[str] = "auto",
    ) -> None:
        self._source = source
        # Made once: a model has thousands of tensors.
        self._ternary_names = source.spec.ternary_shapes().keys()
        self._dense_names = source.spec.dense_shapes().keys()
        self._tokenizer_path = tokenizer
        self._tokenizer: Tokenizer | None = None
        self._closed = False
        if tokenizer is not None or chat_template != "auto":
            self.tokenizer.use_chat_template(chat_template)

    @property
    def path(self) -> Path:
        """The GGUF file or the folder."""
        return self._source.path

    @property
    def name(self) -> str:
        """What the files call the model, or else the file or folder name."""
        return self._source.name

    @property
    def version(self) -> str:
        """The version that the files give the model, or ""."""
        return self._source.version

    @property
    def weight_types(self) -> frozenset[str]:
        """The types of the tensors that hold the ternary weights, by their names in the format.

        Of a native file it is the layout.
        """
        return self._source.weight_types

    @property
    def spec(self) -> ModelSpec:
        """The model's shape and arithmetic."""
        return self._source.spec

    @property
    def size_bytes(self) -> int:
        """Size of the files that hold the tensors."""
        return self._source.size_bytes

    @property
    def layout(self) -> TiledName | None:
        """The layout of a native file, whose matrices are used where they are mapped."""
        return self._source.layout

    def ternary(self, name: str) -> TernaryTensor:
        """Return the linear layer `name`, such as ``blk.0.attn_q.weight``.

        Raises InvalidArgumentError if the model has no such layer, ModelClosedError if closed.
        Its rows are read when asked for.
        """
        self._check(name, self._ternary_names)
        return self._source.ternary(name)

    def dense(self, name: str) -> DenseTensor:
        """Return the float tensor `name`, such as ``token_embd.weight``, mapped; as `ternary`."""
        self._check(name, self._dense_names)
        return self._source.dense(name)

    def packed(self, name: str) -> npt.NDArray[Any] | None:
        """What a native file holds under a name of `bitnet.models.native`, mapped; else None.

        Raises ModelClosedError if closed.
        """
        self._check_open()
        return self._source.packed(name)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, built on first use.

        It is the one given to `open_checkpoint`, or else in the model's files, or else a
        tokenizer.json beside them or in the folder above. Raises InvalidModelError or
        UnsupportedModelError if there is none that can be used.
        """
        if self._tokenizer is None:
            self._check_open()
            tokenizer = self._find_tokenizer()
            if tokenizer.vocab_size > self.spec.vocab_size:
                raise InvalidModelError(
                    tokenizer.path,
                    f"the tokenizer has {tokenizer.vocab_size} tokens, "
                    f"the model only {self.spec.vocab_size}",
                )
            self._tokenizer = tokenizer
        return self._tokenizer

    def _find_tokenizer(self) -> Tokenizer:
        architecture = self.spec.architecture
        if self._tokenizer_path is not None:
            return open_tokenizer(self._tokenizer_path, architecture)
        tokenizer = self._source.tokenizer() or nearby_tokenizer(self.path, architecture)
        if tokenizer is None:
            raise UnsupportedModelError(
                self.path, "holds no tokenizer, and there is none near it (tokenizer.json)"
            )
        return tokenizer

    def release(self) -> None:
        """Give back the memory that the files take so far; what is used again comes again."""
        self._source.release()

    def close(self) -> None:
        """End the use of this object; may be called twice."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, name: str, names: Collection[str]) -> None:
        self._check_open()
        if name not in names:
            raise InvalidArgumentError(f"the model has no such tensor: {name}")

    def _check_open(self) -> None:
        if self._closed:
            raise ModelClosedError(f"{self.path} is closed")


def open_checkpoint(
    path: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str] | None = None,
    chat_template: str | os.PathLike[str] = "auto",
) -> Checkpoint:
    """Open a GGUF file, a Hugging Face folder, or the folder of a safetensors file.

    What it is, is told by its content. tokenizer, chat_template: see `bitnet.load`. Raises
    ModelNotFoundError if there is nothing at `path`, InvalidModelError if it breaks a rule of its
    format, UnsupportedModelError if it is not a ternary model of a known architecture.
    """
    path = Path(path)
    source: Source
    if sniff(path) == "gguf":
        source = GGUFSource(path)
    else:
        source = HuggingFaceSource(path if path.is_dir() else path.parent)
    try:
        return Checkpoint(source, None if tokenizer is None else Path(tokenizer), chat_template)
    except BaseException:
        source.close()
        raise
