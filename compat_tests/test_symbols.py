"""The library exports the functions of ABI version 1 and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compat_tests.programs import PROGRAMS, ROOT

NAMES = set(
    re.findall(r"^SIGNATURE\([^,]+, (\w+),", (PROGRAMS / "signatures.h").read_text(), re.MULTILINE)
)


def test_the_frozen_list_is_complete() -> None:
    assert len(NAMES) == 29


def test_header_declares_them() -> None:
    header = (ROOT / "bitnet.h").read_text(encoding="utf-8")
    assert set(re.findall(r"^BITNET_API[^(;]*\b(bitnet_\w+)\(", header, re.MULTILINE)) == NAMES


def extension_names() -> set[str]:
    """The functions of bitnet_ext.h, of which other implementations have none."""
    header = (ROOT / "bitnet_ext.h").read_text(encoding="utf-8")
    return set(re.findall(r"^BITNET_API[^(;]*\b(bitnet_ext_\w+)\(", header, re.MULTILINE))


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_library_exports_them_and_nothing_else(library: Path) -> None:
    options = ["-gU"] if sys.platform == "darwin" else ["-D", "--defined-only"]
    listing = subprocess.run(["nm", *options, library], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert {name.removeprefix("_") for name in names} == NAMES | extension_names()


def test_older_library_name_is_the_same_library(library: Path) -> None:
    alias = library.with_name(library.name.replace("bitnet", "bitnet_ffi"))
    assert alias.samefile(library)
