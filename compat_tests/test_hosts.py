"""Kinds of programs that use the library, each a process without environment variables."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from compat_tests.programs import OURS, ROOT, Run, compile_c, link_options

LOADING = "import ctypes, sys; lib = ctypes.CDLL(sys.argv[1]); path = sys.argv[2].encode(); "
RUNNING = (
    "model = lib.bitnet_model_load(path); out = ctypes.create_string_buffer(64); "
    "assert lib.bitnet_inference(model, b'Once', out, ctypes.c_size_t(64)) > 0; "
    "assert lib.bitnet_model_free(model) == 0; "
)


def run_quietly(command: list[object]) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        env={},
        cwd=ROOT,  # a Python with another bitnet installed takes the one here
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_linked_at_build_time(run_c: Run, story_model: Path) -> None:
    run_c("cycles", story_model, 2, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="options of the GNU linker")
def test_linked_with_all_symbols_bound_at_the_start(
    library: Path, story_model: Path, tmp_path: Path
) -> None:
    """And with no symbol left undefined."""
    hardened = ["-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,defs", "-pie", "-fPIE"]
    host = compile_c("cycles", tmp_path / "now", *hardened, *link_options(library))
    run_quietly([host, story_model, 1, 2])


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("binding", ["now", "lazy"])
def test_opened_as_a_plugin(
    run_c: Run, library: Path, story_model: Path, scope: str, binding: str
) -> None:
    run_c("plugin", library, story_model, scope, binding)


def test_opened_by_python(library: Path, story_model: Path) -> None:
    run_quietly([sys.executable, "-c", LOADING + RUNNING, library, story_model])


def test_opened_by_two_names_in_one_process(library: Path, story_model: Path) -> None:
    alias = library.with_name(library.name.replace("bitnet", "bitnet_ffi"))
    if not alias.exists():
        pytest.skip("the library has no alias")
    code = "other = ctypes.CDLL(sys.argv[3]); assert other.bitnet_init() == 0; "
    run_quietly([sys.executable, "-c", LOADING + code + RUNNING, library, story_model, alias])


def test_forks_before_its_first_call(run_c: Run, story_model: Path) -> None:
    run_c("fork", "before", story_model)


@OURS
def test_forks_after_its_first_call_and_the_child_is_told(run_c: Run, story_model: Path) -> None:
    run_c("fork", "after", story_model)


@OURS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_python_that_forks_is_told_too(library: Path, story_model: Path) -> None:
    code = (
        "import os\n"
        "lib.bitnet_get_last_error.restype = ctypes.c_char_p\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    ok = lib.bitnet_model_load(path) == -10\n"
        "    os._exit(0 if ok and b'forked' in lib.bitnet_get_last_error() else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    code = f"{LOADING}{RUNNING}\n{code}{RUNNING}"
    run_quietly([sys.executable, "-W", "ignore", "-c", code, library, story_model])


@OURS
def test_has_a_python_of_its_own(library: Path, story_model: Path, tmp_path: Path) -> None:
    folder = sysconfig.get_config_var("LIBDIR")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = [f"-I{sysconfig.get_path('include')}", f"-L{folder}", f"-lpython{version}"]
    options += [f"-Wl,-rpath,{folder}"]
    host = compile_c("embedded", tmp_path / "embedded", *options, *link_options(library))
    run_quietly([host, story_model])


def test_keeps_its_signals(run_c: Run, story_model: Path) -> None:
    """Handlers, the signals that are blocked, and Ctrl-C in the middle of a run."""
    run_c("signals", story_model)


@OURS
def test_home_that_cannot_be_written_costs_time_only(run_c: Run, story_model: Path) -> None:
    """The compiled program is not kept; the log says so, and standard error does not."""
    done = run_c("log", story_model, environment={"BITNET_CACHE_DIR": "/dev/null/cache"})
    assert "cannot keep /dev/null/cache/" in done.stdout


def test_plugin_that_is_unloaded_and_loaded_again(run_c: Run, library: Path) -> None:
    run_c("unload", library, "/no/such/model")
