"""Where a model's tokenizer is found, unless it is in the model's own files."""

from __future__ import annotations

from pathlib import Path

from bitnet.errors import InvalidModelError, ModelNotFoundError, UnsupportedModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_header import MAGIC
from bitnet.tokenizers.gguf_vocabulary import tokenizer_from_gguf
from bitnet.tokenizers.huggingface_files import find_tokenizer, tokenizer_from_file
from bitnet.tokenizers.tokenizer import Tokenizer


def open_tokenizer(path: Path, architecture: str = "") -> Tokenizer:
    """Build the tokenizer at `path`: a GGUF file, tokenizer.json, tokenizer.model, or a folder.

    architecture: that of the model it will serve; "" if not known.

    Raises ModelNotFoundError if there is nothing at `path`, UnsupportedModelError if it is or holds
    no tokenizer known here, InvalidModelError if it is broken.
    """
    if path.is_dir():
        file = find_tokenizer(path)
        if file is None:
            raise UnsupportedModelError(
                path, "holds no tokenizer (neither tokenizer.json nor tokenizer.model)"
            )
        return tokenizer_from_file(file, architecture)
    try:
        with path.open("rb") as opened:
            is_gguf = opened.read(len(MAGIC)) == MAGIC
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(f"there is no file or folder {path}") from error
    except OSError as error:
        raise InvalidModelError(path, f"cannot be read: {error}") from error
    if not is_gguf:
        return tokenizer_from_file(path, architecture)
    with GGUFFile(path) as model:
        own = model.metadata.get_str("general.architecture", default=architecture)
        return tokenizer_from_gguf(path, model.metadata, own)


def nearby_tokenizer(model: Path, architecture: str) -> Tokenizer | None:
    """Build the tokenizer.json in the folder of `model`, or else in the folder above."""
    folder = model.absolute() if model.is_dir() else model.absolute().parent
    for file in (folder / "tokenizer.json", folder.parent / "tokenizer.json"):
        if file.is_file():
            return tokenizer_from_file(file, architecture)
    return None
