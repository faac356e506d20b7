"""Real models run from plain C processes without environment variables."""

from __future__ import annotations

from pathlib import Path

from compat_tests.programs import Run
from tests.tiny_model import CONTEXT, TEXT


def test_texts_limits_and_ids(run_c: Run, tiny_model: Path) -> None:
    run_c("inference", tiny_model, TEXT, CONTEXT)


def test_one_model_used_and_freed_by_many_threads(run_c: Run, tiny_model: Path) -> None:
    run_c("concurrent", tiny_model, TEXT)
