"""Every file of the corpus, found bugs among them, through the functions that are fuzzed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bitnet.errors import BitNetError
from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())
MADE = [path for path in FILES if not path.name.startswith("found")]
# What the pieces of a model lack to be a whole one.
MISSING = re.compile(
    "no chat template|holds no tokenizer|name must end in|architecture 'other'|q_proj.*is missing"
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_a_saved_input_is_read_or_refused(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("path", MADE, ids=lambda path: str(path.relative_to(CORPUS)))
def test_what_is_well_formed_is_read_as_far_as_it_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a fuzzer that starts there would get no further than to the refusal."""

    @contextmanager
    def only_for_what_is_missing() -> Iterator[None]:
        try:
            yield
        except BitNetError as error:
            if not MISSING.search(str(error)):
                raise

    monkeypatch.setattr(targets, "refusals", only_for_what_is_missing)
    TARGETS[path.parent.name](path.read_bytes())
