"""Tiny models, and two ways to run the command: in this process and in its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bitnet.cli.app import app
from tests.tiny_model import write_tiny_model

PROGRAM = (sys.executable, "-c", "from bitnet.cli import main; main()")

Run = Callable[..., Result]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says TEXT; in a chat, the second answer lacks the first word and the third two words."""
    return write_tiny_model(
        tmp_path_factory.mktemp("models") / "tiny.gguf",
        chat_template="{{ messages | length }}",
        first_words={"3": 1, "5": 2},
    )


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says TEXT again and again."""
    return write_tiny_model(
        tmp_path_factory.mktemp("models") / "endless.gguf",
        endless=True,
        context=2**20,
        chat_template="{{ messages | length }}",
    )


@pytest.fixture
def run() -> Run:
    """Runs `bitnet ARGUMENTS...` here; standard input is `input`, which is no terminal."""

    def run_here(*arguments: object, input: str | bytes = "") -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=input)

    return run_here


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `bitnet ARGUMENTS...` as a process of its own, with pipes; ends it after the test."""
    with ExitStack() as processes:

        def start_process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
            command = [*PROGRAM, *map(str, arguments)]
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = subprocess.Popen(command, **{**pipes, "encoding": "utf-8", **options})
            processes.enter_context(process)  # closes the pipes and waits
            processes.callback(process.kill)
            return process

        yield start_process
