"""The library under test: BITNET_LIBRARY, or else ours, built once a session.

BITNET_LIBRARY   path of the libbitnet to test; without it this project's is built
BITNET_MODEL     path of the model to test with; without it the bundled one
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from compat_tests.binding import Library
from compat_tests.programs import CC, MODEL, ROOT, Compile, Run, compile_c, link_options


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform == "win32" or shutil.which(CC) is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs a Unix C compiler"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the libbitnet under test."""
    if named := os.environ.get("BITNET_LIBRARY"):
        return Path(named).absolute()
    folder = tmp_path_factory.mktemp("libbitnet")
    built = subprocess.run(
        [sys.executable, ROOT / "build_cffi.py", folder], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def bn(library: Path) -> Library:
    """The library, loaded into this process."""
    return Library(library)


@pytest.fixture(scope="session")
def story_model() -> Path:
    """A model that is not tiny: BITNET_MODEL or the bundled one."""
    return MODEL


@pytest.fixture
def model(bn: Library, story_model: Path) -> Iterator[int]:
    """The id of a loaded story model."""
    model_id = bn.load(story_model)
    yield model_id
    bn.bitnet_model_free(model_id)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file that answers every prompt with the same text of wide characters.

    Written by another process, so that testing a library needs nothing of ours in this one.
    """
    path = tmp_path_factory.mktemp("models") / "modèle 世界.gguf"  # names need not be ASCII
    code = "import sys, pathlib; from tests import tiny_model as t; "
    code += "t.write_tiny_model(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-X", "utf8", "-c", code, path], cwd=ROOT, check=True)
    return path


@pytest.fixture
def wide(bn: Library, tiny_model: Path) -> Iterator[int]:
    """The id of a loaded tiny model."""
    model_id = bn.load(tiny_model)
    yield model_id
    bn.bitnet_model_free(model_id)


@pytest.fixture(scope="session")
def program(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles c/NAME.c, linked with the library, once."""
    folder = tmp_path_factory.mktemp("programs")

    def compiled(name: str) -> Path:
        output = folder / name
        return output if output.exists() else compile_c(name, output, *link_options(library))

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
            timeout=300,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done

    return run
