"""What the tests need to find a library, and to compile and run C programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "compat_tests" / "c"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
CC = os.environ.get("CC", "cc")
CXX = os.environ.get("CXX", "c++")
MODEL = Path(os.environ.get("BITNET_MODEL") or ROOT / "bitnet" / "data" / "stories.gguf")

LONG = bool(os.environ.get("BITNET_LONG"))
"""Run the proofs as long as README.md says; otherwise a short form of each."""

OURS = pytest.mark.skipif(
    "BITNET_LIBRARY" in os.environ,
    reason="about this project's own library; BITNET_LIBRARY names another",
)

Run = Callable[..., subprocess.CompletedProcess[str]]
Compile = Callable[..., Path]


def link_options(library: Path) -> list[str]:
    """Link with the library at this path, and find it there when the program runs."""
    return [str(library), f"-Wl,-rpath,{library.parent}"]


def compile_c(name: str, output: Path, *options: object) -> Path:
    """Compile c/NAME.c to `output`, a program, with options of the linker and the compiler."""
    system = ["-pthread", "-lm", *(["-ldl"] if sys.platform == "linux" else [])]
    command = [CC, "-std=gnu11", "-g", "-O1", *WARNINGS, f"-I{ROOT}", PROGRAMS / f"{name}.c"]
    compiled = subprocess.run(
        [*command, "-o", output, *map(str, options), *system], capture_output=True, text=True
    )
    assert compiled.returncode == 0, compiled.stderr
    return output


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")
