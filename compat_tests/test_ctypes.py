"""Our library in a process that already runs Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compat_tests import binding as b
from compat_tests.binding import Library
from compat_tests.programs import OURS

pytestmark = OURS


def test_uses_the_running_interpreter(bn: Library) -> None:
    assert bn.bitnet_init() == 0
    assert "_libbitnet" in sys.modules


def test_long_error_is_cut_at_a_whole_character(bn: Library) -> None:
    for start in ("", "x", "xx", "xxx"):
        path = start + "🙂" * 2000
        assert bn.bitnet_model_load(path.encode()) == b.MODEL_NOT_FOUND
        text = bn.last_error()
        assert text is not None
        assert 4090 <= len(text.encode()) <= 4095
        assert f"Model not found: Model file not found: {path}".startswith(text)


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
