"""The table in cabi/README.md names every function of the ABI, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compat_tests.programs import OURS
from compat_tests.test_symbols import NAMES

HERE = Path(__file__).parent
TABLE = (HERE.parent / "cabi" / "README.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(bitnet_\w+)` \|.*\| ([^|]+) \|$", TABLE, re.MULTILINE))

pytestmark = OURS


def test_every_function_has_its_row() -> None:
    assert sorted(ROWS) == sorted(NAMES)


@pytest.mark.parametrize("function", sorted(ROWS))
def test_the_tests_of_a_row_exist(function: str) -> None:
    tests = re.findall(r"`(test_\w+\.py)::(test_\w+)`", ROWS[function])
    assert tests
    for file, name in tests:
        assert f"\ndef {name}(" in (HERE / file).read_text(encoding="utf-8"), name
