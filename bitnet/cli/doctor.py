"""`bitnet doctor`: what this machine offers, and whether everything works on it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import llvmlite
import llvmlite.binding as llvm
import typer

import bitnet
from bitnet import BitNetError, config
from bitnet.cli.outcome import ExitCode
from bitnet.cli.settings import read
from bitnet.codegen import find_target, missing_features, target_names
from bitnet.codegen.detect import useful_features
from bitnet.errors import UnsupportedOperationError
from bitnet.program.topology import available_cores, nodes
from bitnet.program.tuning import read_tunings

ABI_VERSION = 1  # BITNET_ABI_VERSION of bitnet.h
LIBRARY_NAMES = {"win32": "bitnet.dll", "darwin": "libbitnet.dylib"}


class UnhealthyError(Exception):
    """A check failed; the message says how."""


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show what this machine offers and check that everything works.

    The exit code is 1 when something does not. For example:

        bitnet doctor --json
    """
    checks: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("bitnet", versions),
        ("settings", partial(settings, context.obj)),
        ("cpu", cpu),
        ("target", targets),
        ("threads", threads),
        ("cache", cache),
        ("tuning", tunings),
        ("model", bundled_model),
        ("libbitnet", c_library),
    )
    report: dict[str, dict[str, Any]] = {}
    for name, check in checks:
        try:
            report[name] = {"works": True, "lines": check()}
        except (BitNetError, UnhealthyError, OSError) as error:
            report[name] = {"works": False, "lines": [f"PROBLEM: {error}"]}
        if not as_json:
            _print(name, **report[name])
    works = all(part["works"] for part in report.values())
    if as_json:
        typer.echo(json.dumps({"works": works, **report}, indent=2))
    if not works:
        raise typer.Exit(ExitCode.FAILED)


def _print(name: str, *, works: bool, lines: list[str]) -> None:
    for i, line in enumerate(lines):
        typer.secho(f"{'' if i else name:10} {line}", fg=None if works else typer.colors.RED)


def versions() -> list[str]:
    llvm_version = ".".join(map(str, llvm.llvm_version_info))
    return [
        f"{bitnet.__version__}, Python {platform.python_version()} on {platform.platform()}",
        f"llvmlite {llvmlite.__version__}, LLVM {llvm_version}",
    ]


def settings(file: Path | None) -> list[str]:
    """What is set, for commands that take such an option, by file and environment."""
    origins = read(file).origins.items()
    return [f"{name}, by {origin}" for name, origin in origins] or ["all are the defaults"]


def cpu() -> list[str]:
    """The CPU's name and those of its features that matter to some target."""
    return [f"{llvm.get_host_cpu_name()} ({platform.machine()})", " ".join(useful_features())]


def targets() -> list[str]:
    """The target that is chosen, and why each of the others is not."""
    chosen = find_target()
    lines = [f"{chosen.name}: chosen" + (", by BITNET_TARGET" if config.target() else "")]
    for name in target_names():
        missing = missing_features(name)
        if name != chosen.name:
            lines.append(f"{name}: " + (f"lacks {', '.join(missing)}" if missing else "available"))
    return lines


def threads() -> list[str]:
    chosen, cores = config.threads(), available_cores()
    lines = [f"{cores}, fewer for small models"]
    if chosen:
        lines = [f"{min(chosen, cores)}, by BITNET_THREADS"]
    try:
        lines += [f"memory node {i}: cores {_numbers(found)}" for i, found in enumerate(nodes())]
    except UnsupportedOperationError as error:
        lines.append(str(error))
    return lines


def _numbers(cores: list[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def cache() -> list[str]:
    """Where compiled code is kept, and how much of it there is."""
    folder = config.cache_dir()
    sizes = [path.stat().st_size for path in folder.glob("*.o")]
    return [f"{folder}: {len(sizes)} compiled programs, {megabytes(sum(sizes))}"]


def tunings() -> list[str]:
    """What was measured to be the fastest for each kind of model."""
    lines = []
    for what, tuning in read_tunings().items():
        measured = ", ".join(
            f"{name} {speed / 1e9:.0f}" for name, speed in tuning.weights_per_s.items()
        )
        blocking = f"{tuning.blocking.prefetch_bytes},{tuning.blocking.tokens_at_once}"
        lines.append(f"{tuning.layout} with BITNET_BLOCKING={blocking}: {what}")
        lines.append(f"  measured, G weights/s: {measured}")
    if forced := config.blocking():
        lines.append("BITNET_BLOCKING={},{} is set".format(*forced))
    return lines or ["nothing measured yet; that happens when a model is loaded"]


def bundled_model() -> list[str]:
    """The model's file, and whether it loads and says something."""
    path = bitnet.bundled_model_path()
    if not path.is_file():
        raise UnhealthyError(f"{path} does not exist; the installation is not complete")
    content = path.read_bytes()
    start = time.perf_counter()
    with bitnet.load() as model:
        completion = model.generate("Once upon a time", max_new_tokens=1, temperature=0)
    if not completion.token_ids:
        raise UnhealthyError(f"{path} loads, but has nothing to say")
    return [
        f"{path}: {megabytes(len(content))}, sha256 {hashlib.sha256(content).hexdigest()}",
        f"first token after {time.perf_counter() - start:.2f} s: {completion.text!r}",
    ]


def c_library() -> list[str]:
    """Whether libbitnet has been built here, and answers."""
    root = Path(bitnet.__file__).parent.parent
    path = root / "build" / LIBRARY_NAMES.get(sys.platform, "libbitnet.so")
    if not path.is_file():
        return [f"not built ({path}); only C programs need it"]
    library = ctypes.CDLL(str(path))
    library.bitnet_version.restype = ctypes.c_char_p
    version, abi = library.bitnet_version().decode(), library.bitnet_abi_version()
    if (version, abi) != (bitnet.__version__, ABI_VERSION):
        raise UnhealthyError(
            f"{path} is of release {version} with ABI {abi}, not of {bitnet.__version__} with ABI "
            f"{ABI_VERSION}; run build_cffi.py again"
        )
    return [f"{path}: release {version}, ABI {abi}"]


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
