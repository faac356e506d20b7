"""build_cffi.py: what it reads from the headers, and what it says when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import build_cffi
from compat_tests.programs import CC, OURS, ROOT

pytestmark = OURS


def run_build(folder: Path, compiler: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "build_cffi.py", folder],
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
    )


def test_missing_compiler_is_named(tmp_path: Path) -> None:
    done = run_build(tmp_path, "no-such-compiler")
    assert done.returncode == 1
    assert done.stderr == (
        "build_cffi: no C compiler: no-such-compiler not found; install one or set CC\n"
    )


@pytest.mark.skipif(shutil.which("false") is None, reason="needs a program that fails")
def test_failed_build_keeps_the_library_that_is_there(tmp_path: Path) -> None:
    library = tmp_path / build_cffi.library_names()[0]
    library.write_text("yesterday's")
    done = run_build(tmp_path, "false")
    assert done.returncode == 1
    assert "build_cffi: compiling libbitnet failed: " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [library.name]
    assert library.read_text() == "yesterday's"


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: f"/nowhere/{name}")
    with pytest.raises(build_cffi.BuildError, match=r"no Python headers: /nowhere/include/Python"):
        build_cffi.build(tmp_path)


def test_python_without_shared_library_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    static = {"Py_ENABLE_SHARED": 0, "LDLIBRARY": "libpython3.a", "LIBDIR": "/nowhere"}
    monkeypatch.setattr(sysconfig, "get_config_var", static.get)
    with pytest.raises(build_cffi.BuildError, match=r"has no shared library .* --enable-shared"):
        build_cffi.build(tmp_path)


def test_declarations_keep_types_and_constants_alone() -> None:
    header = (
        "/* a comment */\n"
        "#ifndef X\n#define X\n#include <stdint.h>\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n'
        "#define BITNET_OK 0\n"
        "#define BITNET_BAD (-1)\n"
        "#define BITNET_INIT \\\n    { 1, 2 }\n"
        "typedef struct pair { int a, b; } pair_t;\n"
        "BITNET_API int bitnet_long(int a,\n                           int b);\n"
        "#ifdef __cplusplus\n}\n#endif\n#endif\n"
    )
    lines = [line for line in build_cffi.declarations(header).splitlines() if line.strip()]
    assert lines == [
        "/* a comment */",
        "typedef struct pair { int a, b; } pair_t;",
        "#define BITNET_OK 0",
        "#define BITNET_BAD -1",
    ]
    assert build_cffi.exported_names(header) == ["bitnet_long"]


def test_c_strings_mean_what_they_say(tmp_path: Path) -> None:
    text = 'quotes " and \\ and ??/ trigraphs\n\té 1\x012\n\nlast'
    (tmp_path / "main.c").write_text(
        f"#include <stdio.h>\nint main(void) {{ fputs({build_cffi.c_string(text)}, stdout); }}\n"
    )
    subprocess.run([CC, tmp_path / "main.c", "-o", tmp_path / "main"], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    assert done.stdout.decode() == text
