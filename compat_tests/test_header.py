"""bitnet.h by itself: it compiles as C99 and C++17, and says what ABI version 1 says."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from compat_tests.programs import CC, CXX, OURS, PROGRAMS, ROOT, WARNINGS, Run, needs

LANGUAGES = pytest.mark.parametrize(
    "compiler",
    [
        pytest.param((program, f"-x{language}", f"-std={standard}"), marks=needs(program))
        for language, standard, programs in (
            ("c", "c99", {CC, "gcc", "clang"}),
            ("c++", "c++17", {CXX, "g++", "clang++"}),
        )
        for program in sorted(programs)
    ],
    ids=lambda compiler: f"{compiler[0]} {compiler[2][5:]}",
)


def compile_text(compiler: tuple[str, ...], text: str, *options: str) -> None:
    command = [*compiler, *WARNINGS, *options, "-fsyntax-only", f"-I{ROOT}", f"-I{PROGRAMS}", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@LANGUAGES
def test_compiles_alone(compiler: tuple[str, ...]) -> None:
    compile_text(compiler, '#include "bitnet.h"\n#include "bitnet.h"\n', "-Wconversion")


@OURS
@LANGUAGES
def test_header_of_extensions_compiles_alone(compiler: tuple[str, ...]) -> None:
    text = '#include "bitnet_ext.h"\n#include "bitnet_ext.h"\n#include "bitnet.h"\n'
    compile_text(compiler, text, "-Wconversion")


@LANGUAGES
@pytest.mark.skipif(sys.maxsize < 2**32, reason="the layouts are those of 64-bit targets")
def test_structures_and_constants_are_laid_out_as_frozen(compiler: tuple[str, ...]) -> None:
    compile_text(compiler, '#include "layout.h"\n')


@LANGUAGES
def test_functions_have_the_frozen_types(compiler: tuple[str, ...]) -> None:
    unused = ("-Wno-unused-variable", "-Wno-unused-const-variable")
    compile_text(compiler, '#include "signatures.h"\n', *unused)


def test_initialisers_hold_the_documented_defaults(run_c: Run) -> None:
    run_c("defaults")


def test_cpp_programs_link(library: Path, tmp_path: Path) -> None:
    source, program = PROGRAMS / "defaults.c", tmp_path / "defaults"
    link = [f"-L{library.parent}", "-lbitnet", f"-Wl,-rpath,{library.parent}"]
    command = [CXX, "-std=c++17", *WARNINGS, f"-I{ROOT}", "-xc++", source, "-o", program, *link]
    subprocess.run(command, check=True)
    subprocess.run([program], check=True, env={})


def test_every_function_is_described() -> None:
    lines = Path(ROOT, "bitnet.h").read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if line.startswith("BITNET_API") and not before.endswith("*/")
    ]
    assert bare == []
