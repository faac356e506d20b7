"""Our library in plain C processes that have no environment variables at all."""

from __future__ import annotations

from pathlib import Path

from compat_tests.programs import OURS, Run
from tests.tiny_model import CONTEXT, TEXT

pytestmark = OURS


def test_wrong_arguments_are_refused_in_order_and_without_python(run_c: Run) -> None:
    run_c("arguments", environment={"BITNET_PYTHON_HOME": "/no/such/folder"})


def test_start_errors_and_end(run_c: Run, tmp_path: Path) -> None:
    no_model = tmp_path / "notes.gguf"
    no_model.write_text("Dear diary, this is not a model.\n")
    run_c("lifecycle", no_model)


def test_threads_come_and_go_with_errors_of_their_own(run_c: Run) -> None:
    run_c("threads")


def test_variables_meant_for_python_are_ignored(run_c: Run, tmp_path: Path) -> None:
    no_model = tmp_path / "empty.gguf"
    no_model.touch()
    misleading = {"PYTHONHOME": "/nowhere", "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x"}
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported through PYTHONPATH')")
    run_c("lifecycle", no_model, environment=misleading)


def test_texts_limits_and_ids(run_c: Run, tiny_model: Path) -> None:
    run_c("inference", tiny_model, TEXT, CONTEXT)


def test_one_model_used_and_freed_by_many_threads(run_c: Run, tiny_model: Path) -> None:
    run_c("concurrent", tiny_model, TEXT)
