"""The files of a model as they are, whatever can be made of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bitnet.checkup.faults import Fault, gguf_faults, int_value, text_value
from bitnet.formats import sniff
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.safetensors import SafetensorsFolder
from bitnet.models.native import LAYOUT_KEY

_ARM_HINT = (
    "a file does not show whether an ARM build of bitnet.cpp wrote its I2_S, in blocks of 64 "
    "weights; if its text is nonsense, try `bitnet repair --source-layout arm64`"
)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int
    file: str
    offset: int
    """In the file."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What files say of themselves."""

    format: str
    files: tuple[Path, ...]
    size_bytes: int
    name: str | None
    architecture: str | None
    tokenizer: str | None
    file_type: int | None
    tensors: list[StoredTensor]
    faults: list[Fault]
    hints: list[str]


@contextmanager
def open_stored(path: Path) -> Iterator[Stored]:
    """Open a GGUF file or the folder of a Hugging Face model.

    Raises ModelNotFoundError if there is nothing, ModelFileError if it breaks a rule of its format.
    """
    if sniff(path) == "gguf":
        with GGUFFile(path) as file:
            yield _gguf(file)
    else:
        with SafetensorsFolder(path) as folder:
            yield _folder(folder)


def _gguf(file: GGUFFile) -> Stored:
    native = text_value(file, LAYOUT_KEY)
    parts = f", {len(file.files)} parts" if len(file.files) > 1 else ""
    kind = "GGUF" if native is None else f"native GGUF (layout {native})"
    tensors = [
        StoredTensor(name, info.type, info.shape, info.nbytes, file.file_of(name).name, info.offset)
        for name, info in file.tensors.items()
    ]
    model, pre = (text_value(file, f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    return Stored(
        format=f"{kind}, version {file.version}, {file.order}-endian{parts}",
        files=file.files,
        size_bytes=file.size_bytes,
        name=text_value(file, "general.name"),
        architecture=text_value(file, "general.architecture"),
        tokenizer=" ".join(name for name in (model, pre) if name) or None,
        file_type=int_value(file, "general.file_type"),
        tensors=tensors,
        faults=gguf_faults(file),
        hints=[_ARM_HINT] if any(tensor.type == "I2_S" for tensor in tensors) else [],
    )


def _folder(folder: SafetensorsFolder) -> Stored:
    files = sorted({info.file for info in folder.tensors.values()})
    tokenizers = ("tokenizer.json", "tokenizer.model")
    return Stored(
        format="Hugging Face folder",
        files=tuple(files),
        size_bytes=folder.size_bytes,
        name=folder.path.resolve().name,
        architecture=None,
        tokenizer=next((name for name in tokenizers if (folder.path / name).is_file()), None),
        file_type=None,
        tensors=[
            StoredTensor(name, info.dtype, info.shape, info.nbytes, info.file.name, info.offset)
            for name, info in folder.tensors.items()
        ],
        faults=[],
        hints=[],
    )
