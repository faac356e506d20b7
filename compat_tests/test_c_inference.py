"""Real models run from plain C processes without environment variables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compat_tests.programs import CC, ROOT, Run
from tests.tiny_model import CONTEXT, TEXT

STORY_TOKENS = 80  # as in examples/c/hello.c


def test_texts_limits_and_ids(run_c: Run, tiny_model: Path) -> None:
    run_c("inference", tiny_model, TEXT, CONTEXT)


def test_one_model_used_and_freed_by_many_threads(run_c: Run, tiny_model: Path) -> None:
    run_c("concurrent", tiny_model, TEXT)


@pytest.fixture(scope="module")
def hello(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/c/hello.c, built by its own Makefile, in a copy of the folder."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    folder = tmp_path_factory.mktemp("example")
    for name in ("hello.c", "Makefile"):
        shutil.copy2(ROOT / "examples" / "c" / name, folder)
    settings = [f"ROOT={ROOT}", f"BUILD={library.parent}", f"PYTHON={sys.executable}", f"CC={CC}"]
    done = subprocess.run(
        ["make", "-C", folder, *settings, "hello"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "hello"


def run_hello(hello: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Without any environment variable."""
    return subprocess.run(
        [hello, *map(str, arguments)], env={}, capture_output=True, text=True, encoding="utf-8"
    )


def test_example_tells_the_story_of_the_command_line(hello: Path) -> None:
    pytest.importorskip("typer", reason="the command line needs the extra `cli`")
    command = [sys.executable, "-X", "utf8", "-c", "from bitnet.cli import main; main()"]
    options = ["run", "-p", "Once upon a time", "-n", "80", "--temperature", "0"]
    told = subprocess.run([*command, *options], capture_output=True, text=True, encoding="utf-8")
    assert told.returncode == 0, told.stderr
    done = run_hello(hello)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 20
    assert done.stdout == told.stdout


def test_example_runs_the_model_it_is_given(hello: Path, tiny_model: Path) -> None:
    done = run_hello(hello, tiny_model)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{TEXT}\n"


def test_example_says_what_is_wrong(hello: Path) -> None:
    done = run_hello(hello, os.path.join("no", "such", "model"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Model not found: Model file not found: no/such/model" in done.stderr
