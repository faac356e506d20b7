"""Build libbitnet, the C library of bitnet.h: `python build_cffi.py [FOLDER]`.

The library goes to FOLDER, by default `build/` beside this file. It holds the C files of cabi/ and
what cffi generates to reach bitnet/embed/, and it starts the Python that built it. Needed: cffi,
setuptools, a C compiler, and a Python with headers and a shared library. install_cffi.py installs
it for others to use.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cffi import FFI

ROOT = Path(__file__).resolve().parent
CABI = ROOT / "cabi"
SOURCES = tuple(sorted(path.name for path in CABI.glob("*.c")))
HEADERS = (ROOT / "bitnet.h", ROOT / "bitnet_ext.h")  # what is exported
MODULE = "_libbitnet"  # the name under which embedded Python finds the library


class LibraryNames(NamedTuple):
    """What the library is called on a platform. All but `file` are links to it, or copies."""

    link: str  # what -lbitnet looks for
    alias: str  # what older bindings look for
    soname: str  # what linked programs look for: the ABI version
    file: str  # ABI version and release


# {abi} and {release} are filled in by library_names().
LIBRARY_NAMES: Mapping[str, LibraryNames] = {
    "win32": LibraryNames("bitnet.dll", "bitnet_ffi.dll", "bitnet.dll", "bitnet.dll"),
    "darwin": LibraryNames(
        "libbitnet.dylib",
        "libbitnet_ffi.dylib",
        "libbitnet.{abi}.dylib",
        "libbitnet.{abi}.{release}.dylib",
    ),
}
ELF_NAMES = LibraryNames(
    "libbitnet.so", "libbitnet_ffi.so", "libbitnet.so.{abi}", "libbitnet.so.{abi}.{release}"
)

GLUE = """
#include "host.h"
#include "report.h"

int bitnet_start_cffi(void);

int bitnet_start_cffi(void)
{
    return cffi_start_python();
}
"""

INIT_CODE = f"""
from {MODULE} import ffi, lib
from bitnet import embed
embed.attach(ffi, lib)
"""


class BuildError(Exception):
    """Something that the build needs is missing."""


def library_names() -> LibraryNames:
    """The library's names on this platform."""
    values = {"abi": abi_version(), "release": project_version()}
    names = LIBRARY_NAMES.get(sys.platform, ELF_NAMES)
    return LibraryNames(*(name.format(**values) for name in names))


def build(folder: Path, *, installed: bool = False) -> Path:
    """Build the library into `folder` and return its path there.

    installed: the library is for a prefix: it looks for the bitnet package beside itself only and
        knows nothing of this source tree.

    Raises BuildError.
    """
    check_requirements()
    names = library_names()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".libbitnet-") as work:
        (Path(work) / "build_config.h").write_text(build_config(installed), encoding="utf-8")
        built = compile_library(Path(work), names)
        built.replace(folder / names.file)  # in one step: a running program keeps the old file
        for name in sorted({names.soname, names.link, names.alias} - {names.file}):
            add_name(folder / names.file, folder / name, Path(work) / name)
    return folder / names.link


def add_name(library: Path, name: Path, aside: Path) -> None:
    """Offer the library under one more name, made aside first. A link, where there are links: a
    process that asks for both names then gets one library."""
    if sys.platform == "win32":
        shutil.copy2(library, aside)
    else:
        aside.symlink_to(library.name)
    aside.replace(name)


def check_requirements() -> None:
    """Raise BuildError, saying what to install, when this Python cannot be embedded."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if not headers.is_file():
        raise BuildError(f"no Python headers: {headers} does not exist; install python3-dev")
    if sys.platform == "win32":
        return
    shared = Path(library_folder(), sysconfig.get_config_var("LDLIBRARY") or "")
    embeddable = sysconfig.get_config_var("Py_ENABLE_SHARED") or sysconfig.get_config_var(
        "PYTHONFRAMEWORK"
    )
    if not embeddable or not shared.is_file():
        raise BuildError(
            f"{sys.executable} has no shared library ({shared}) and cannot be embedded; use a "
            "Python that was built with --enable-shared"
        )
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(compiler.split()[0]) is None:
        raise BuildError(f"no C compiler: {compiler.split()[0]} not found; install one or set CC")


def library_folder() -> str:
    """Where libpython is linked from, and found at run time."""
    if sysconfig.get_config_var("PYTHONFRAMEWORK"):
        return str(sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX"))
    return str(sysconfig.get_config_var("LIBDIR"))


def compile_library(work: Path, names: LibraryNames) -> Path:
    """Generate, compile and link in the folder `work`; returns the file made."""
    try:
        from cffi import FFI, VerificationError
    except ImportError as error:
        raise BuildError("cffi is missing; run: pip install cffi setuptools") from error
    headers = [header.read_text(encoding="utf-8") for header in HEADERS]
    ffi: FFI = FFI()
    for header in headers:
        ffi.cdef(declarations(header))
    ffi.cdef(f'extern "Python+C" {{ {declarations((CABI / "host.h").read_text())} }}')
    ffi.cdef(declarations((CABI / "report.h").read_text()))
    ffi.embedding_api("")  # exports come from the C files
    ffi.embedding_init_code(INIT_CODE)
    ffi.set_source(
        MODULE,
        GLUE,
        sources=[str(CABI / source) for source in SOURCES],
        include_dirs=[str(work), str(ROOT), str(CABI)],
        define_macros=[("BITNET_BUILDING_LIBRARY", None)],
        **link_options(
            work, names.soname, [name for header in headers for name in exported_names(header)]
        ),
    )
    try:
        return Path(ffi.compile(tmpdir=str(work), target=names.link))
    except VerificationError as error:
        raise BuildError(f"compiling libbitnet failed: {error}") from error


def link_options(work: Path, soname: str, exports: list[str]) -> dict[str, list[str]]:
    """Options that hide every symbol but `exports` and tie the library to this libpython."""
    if sys.platform == "win32":
        return {"libraries": []}
    options = {
        "library_dirs": [library_folder()],
        "runtime_library_dirs": [library_folder()],
        "extra_compile_args": ["-fvisibility=hidden"],
    }
    if sys.platform == "darwin":
        listing = work / "exports.txt"
        listing.write_text("".join(f"_{symbol}\n" for symbol in exports))
        link = [f"-Wl,-exported_symbols_list,{listing}", f"-Wl,-install_name,@rpath/{soname}"]
    else:
        listing = work / "exports.map"
        listing.write_text(f"{{ global: {'; '.join(exports)}; local: *; }};\n")
        link = [f"-Wl,--version-script={listing}", f"-Wl,-soname,{soname}"]
    return {**options, "extra_link_args": link}


def exported_names(header: str) -> list[str]:
    """The functions that a public header declares."""
    return re.findall(r"^BITNET_API[^(;]*\b(bitnet_\w+)\(", header, re.MULTILINE)


def declarations(header: str) -> str:
    """A C header as cffi's cdef() reads it: types, plain functions, and integer constants."""
    text = re.sub(r"\\\n", " ", header)
    text = re.sub(r"^#ifdef __cplusplus\n.*?^#endif\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^BITNET_API[^;]*;", "", text, flags=re.MULTILINE)
    constants = re.findall(r"^#define (BITNET_\w+) \(?(-?\d+)\)?$", text, re.MULTILINE)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return text + "".join(f"\n#define {name} {value}" for name, value in constants)


def build_config(installed: bool) -> str:
    """The generated header: where this Python is, and the code that makes bitnet importable."""
    home = Path(sys.base_prefix)
    stdlib = Path(sysconfig.get_path("stdlib")).relative_to(home)
    bootstrap = (CABI / "bootstrap.py").read_text(encoding="utf-8")
    project, site_dirs = ("", []) if installed else (str(ROOT), site_folders())
    bootstrap += f"\nprepare(LIBRARY, {project!r}, {site_dirs!r}, {project_version()!r})\n"
    values = {
        "VERSION": project_version(),
        "HOME": str(home),
        "STDLIB": stdlib.as_posix(),
        # a virtual environment belongs to the source tree, not to a prefix
        "EXECUTABLE": sys._base_executable if installed else sys.executable,
        "BOOTSTRAP": bootstrap,
    }
    lines = [f"#define BITNET_BUILD_{name} {c_string(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def site_folders() -> list[str]:
    """Where packages are imported from now; inside the project, relative to it."""
    folders = [Path(p) for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    return [
        folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else str(folder)
        for folder in folders
    ]


def project_version() -> str:
    return find_in(ROOT / "bitnet" / "__init__.py", r'^__version__ = "([^"]+)"$')


def abi_version() -> str:
    return find_in(ROOT / "bitnet.h", r"^#define BITNET_ABI_VERSION (\d+)$")


def find_in(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{path}: nothing matches {pattern}")
    return found.group(1)


def c_string(text: str) -> str:
    """The text as C string literals, a line each."""
    lines = text.splitlines(keepends=True) or [""]
    literals = ["".join(c_character(byte) for byte in line.encode("utf-8")) for line in lines]
    return " \\\n    ".join(f'"{literal}"' for literal in literals)


def c_character(byte: int) -> str:
    """One byte of a string literal; octal escapes end by themselves after three digits."""
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if plain else f"\\{byte:03o}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build libbitnet, the C library of bitnet.h.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build")
    try:
        print(build(parser.parse_args().folder))
    except BuildError as error:
        sys.exit(f"build_cffi: {error}")


if __name__ == "__main__":
    main()
