"""Times libbitnet beside the Python API: wrong arguments, and what a C program pays for a run.

    python benchmarks/c_abi.py [LIBRARY]

LIBRARY is build/libbitnet.so unless it is given. Times are medians, in a C program that this
compiles (CC names the compiler).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bitnet

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "Once upon a time"
TOKENS = (1, 16, 64)
ROUNDS = 51


def c_times(library: Path) -> dict[str, float]:
    """Nanoseconds of each call that c_abi.c makes, by name."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "c_abi")
        source = ROOT / "benchmarks" / "c_abi.c"
        compiler = [os.environ.get("CC", "cc"), "-std=c11", "-O2", f"-I{ROOT}"]
        link = [str(library), f"-Wl,-rpath,{library.parent}"]
        subprocess.run([*compiler, source, "-o", program, *link], check=True)
        command = [program, bitnet.bundled_model_path(), PROMPT, *map(str, TOKENS)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {name: float(nanoseconds) for name, nanoseconds in rows}


def python_time(model: bitnet.Model, tokens: int) -> float:
    """Nanoseconds of the same run through the Python API."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        model.generate(PROMPT, max_new_tokens=tokens, temperature=0.0)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path, nargs="?", default=ROOT / "build" / "libbitnet.so")
    library = parser.parse_args().library.resolve()
    if not library.is_file():
        sys.exit(f"c_abi: there is no {library}; run build_cffi.py first")
    times = c_times(library)
    print("wrong argument                    ns")
    for name in list(times)[: -len(TOKENS)]:
        print(f"{name:<28}{times[name]:>8.0f}")
    print("\nnew tokens     C, ms   Python, ms   added, ms")
    with bitnet.load() as model:
        for tokens in TOKENS:
            c, python = times[str(tokens)] / 1e6, python_time(model, tokens) / 1e6
            print(f"{tokens:>10}{c:>10.3f}{python:>13.3f}{c - python:>12.3f}")


if __name__ == "__main__":
    main()
