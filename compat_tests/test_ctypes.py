"""libbitnet loaded into a process that already runs Python."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.tiny_model import TEXT


@pytest.fixture(scope="module")
def lib(library: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(library))
    lib.bitnet_version.restype = ctypes.c_char_p
    lib.bitnet_get_last_error.restype = ctypes.c_char_p
    return lib


def last_error(lib: ctypes.CDLL) -> str | None:
    text = lib.bitnet_get_last_error()
    return None if text is None else text.decode()


def test_uses_the_running_interpreter(lib: ctypes.CDLL) -> None:
    assert lib.bitnet_init() == 0
    assert last_error(lib) is None
    assert "_libbitnet" in sys.modules


def test_version_is_that_of_the_project(lib: ctypes.CDLL) -> None:
    assert lib.bitnet_version().decode()[0].isdecimal()


def test_errors_stay_in_their_thread(lib: ctypes.CDLL) -> None:
    seen: list[str | None] = []

    def fail() -> None:
        lib.bitnet_model_load(b"/not/here")
        seen.append(last_error(lib))

    assert lib.bitnet_model_load(None) == -1
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert seen == ["Model not found: Model file not found: /not/here"]
    assert last_error(lib) == "Invalid argument: path cannot be null"


def test_long_error_is_cut_at_a_whole_character(lib: ctypes.CDLL) -> None:
    for start in ("", "x", "xx", "xxx"):
        path = start + "🙂" * 2000
        assert lib.bitnet_model_load(path.encode()) == -2
        text = last_error(lib)
        assert text is not None
        assert 4090 <= len(text.encode()) <= 4095
        assert f"Model not found: Model file not found: {path}".startswith(text)


def test_loads_and_runs_a_model(lib: ctypes.CDLL, tiny_model: Path) -> None:
    output = ctypes.create_string_buffer(100)
    model = lib.bitnet_model_load(str(tiny_model).encode())
    assert model >= 0, last_error(lib)
    assert lib.bitnet_inference(model, b"Say", output, ctypes.c_size_t(100)) == len(TEXT.encode())
    assert output.value.decode() == TEXT
    assert lib.bitnet_model_free(model) == 0


def test_python_that_does_not_know_the_package_still_finds_it(library: Path) -> None:
    """The interpreter under the virtual environment has no bitnet; the library brings it along."""
    code = (
        "import ctypes, importlib.util, sys\n"
        "assert importlib.util.find_spec('bitnet') is None\n"
        "lib = ctypes.CDLL(sys.argv[1])\n"
        "lib.bitnet_get_last_error.restype = ctypes.c_char_p\n"
        "assert lib.bitnet_init() == 0, lib.bitnet_get_last_error()\n"
    )
    if sys.prefix == sys.base_prefix:
        pytest.skip("not in a virtual environment")
    base = getattr(sys, "_base_executable", None)
    done = subprocess.run([base, "-I", "-c", code, library], capture_output=True, text=True)
    if "find_spec" in done.stderr:
        pytest.skip("the base interpreter has bitnet itself")
    assert (done.returncode, done.stderr) == (0, "")
