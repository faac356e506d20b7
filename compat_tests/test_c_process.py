"""libbitnet in plain C processes that have no environment variables at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import build_cffi
from compat_tests.programs import Compile, Run


def test_wrong_arguments_are_refused_in_order_and_without_python(run_c: Run) -> None:
    run_c("arguments", environment={"BITNET_PYTHON_HOME": "/no/such/folder"})


def test_start_errors_and_end(run_c: Run, tmp_path: Path) -> None:
    no_model = tmp_path / "notes.gguf"
    no_model.write_text("Dear diary, this is not a model.\n")
    run_c("lifecycle", no_model)


def test_threads_come_and_go_with_errors_of_their_own(run_c: Run) -> None:
    run_c("threads")


def test_plugin_host_with_private_symbols(run_c: Run, library: Path) -> None:
    run_c("plugin", library, "/no/such/model")


def test_variables_meant_for_python_are_ignored(run_c: Run, tmp_path: Path) -> None:
    no_model = tmp_path / "empty.gguf"
    no_model.touch()
    misleading = {"PYTHONHOME": "/nowhere", "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x"}
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported through PYTHONPATH')")
    run_c("lifecycle", no_model, environment=misleading)


def test_named_home_without_standard_library_is_an_error(run_c: Run, tmp_path: Path) -> None:
    done = run_c("broken", environment={"BITNET_PYTHON_HOME": str(tmp_path)})
    messages = done.stdout.splitlines()
    assert len(messages) == 7
    for message in messages:
        assert f"looked in {tmp_path}/lib" in message
        assert "BITNET_PYTHON_HOME" in message


def test_damaged_standard_library_is_an_error(program: Compile, tmp_path: Path) -> None:
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
def test_package_near_the_library_comes_first(
    library: Path, program: Compile, tmp_path: Path, place: str
) -> None:
    """And when it cannot be imported, the host reads why and where it was looked for."""
    (tmp_path / "bitnet").mkdir()
    (tmp_path / "bitnet" / "__init__.py").touch()
    (tmp_path / "bitnet" / "embed.py").write_text("raise ImportError('half an installation')")
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    shutil.copy2(library, folder / build_cffi.library_names().soname)
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    done = subprocess.run(
        [program("broken")], env={variable: str(folder)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "half an installation; looked in" in done.stdout
    assert str(tmp_path) in done.stdout
