"""The library exports the functions of ABI version 1 and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from compat_tests.programs import OURS, PROGRAMS, ROOT, needs

NAMES = set(
    re.findall(r"^SIGNATURE\([^,]+, (\w+),", (PROGRAMS / "signatures.h").read_text(), re.MULTILINE)
)


def declared(header: str) -> set[str]:
    text = (ROOT / header).read_text(encoding="utf-8")
    return set(re.findall(r"^BITNET_API[^(;]*\b(bitnet_\w+)\(", text, re.MULTILINE))


def exported(library: Path) -> set[str]:
    options = ["-gU"] if sys.platform == "darwin" else ["-D", "--defined-only"]
    listing = subprocess.run(["nm", *options, library], capture_output=True, text=True, check=True)
    return {line.split()[-1].removeprefix("_") for line in listing.stdout.splitlines()}


def test_the_frozen_list_is_complete() -> None:
    assert len(NAMES) == 29


def test_header_declares_them() -> None:
    assert declared("bitnet.h") == NAMES


@needs("nm")
def test_library_exports_them(library: Path) -> None:
    """Others may export more."""
    assert exported(library) >= NAMES


@OURS
@needs("nm")
def test_library_exports_them_and_the_extensions_and_nothing_else(library: Path) -> None:
    extensions = declared("bitnet_ext.h")
    assert {name[:11] for name in extensions} == {"bitnet_ext_"}
    assert exported(library) == NAMES | extensions


@OURS
def test_older_library_name_is_the_same_library(library: Path) -> None:
    alias = library.with_name(library.name.replace("bitnet", "bitnet_ffi"))
    assert alias.samefile(library)
