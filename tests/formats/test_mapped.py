"""Mapping files."""

from __future__ import annotations

import errno
import mmap
from pathlib import Path

import pytest

from bitnet.errors import ModelMemoryError
from bitnet.formats.mapped import MappedFile


def test_file_for_which_there_is_no_room_is_not_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(ModelMemoryError, match=f"cannot map {path}: Cannot allocate memory"):
        MappedFile(path)
