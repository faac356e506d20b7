"""Builds libbitnet once a session, and compiles and runs C programs against it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from compat_tests.programs import CC, PROGRAMS, ROOT, WARNINGS, Compile, Run
from tests.tiny_model import write_tiny_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform == "win32" or shutil.which(CC) is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs a Unix C compiler"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a freshly built libbitnet."""
    folder = tmp_path_factory.mktemp("libbitnet")
    built = subprocess.run(
        [sys.executable, ROOT / "build_cffi.py", folder], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def program(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles c/NAME.c, linked with the library, once."""
    folder = tmp_path_factory.mktemp("programs")

    def compiled(name: str) -> Path:
        output = folder / name
        if not output.exists():
            link = [f"-L{library.parent}", "-lbitnet", f"-Wl,-rpath,{library.parent}"]
            source = PROGRAMS / f"{name}.c"
            threads_and_dl = ["-pthread", *(["-ldl"] if sys.platform == "linux" else [])]
            command = [CC, "-std=gnu11", *WARNINGS, f"-I{ROOT}", source, "-o", output]
            subprocess.run([*command, *link, *threads_and_dl], check=True)
        return output

    return compiled


@pytest.fixture(scope="session")
def run_c(program: Compile) -> Run:
    """Runs c/NAME.c with no environment variables but those given; it must succeed silently."""

    def run(
        name: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program(name), *map(str, arguments)],
            env=dict(environment or {}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file that answers every prompt with tiny_model.TEXT."""
    path = tmp_path_factory.mktemp("models") / "modèle 世界.gguf"  # names need not be ASCII
    write_tiny_model(path)
    return path
