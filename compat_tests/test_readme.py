"""The table in cabi/README.md names every function of the ABI, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compat_tests.programs import OURS, ROOT
from compat_tests.test_symbols import NAMES

TABLE = (ROOT / "cabi" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`bitnet_[^|]+) \|.*\| ([^|]+) \|$", TABLE, re.MULTILINE)
CLAIMS = re.findall(
    r"(?:^|; )((?:embed )?\w+): ([\w, ]+)", "\n".join(held for _, held in ROWS), re.MULTILINE
)

pytestmark = OURS


def test_every_function_has_its_row() -> None:
    named = [name for functions, _ in ROWS for name in re.findall(r"`(bitnet_\w+)`", functions)]
    assert sorted(named) == sorted(NAMES)


def test_every_row_names_a_test() -> None:
    for functions, held in ROWS:
        assert re.match(r"(embed )?\w+: ", held), functions


@pytest.mark.parametrize(("place", "tests"), CLAIMS)
def test_the_tests_exist(place: str, tests: str) -> None:
    folder, _, file = place.rpartition(" ")
    path = (ROOT / "tests" / folder if folder else Path(__file__).parent) / f"test_{file}.py"
    source = path.read_text(encoding="utf-8")
    for test in tests.split(", "):
        assert test == "all of it" or f"def test_{test}(" in source, test
