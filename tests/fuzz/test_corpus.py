"""Every file of the corpus, found bugs among them, through the functions that are fuzzed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_a_saved_input_is_read_or_refused(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
