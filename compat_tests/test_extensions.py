"""bitnet_ext.h in plain C processes; tests/embed has the details."""

from __future__ import annotations

from pathlib import Path

from compat_tests.programs import OURS, Run
from tests.tiny_model import TEXT, WORDS

pytestmark = OURS


def test_wrong_arguments_are_refused_in_order_and_without_python(run_c: Run) -> None:
    run_c("extension_arguments", environment={"BITNET_PYTHON_HOME": "/no/such/folder"})


def test_tokens_results_streams_cancellation_and_numbers(run_c: Run, tiny_model: Path) -> None:
    run_c("extensions", tiny_model, TEXT, len(WORDS))
