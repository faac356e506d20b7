"""The first code that libbitnet runs in the interpreter: makes `bitnet` importable.

build_cffi.py puts this text into the library, followed by a call of `prepare` with what it knows
about the place of the build.
"""

# ruff: noqa: INP001

from __future__ import annotations

import importlib
import os
import site
import sys


def directories(library: str, project: str, site_dirs: list[str]) -> list[str]:
    """Folders to import from, those near the library before the recorded ones.

    library: path of libbitnet, or "" if unknown.
    project: the folder that held bitnet/ when the library was built; "" in an installed library,
        which has the package and its dependencies in bitnet/python beside it.
    site_dirs: where the dependencies were installed; relative ones are inside the project, so
        that the project may be moved as a whole.
    """
    here = os.path.dirname(library)
    nearby = [os.path.join(here, "bitnet", "python"), here, os.path.dirname(here)]
    holders = [d for d in nearby if os.path.isfile(os.path.join(d, "bitnet", "__init__.py"))]
    roots = [*(holders[:1] if library else []), *([project] if project else [])]
    return list(dict.fromkeys(roots + [os.path.join(r, d) for r in roots for d in site_dirs]))


def import_modules() -> None:
    for name in ("_cffi_backend", "bitnet.embed"):
        importlib.import_module(name)


def require_version(version: str) -> None:
    """The package must be the library's: a host that runs Python may have another installed."""
    package = sys.modules["bitnet"]
    if package.__version__ != version:
        raise ImportError(
            f"{package.__file__} is version {package.__version__}, the library {version}"
        )


def prepare(library: str, project: str, site_dirs: list[str], version: str) -> None:
    """Import what libbitnet needs, from where this process looks anyway if that is possible."""
    try:
        import_modules()
    except ImportError:
        for directory in directories(library, project, site_dirs):
            site.addsitedir(directory)
        try:
            import_modules()
        except ImportError as error:
            raise ImportError(f"{error}; looked in {', '.join(sys.path)}") from error
    require_version(version)
