"""The bundled model and some texts for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import bitnet

HELD_OUT = Path(__file__).parent.parent / "data" / "heldout.jsonl"


@pytest.fixture(scope="session")
def model() -> Iterator[bitnet.Model]:
    with bitnet.load() as loaded:
        yield loaded


@pytest.fixture(scope="session")
def texts() -> list[str]:
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:8]]
