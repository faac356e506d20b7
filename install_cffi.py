"""Install libbitnet for C and C++ programs: `python install_cffi.py PREFIX`.

What PREFIX then holds needs nothing but the Python that ran this, and may be moved as a whole:

    include/            bitnet.h, bitnet_ext.h, bitnet.hpp
    lib/                the library, under all its names
    lib/bitnet/python/  the bitnet package and all it needs, copied from where this Python has them
    lib/pkgconfig/, lib/cmake/bitnet/, bin/bitnet-config
                        how to compile and link with it
    share/doc/bitnet/   the licence

Needed: what build_cffi.py needs, packaging, and bitnet's dependencies, installed by pip or the
like.
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import build_cffi
from build_cffi import CABI, ROOT, BuildError, build, library_names, project_version

HEADERS = (*(path.name for path in build_cffi.HEADERS), "bitnet.hpp")
PYTHON = "lib/bitnet/python"
TEMPLATES = {  # of cabi/packaging/, and where they go
    "bitnet.pc": "lib/pkgconfig",
    "bitnetConfig.cmake": "lib/cmake/bitnet",
    "bitnetConfigVersion.cmake": "lib/cmake/bitnet",
    "bitnet-config": "bin",
}

# Run by a Python without packages: does the library start with what lies beside it?
CHECK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.bitnet_get_last_error.restype = ctypes.c_char_p
if library.bitnet_init() != 0:
    sys.exit(library.bitnet_get_last_error().decode())
"""


def install(prefix: Path) -> None:
    """Install to `prefix`, or replace what an earlier install put there.

    All is made in a folder aside and tried out; then it takes its places, a rename each.
    Raises BuildError and OSError.
    """
    if sys.platform == "win32":
        raise BuildError("there is no install on Windows; link with what build_cffi.py builds")
    prefix.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix, prefix=".bitnet-") as work:
        new, old = Path(work, "new"), Path(work, "old")
        make(new)
        check(new / "lib" / library_names().link)
        for entry in entries():
            (prefix / entry).parent.mkdir(parents=True, exist_ok=True)
            if (prefix / entry).is_dir():
                (old / entry).parent.mkdir(parents=True, exist_ok=True)
                (prefix / entry).replace(old / entry)
            (new / entry).replace(prefix / entry)


def uninstall(prefix: Path) -> None:
    """Remove what `install` puts into `prefix`; folders of others stay, even if empty."""
    for entry in entries():
        path = prefix / entry
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def entries() -> list[str]:
    """The files and folders of an install, in the order in which they take their places."""
    names = library_names()
    files = [f"lib/{name}" for name in dict.fromkeys((names.file, names.soname, *names))]
    files += [f"include/{name}" for name in HEADERS]
    folders = ["lib/cmake/bitnet", "share/doc/bitnet"]
    return ["lib/bitnet", *files, *folders, "lib/pkgconfig/bitnet.pc", "bin/bitnet-config"]


def make(folder: Path) -> None:
    """Write a whole prefix into `folder`."""
    build(folder / "lib", installed=True)
    make_python(folder / PYTHON)
    (folder / "include").mkdir()
    for name in HEADERS:
        shutil.copyfile(ROOT / name, folder / "include" / name)
    for name, place in TEMPLATES.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / name).write_text(filled(name), encoding="utf-8")
    (folder / "bin/bitnet-config").chmod(0o755)
    (folder / "share/doc/bitnet").mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", folder / "share/doc/bitnet/LICENSE")
    for path in folder.rglob("*"):  # readable by all, whatever the umask
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def filled(name: str) -> str:
    """A file of cabi/packaging/ with what it leaves open filled in."""
    names = library_names()
    text = (CABI / "packaging" / name).read_text(encoding="utf-8")
    values = {
        "VERSION": project_version(),
        "LINK": names.link,
        "SONAME": f"@rpath/{names.soname}" if sys.platform == "darwin" else names.soname,
        "POINTER_SIZE": str(struct.calcsize("P")),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def make_python(folder: Path) -> None:
    """Copy the package and what it needs into `folder`, with compiled code for each module."""
    shutil.copytree(
        ROOT / "bitnet", folder / "bitnet", ignore=shutil.ignore_patterns("__pycache__")
    )
    for needed in requirements("bitnet"):
        copy_distribution(needed, folder)
    compileall.compile_dir(folder, quiet=2, stripdir=str(folder))


def requirements(name: str) -> Iterable[Distribution]:
    """What a distribution needs, directly and indirectly, as installed here."""
    try:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name
    except ImportError as error:
        raise BuildError("packaging is missing; run: pip install packaging") from error
    found: dict[str, Distribution] = {}
    wanted = [(name, "")]  # of distribution and extra
    done = set()
    while wanted:
        item = wanted.pop()
        if item in done:
            continue
        done.add(item)
        found[item[0]] = installed_distribution(item[0])
        for needed in map(Requirement, found[item[0]].requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": item[1]}):
                key = canonicalize_name(needed.name)
                wanted += [(key, extra) for extra in ("", *needed.extras)]
    del found[name]
    return found.values()


def installed_distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise BuildError(f"{name} is not installed in {sys.prefix}; run: pip install .") from error


def copy_distribution(source: Distribution, folder: Path) -> None:
    """Copy the files of an installed distribution; commands, which lie elsewhere, stay behind."""
    if source.files is None:
        raise BuildError(
            f"{source.name} has no list of its files; install it with pip, in a virtual environment"
        )
    for file in source.files:
        path = Path(str(source.locate_file(file)))
        elsewhere = file.is_absolute() or ".." in file.parts
        if elsewhere or (file.suffix == ".pyc" and not path.exists()):
            continue
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder / file)


def check(library: Path) -> None:
    """Raise BuildError unless the library starts."""
    command = [sys._base_executable, "-I", "-S", "-c", CHECK, library]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"the library that was built does not start: {done.stderr.strip()}")


def target(prefix: Path, destdir: Path | None) -> Path:
    """Where the files go: below destdir, if given, for a package to be made of them."""
    if not prefix.is_absolute():
        raise BuildError(f"PREFIX must be an absolute path, not {prefix}")
    return prefix if destdir is None else destdir / prefix.relative_to(prefix.anchor)


def main() -> None:
    parser = argparse.ArgumentParser(description="Install libbitnet for C and C++ programs.")
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--destdir", type=Path, help="a folder to take for the root of the system")
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed")
    arguments = parser.parse_args()
    try:
        folder = target(arguments.prefix, arguments.destdir)
        (uninstall if arguments.uninstall else install)(folder)
    except (BuildError, OSError) as error:
        sys.exit(f"install_cffi: {error}")
    print(folder)


if __name__ == "__main__":
    main()
