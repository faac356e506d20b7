"""From a module to callable machine code: LLVM, the object cache, the in-process linker.

The only file that uses LLVM's compiler API.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from bitnet import config
from bitnet.codegen.module import Module
from bitnet.codegen.target import Target
from bitnet.errors import CompileError, ModelMemoryError

log = logging.getLogger("bitnet.codegen")

# Part of the cache key: raise it when the way from IR to object code changes.
_RECIPE = "1"
# The packages whose code decides what is generated for a description.
_GENERATOR = ("codegen", "kernels", "models", "program", "quant")
_LLVM_BYTES = 4 << 20
_DIGEST_BYTES = hashlib.sha256().digest_size
_library_numbers = itertools.count()


class Library:
    """Loaded machine code. Addresses are valid as long as this object lives."""

    def __init__(
        self, name: str, tracker: llvm.ResourceTracker, lljit: llvm.LLJIT, image: bytes
    ) -> None:
        self.name = name
        self.image = image
        """The object file that the code comes from."""
        self._tracker = tracker
        self._lljit = lljit

    def address(self, symbol: str) -> int:
        return int(self._tracker[symbol])


def load(module: Module, symbols: list[str]) -> Library:
    """Compile `module`, or take it from the cache, and link it into this process."""
    return _link(module.target, compile_object(module), symbols)


def load_described(
    description: str, target: Target, build: Callable[[], Module], symbols: list[str]
) -> Library:
    """Like `load` of what `build` makes, which is only called when it is not in the cache.

    description: all that the module depends on, but for the target and this package's code.
    """
    if config.debug():
        return load(build(), symbols)
    key = _cache_key(target, generator_digest() + description)
    image = _cached(key, lambda: compile_object(build()))
    return _link(target, image, symbols)


def _link(target: Target, image: bytes, symbols: list[str]) -> Library:
    _require_memory(_LLVM_BYTES + 4 * len(image))
    _initialize(target)
    lljit = llvm.create_lljit_compiler(_target_machine(target, jit=True), use_jit_link=True)
    builder = llvm.JITLibraryBuilder().add_object_img(image).add_current_process()
    for symbol in symbols:
        builder.export_symbol(symbol)
    name = f"bitnet{next(_library_numbers)}"
    try:
        tracker = builder.link(lljit, name)
    except RuntimeError as error:
        raise CompileError(f"cannot link the generated code: {error}") from error
    return Library(name, tracker, lljit, image)


def compile_object(module: Module) -> bytes:
    """The object file of `module` for its target."""
    debug = config.debug()
    source = str(module)
    if "ir" in debug:
        sys.stderr.write(source)
    if "asm" in debug:
        return _compile(module.target, source, print_asm=True)
    key = _cache_key(module.target, source)
    return _cached(key, lambda: _compile(module.target, source, print_asm=False))


def optimized(module: Module) -> tuple[str, str]:
    """The module after LLVM's passes: (IR, assembly), for tests and for reading."""
    _initialize(module.target)
    parsed, machine = _optimize(module.target, str(module))
    return str(parsed), str(machine.emit_assembly(parsed))


def _compile(target: Target, source: str, *, print_asm: bool) -> bytes:
    _require_memory(_LLVM_BYTES + 16 * len(source))
    _initialize(target)
    parsed, machine = _optimize(target, source)
    if print_asm:
        sys.stderr.write(machine.emit_assembly(parsed))
    return bytes(machine.emit_object(parsed))


def _optimize(target: Target, source: str) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    try:
        parsed = llvm.parse_assembly(source)
        parsed.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM refused the generated code: {error}") from error
    machine = _target_machine(target, jit=True)
    parsed.data_layout = str(machine.target_data)  # else struct offsets are not C's
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    pipeline = passes.getModulePassManager()
    pipeline.run(parsed, passes)
    # A megabyte that llvmlite forgets: ObjectRef's empty _dispose hides the real one.
    llvm.newpassmanagers.NewPassManager._dispose(pipeline)
    pipeline.detach()
    return parsed, machine


def _require_memory(size: int) -> None:
    """Raise ModelMemoryError unless `size` bytes can be had: LLVM ends the process where they
    cannot. Twice of what it has been seen to take.
    """
    try:
        mmap.mmap(-1, size).close()
    except OSError as error:
        raise ModelMemoryError(f"cannot allocate {size} bytes to compile the model") from error


def _target_machine(target: Target, *, jit: bool) -> llvm.TargetMachine:
    triple = llvm.Target.from_triple(target.triple)
    return triple.create_target_machine(
        cpu=target.cpu, features=target.feature_string, opt=2, jit=jit
    )


def _initialize(target: Target) -> None:
    if target.triple == llvm.get_default_triple():
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


# -- the object cache: <sha256 of the object><object>, named by what it was made from ----------


def _cache_key(target: Target, source: str) -> str:
    digest = hashlib.sha256()
    llvm_version = ".".join(map(str, llvm.llvm_version_info))
    made_from = (_RECIPE, llvmlite.__version__, llvm_version, target.triple, target.cpu)
    for text in (*made_from, target.feature_string, source):
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


@cache
def generator_digest() -> str:
    """A hash of the code that writes code: modules of one description differ with it."""
    digest = hashlib.sha256()
    for package in _GENERATOR:
        for path in sorted((Path(__file__).parent.parent / package).glob("*.py*")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _cached(key: str, make: Callable[[], bytes]) -> bytes:
    path = config.cache_dir() / f"{key}.o"
    image = _read_cached(path)
    if image is None:
        image = make()
        write_cached(path, hashlib.sha256(image).digest() + image)
    return image


def _read_cached(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    image = content[_DIGEST_BYTES:]
    if hashlib.sha256(image).digest() != content[:_DIGEST_BYTES]:
        log.warning("ignoring the damaged cache entry %s", path)
        return None
    return image


def write_cached(path: Path, content: bytes) -> None:
    """Write aside, then rename. A cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError as error:
        log.warning("cannot keep %s: %s", path, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(aside, path)
    except OSError as error:
        log.warning("cannot keep %s: %s", path, error)
        os.unlink(aside)
