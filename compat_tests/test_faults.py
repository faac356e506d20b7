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


def run_elsewhere(program: Path, library: Path) -> subprocess.CompletedProcess[str]:
    """With this copy of the library instead of the one it was linked with."""
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    return subprocess.run(
        [program], env={variable: str(library.parent)}, capture_output=True, text=True, timeout=60
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
    shutil.copy2(library, folder / build_cffi.library_names().soname)
    done = run_elsewhere(program("broken"), folder / library.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "half an installation; looked in" in done.stdout
    assert str(tmp_path) in done.stdout


def test_packages_that_are_gone(
    program: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library was built beside packages that have been removed since."""
    gone = tmp_path / "gone"
    monkeypatch.setattr(build_cffi, "site_folders", lambda: [str(gone / "site-packages")])
    config = build_cffi.build_config().replace(str(build_cffi.ROOT), str(gone))
    monkeypatch.setattr(build_cffi, "build_config", lambda: config)
    library = build_cffi.build(tmp_path / "library")
    done = run_elsewhere(program("broken"), library)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("ImportError: No module named") == 7
    assert str(gone / "site-packages") in done.stdout


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
