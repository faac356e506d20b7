"""An installed libbitnet, once a session: moved after the install, its source tree deleted."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import build_cffi
import install_cffi
from compat_tests.programs import ROOT

SOURCES = ("bitnet", "cabi", "build_cffi.py", "install_cffi.py", "LICENSE", *install_cffi.HEADERS)
STAGED = Path("opt", "bitnet")


@functools.cache
def moved_prefix() -> Path:
    """The prefix, in a folder that is deleted when the tests end: it is too large to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="bitnet-install-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source, stage, prefix = folder / "source", folder / "stage", folder / "moved" / "here"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, source / "install_cffi.py", f"/{STAGED}", "--destdir", stage],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{stage / STAGED}\n"
    assert [path.relative_to(stage) for path in stage.glob("*/*")] == [STAGED]
    prefix.parent.mkdir()
    (stage / STAGED).rename(prefix)
    shutil.rmtree(source)
    shutil.rmtree(stage)
    return prefix


def library_file(prefix: Path) -> Path:
    return prefix / "lib" / build_cffi.library_names().file
