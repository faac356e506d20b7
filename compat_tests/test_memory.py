"""Nothing leaks and nothing is touched that should not be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compat_tests.programs import LONG, OURS, ROOT, Compile, Run, needs

CYCLES = 200 if LONG else 2
INFERENCES = 2000 if LONG else 300
GROWTH = 1 << 20
SUPPRESSIONS = ROOT / "compat_tests" / "valgrind.supp"


def test_memory_stays_flat_over_inferences(run_c: Run, story_model: Path) -> None:
    run_c("steady", story_model, INFERENCES, GROWTH)


def test_memory_stays_flat_over_loads(run_c: Run, tiny_model: Path) -> None:
    run_c("reload", tiny_model, 300 if LONG else 60, GROWTH)


@OURS
@needs("valgrind")
@pytest.mark.skipif(sys.platform != "linux", reason="the suppressions are those of Linux")
def test_valgrind_finds_no_leak_and_no_fault(
    program: Compile, tiny_model: Path, tmp_path: Path
) -> None:
    """The model is compiled beforehand, for a CPU that valgrind knows, and tuned under it."""
    known_cpu = {
        "BITNET_TARGET": "avx2",
        "BITNET_THREADS": "1",
        "BITNET_CACHE_DIR": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    once = [program("cycles"), tiny_model, "1", "2"]
    for prefix in ([], ["valgrind", "--quiet", "--tool=none"]):
        subprocess.run([*prefix, *once], env=known_cpu, check=True, timeout=120)
    valgrind = ["valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite"]
    valgrind += ["--errors-for-leak-kinds=definite", "--error-exitcode=9", "--num-callers=40"]
    valgrind += [f"--suppressions={SUPPRESSIONS}"]
    done = subprocess.run(
        [*valgrind, program("cycles"), tiny_model, str(CYCLES), "2"],
        env=known_cpu,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
