"""Sixteen threads mix all calls: nothing crashes, hangs or answers differently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compat_tests.programs import CC, LONG, OURS, ROOT, Run, compile_c, link_options

SECONDS = 120 if LONG else 8
SANITIZED_SECONDS = 120 if LONG else 5
SANITIZERS = {
    "memory": ("address,undefined", "ASAN_OPTIONS", "detect_leaks=0"),  # valgrind finds them
    "threads": ("thread", "TSAN_OPTIONS", "halt_on_error=0"),
}


def check_counts(output: str) -> None:
    """Everything that the host can do was done."""
    counts = dict(line.rsplit(": ", 1) for line in output.splitlines())
    assert len(counts) > 10
    assert [name for name, count in counts.items() if int(count) == 0] == []


def accepts(option: str) -> bool:
    """Can the C compiler link a program with this option?"""
    command = [CC, option, "-xc", "-", "-o", os.devnull]
    return subprocess.run(command, input=b"int main(void) { return 0; }").returncode == 0


def test_threads_mix_all_calls(run_c: Run, story_model: Path) -> None:
    check_counts(run_c("stress", story_model, SECONDS).stdout)


@OURS
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are set up for Linux")
@pytest.mark.parametrize("kind", SANITIZERS)
def test_threads_mix_all_calls_under_a_sanitizer(
    story_model: Path, tmp_path: Path, kind: str
) -> None:
    flags, variable, options = SANITIZERS[kind]
    if not accepts(f"-fsanitize={flags}"):
        pytest.skip(f"the compiler has no -fsanitize={flags}")
    environment = {
        **os.environ,
        "CFLAGS": f"-fsanitize={flags} -fno-omit-frame-pointer -g -O1",
        "LDFLAGS": f"-fsanitize={flags}",
    }
    built = subprocess.run(
        [sys.executable, ROOT / "build_cffi.py", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    library = Path(built.stdout.strip().splitlines()[-1])
    host = compile_c("stress", tmp_path / "stress", f"-fsanitize={flags}", *link_options(library))
    done = subprocess.run(
        [host, story_model, str(SANITIZED_SECONDS)],
        env={variable: options},
        capture_output=True,
        text=True,
        timeout=SANITIZED_SECONDS + 120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    check_counts(done.stdout)
