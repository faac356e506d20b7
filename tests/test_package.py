"""What the package says of itself is so everywhere it is said."""

from __future__ import annotations

import re
from pathlib import Path

import bitnet
from bitnet.cli import doctor

ROOT = Path(__file__).parent.parent


def test_the_version_is_that_of_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{bitnet.__version__}"\n' in text


def test_the_abi_version_is_that_of_the_header() -> None:
    text = (ROOT / "bitnet.h").read_text(encoding="utf-8")
    assert re.search(rf"^#define BITNET_ABI_VERSION {doctor.ABI_VERSION}$", text, re.MULTILINE)


def test_public_names_are_listed_and_sorted() -> None:
    public = [name for name in vars(bitnet) if not name.startswith("_")]
    modules = {name for name in public if isinstance(vars(bitnet)[name], type(re))}
    assert sorted({*public, "__version__"} - modules) == sorted(bitnet.__all__)
    assert bitnet.__all__ == sorted(bitnet.__all__)
