"""A folder that appears as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitnet.errors import BitNetError, InvalidArgumentError
from bitnet.formats.new_files import folder_aside

# What a folder may hold that is replaced: it could be anyone's.
_OURS = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config)\.json"
    r"|modules\.json|1_Pooling/config\.json|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)


@contextmanager
def new_folder(path: Path, source: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `path`, to be filled, which then takes its place.

    source: what it is made of, which it must not replace. overwrite: whether `path` may exist, as a
    folder with nothing in it but files of the names that such folders are written with.

    Raises InvalidArgumentError where nothing can be written.
    """
    _check(path, source, overwrite)
    try:
        with folder_aside(path) as aside:
            new, old = aside / path.name, aside / "old"
            new.mkdir()
            yield new
            if path.exists():
                path.rename(old)
            _move(new, path, old)
    except BitNetError:
        raise
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {path}: {error.strerror}") from error


def _move(new: Path, path: Path, old: Path) -> None:
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def _check(path: Path, source: Path, overwrite: bool) -> None:
    if not path.name:
        raise InvalidArgumentError(f"{path} is no name of a folder to write")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InvalidArgumentError(f"{path} exists")
    if path.is_symlink() or not path.is_dir():
        raise InvalidArgumentError(f"{path} is no folder, and not replaced by one")
    if path.resolve() in (source.resolve(), *source.resolve().parents):
        raise InvalidArgumentError(f"{path} holds the model to convert; write another folder")
    for entry in _entries(path):
        name = entry.relative_to(path).as_posix()
        if not _OURS.fullmatch(name) or not entry.is_file():
            raise InvalidArgumentError(
                f"{path} is not replaced: {name} is no file that such folders are written with"
            )


def _entries(path: Path) -> Iterator[Path]:
    for entry in sorted(path.iterdir()):
        is_ours = entry.name == "1_Pooling" and entry.is_dir() and not entry.is_symlink()
        yield from entry.iterdir() if is_ours else [entry]
