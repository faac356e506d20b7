"""What can go wrong around our library: every fault is an error code and a text, and the process
lives on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import build_cffi
from compat_tests.programs import LONG, OURS, Compile, Run

pytestmark = OURS


SONAME = build_cffi.library_names().soname


def run_elsewhere(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """With the library in this folder instead of the one it was linked with."""
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    return subprocess.run(
        [program], env={variable: str(folder)}, capture_output=True, text=True, timeout=60
    )


def test_named_home_without_standard_library(run_c: Run, tmp_path: Path) -> None:
    done = run_c("broken", environment={"BITNET_PYTHON_HOME": str(tmp_path)})
    messages = done.stdout.splitlines()
    assert len(messages) == 7
    for message in messages:
        assert f"looked in {tmp_path}/lib" in message
        assert "BITNET_PYTHON_HOME" in message


def test_damaged_standard_library(program: Compile, tmp_path: Path) -> None:
    """Python starts and gives up; on its way it may write to standard error."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    hollow = tmp_path / sys.platlibdir / version / "encodings" / "__init__.py"
    hollow.parent.mkdir(parents=True)
    hollow.touch()
    done = subprocess.run(
        [program("broken")],
        env={"BITNET_PYTHON_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == 7
    assert f"; looked in {tmp_path}" in done.stdout


@pytest.mark.parametrize("place", [".", "build", "bitnet"])
def test_half_an_installation_near_the_library(
    library: Path, program: Compile, tmp_path: Path, place: str
) -> None:
    """It comes first; when it cannot be imported, the host reads why and where was looked."""
    (tmp_path / "bitnet").mkdir()
    (tmp_path / "bitnet" / "__init__.py").touch()
    (tmp_path / "bitnet" / "embed.py").write_text("raise ImportError('half an installation')")
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    shutil.copy2(library, folder / SONAME)
    done = run_elsewhere(program("broken"), folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "half an installation; looked in" in done.stdout
    assert str(tmp_path) in done.stdout


def test_package_of_another_version(library: Path, program: Compile, tmp_path: Path) -> None:
    (tmp_path / "bitnet").mkdir()
    (tmp_path / "bitnet" / "__init__.py").write_text("__version__ = '0.0.9'")
    (tmp_path / "bitnet" / "embed.py").touch()
    shutil.copy2(library, tmp_path / SONAME)
    done = run_elsewhere(program("broken"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"{tmp_path}/bitnet/__init__.py is version 0.0.9, the library ") == 7


def test_packages_that_are_gone(program: Compile, tmp_path: Path) -> None:
    """A library that was made for a prefix, and has been taken out of it."""
    build_cffi.build(tmp_path, installed=True)
    done = run_elsewhere(program("broken"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("ImportError: No module named '_cffi_backend'; looked in ") == 7


def test_cache_that_cannot_be_written(run_c: Run, story_model: Path) -> None:
    run_c("cycles", story_model, 1, 2, environment={"BITNET_CACHE_DIR": "/dev/null/cache"})


def test_damaged_cache(run_c: Run, story_model: Path, tmp_path: Path) -> None:
    environment = {"BITNET_CACHE_DIR": str(tmp_path)}
    run_c("cycles", story_model, 1, 2, environment=environment)
    for entry in tmp_path.iterdir():
        entry.write_bytes(entry.read_bytes()[:-40] + b"damage")
    run_c("cycles", story_model, 1, 2, environment=environment)


def test_model_file_that_is_deleted_while_it_is_loaded(
    run_c: Run, story_model: Path, tmp_path: Path
) -> None:
    run_c("deleted", shutil.copy2(story_model, tmp_path / "model.gguf"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
@pytest.mark.parametrize("step", [20_011] if LONG else [250_007])
def test_memory_that_runs_out(run_c: Run, story_model: Path, step: int) -> None:
    """At any point, after one good run."""
    done = run_c("starved", story_model, 12_000_000, step)
    *surprises, summary = done.stdout.splitlines()
    assert surprises == []
    successes, failures, _ = (int(part.split(":")[1]) for part in summary.split(","))
    assert successes > 3
    assert failures > 3
