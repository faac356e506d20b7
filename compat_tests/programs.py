"""What the tests need to compile and run C programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "compat_tests" / "c"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
CC = os.environ.get("CC", "cc")
CXX = os.environ.get("CXX", "c++")

Run = Callable[..., subprocess.CompletedProcess[str]]
Compile = Callable[[str], Path]
