"""`bitnet doctor`: tells what it finds, and fails when something is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bitnet
from bitnet.codegen import target_names
from tests.cli.conftest import Run
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def some_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands in for the bundled model."""
    path = write_tiny_model(tmp_path / "stories.gguf")
    monkeypatch.setattr("bitnet.loading.bundled_model_path", lambda: path)
    monkeypatch.setattr("bitnet.bundled_model_path", lambda: path)
    return path


def test_a_healthy_machine(run: Run, some_model: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.stdout
    assert result.stdout.startswith(f"bitnet     {bitnet.__version__}, Python ")
    assert str(some_model) in result.stdout
    for name in target_names():
        assert f"{name}: " in result.stdout


@pytest.mark.usefixtures("some_model")
def test_every_problem_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITNET_TARGET", "z80")
    monkeypatch.setenv("BITNET_THREADS", "none")
    result = run("doctor")
    assert result.exit_code == 1
    assert "PROBLEM: unknown target 'z80'" in result.stdout
    assert "PROBLEM: BITNET_THREADS must be a positive number, not 'none'" in result.stdout
    assert "settings   PROBLEM: BITNET_THREADS: performance.threads: " in result.stdout


def test_json(run: Run, some_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(run("doctor", "--json").stdout)
    assert report.pop("works")
    assert str(some_model) in report["model"]["lines"][0]
    assert all(part["works"] and part["lines"] for part in report.values())
    monkeypatch.setenv("BITNET_TARGET", "z80")
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["works"], report["target"]["works"]) == (1, False, False)
    assert report["cpu"]["works"]


def test_a_damaged_bundled_model_is_told(run: Run, some_model: Path) -> None:
    some_model.write_bytes(some_model.read_bytes()[:100])
    result = run("doctor")
    assert result.exit_code == 1
    assert f"model      PROBLEM: {some_model}: " in result.stdout


def test_the_settings_that_decide_are_named(
    run: Run, some_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITNET_TARGET", "scalar")
    monkeypatch.setenv("BITNET_THREADS", "1")
    result = run("doctor")
    assert result.exit_code == 0, some_model
    assert "scalar: chosen, by BITNET_TARGET" in result.stdout
    assert "threads    1, by BITNET_THREADS" in result.stdout
    assert "performance.threads, by BITNET_THREADS" in result.stdout
