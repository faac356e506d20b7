"""Fuzz every target for a while: `python -m tests.fuzz.run [SECONDS] [TARGET ...]`.

New inputs are kept below build/fuzz, and looked at again by the next run; `corpus` stays as it is.
An input that is a bug is printed and kept there too; put it into `corpus` with its repair.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent
CORPUS = Path(__file__).parent / "corpus"
WORDS = Path(__file__).parent / "words"
BUILD = ROOT / "build" / "fuzz"
# Of the megabytes, Python and the libraries take about 150.
LIMITS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=65536")
SHOWN_BYTES = 4096
GRACE_SECONDS = 60
_PROGRESS = re.compile(r"^#(\d+)\t.*?cov: (\d+).*$\n?", re.MULTILINE)
_NOISE = re.compile(r"^(#\d+\t|INFO: |WARNING: Failed to find).*$\n?", re.MULTILINE)


def fuzz(seconds: int, name: str) -> bool:
    """Fuzz a target; print and return whether nothing was found."""
    found, bugs = BUILD / name, BUILD / f"{name}-bugs"
    for path in (found, bugs):
        path.mkdir(parents=True, exist_ok=True)
    before = set(bugs.iterdir())
    words = WORDS / f"{name}.dict"
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={bugs}/"]
    options += [f"-dict={words}"] if words.exists() else []
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", name, *LIMITS, *options, found, CORPUS / name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + GRACE_SECONDS,
    )
    progress = _PROGRESS.findall(done.stderr)
    runs, coverage = progress[-1] if progress else (0, 0)
    print(f"{name}: {runs} runs, coverage {coverage}, exit code {done.returncode}", flush=True)
    if done.returncode == 0 and int(runs) > 0:
        return True
    print(done.stdout[-4000:], _NOISE.sub("", done.stderr)[-4000:], sep="\n")
    for path in sorted(set(bugs.iterdir()) - before):
        print(f"{path}: {base64.b64encode(path.read_bytes()[:SHOWN_BYTES]).decode()}")
    return False


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    names = sys.argv[2:] or list(TARGETS)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(partial(fuzz, seconds), names))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
