"""Files that take their places when they are complete: together, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of `path` at the end, when all is on disk.

    After an error `path` is as it was.
    """
    with folder_aside(path) as aside:
        new = aside / path.name
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place([new], [])


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into; it is gone afterwards, with all that is left in it."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        aside.mkdir()
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(new: Sequence[Path], old: Sequence[Path]) -> None:
    """Move `new`, the files in a folder of `folder_aside`, beside that folder, the first one last.

    old: files that they replace, removed in this order before any of them appears. Raises OSError;
    then `old` are where they were.
    """
    aside = new[0].parent
    removed = aside / "old"
    removed.mkdir()
    moves = [(path, removed / path.name) for path in old]
    moves += [(path, aside.parent / path.name) for path in reversed(new)]
    try:
        for source, target in moves:
            source.replace(target)
    except BaseException:
        if new[0].exists():
            _move_back(moves)
        raise


def _move_back(moves: Sequence[tuple[Path, Path]]) -> None:
    for source, target in reversed(moves):
        if target.exists() and not source.exists():
            target.replace(source)
