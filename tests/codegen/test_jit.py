"""Compiling: the object cache, what BITNET_DEBUG prints, and errors."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import mmap
from dataclasses import replace
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from bitnet.codegen import Function, Module, Target, find_target, jit
from bitnet.codegen import types as t
from bitnet.codegen.detect import architecture
from bitnet.errors import CompileError, InvalidArgumentError, ModelMemoryError

# Some of each architecture, which make a code that runs anywhere no different.
FEATURE, CPU = {"x86_64": ("sse3", "x86-64-v2"), "aarch64": ("crc", "cortex-a53")}[architecture()]
RETURN = {"x86_64": "\tretq", "aarch64": "\tret"}[architecture()]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache" / "objects"
    monkeypatch.setenv("BITNET_CACHE_DIR", str(folder))
    monkeypatch.delenv("BITNET_DEBUG", raising=False)
    return folder


@pytest.fixture
def no_llvm(monkeypatch: pytest.MonkeyPatch) -> object:
    """After calling this, asking LLVM to compile anything is an error."""

    def forbid() -> None:
        def compiling(*_: object) -> None:
            pytest.fail("compiled although the object was cached")

        monkeypatch.setattr(llvm, "parse_assembly", compiling)

    return forbid


def answer(number: int, target: Target | None = None, *, checked: bool = False) -> Module:
    """A module whose function `answer` gives `number`."""
    module = Module(target or find_target(), checked=checked)

    def body(k: Function) -> None:
        k.ret(k.const(t.i64, number))

    module.function("answer", [], body, returns=t.i64, exported=True)
    return module


def call(module: Module) -> int:
    library = jit.load(module, ["answer"])
    return ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("answer"))()


def test_a_second_start_compiles_nothing(cache: Path, no_llvm: object) -> None:
    assert call(answer(42)) == 42
    assert [path.suffix for path in cache.iterdir()] == [".o"]
    no_llvm()
    assert call(answer(42)) == 42


def test_objects_are_kept_apart_by_all_that_shapes_them(cache: Path) -> None:
    modules = [
        answer(1),
        answer(2),
        answer(1, find_target("scalar")),
        answer(1, replace(find_target("scalar"), features=(FEATURE,))),
        answer(1, replace(find_target("scalar"), cpu=CPU)),
        answer(1, checked=True),
    ]
    assert [call(module) for module in modules] == [1, 2, 1, 1, 1, 1]
    assert len(list(cache.iterdir())) == len(modules)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:0],
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: bytes([content[0] ^ 1]) + content[1:],
    ],
    ids=["empty", "short", "truncated", "longer", "last byte", "first byte"],
)
def test_a_damaged_entry_is_ignored_and_written_anew(
    cache: Path, damage: object, caplog: pytest.LogCaptureFixture, no_llvm: object
) -> None:
    assert call(answer(7)) == 7
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING, "bitnet.codegen"):
        assert call(answer(7)) == 7
    assert f"ignoring the damaged cache entry {entry}" in caplog.text
    assert entry.read_bytes() == whole
    assert list(cache.iterdir()) == [entry]
    no_llvm()
    assert call(answer(7)) == 7


def test_a_cache_that_cannot_be_made_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    monkeypatch.setenv("BITNET_CACHE_DIR", str(in_the_way / "objects"))
    with caplog.at_level(logging.WARNING, "bitnet.codegen"):
        assert call(answer(3)) == 3
    assert "cannot keep" in caplog.text
    assert in_the_way.read_text() == "not a folder"


def test_an_entry_that_cannot_be_written_only_warns_and_leaves_nothing_behind(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    call(answer(4))
    (entry,) = cache.iterdir()
    entry.unlink()
    (entry / "in the way").mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "bitnet.codegen"):
        assert call(answer(4)) == 4
    assert "cannot keep" in caplog.text
    assert list(cache.iterdir()) == [entry]


@pytest.mark.usefixtures("cache")
def test_debug_prints_the_stages_asked_for_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ir, assembly = 'define i64 @"answer"()', RETURN
    for flags, shown in (("ir", [ir]), ("asm", [assembly]), ("ir, asm", [ir, assembly]), ("", [])):
        monkeypatch.setenv("BITNET_DEBUG", flags)
        assert call(answer(5)) == 5  # cached after the first time, and still printed
        out, err = capsys.readouterr()
        assert out == ""
        assert [text for text in (ir, assembly) if text in err] == shown


def test_an_unknown_debug_flag_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITNET_DEBUG", "asm,llvm")
    with pytest.raises(InvalidArgumentError, match="unknown flag llvm; the flags are asm, checked"):
        jit.compile_object(answer(6))


@pytest.mark.usefixtures("cache")
def test_code_that_llvm_refuses_is_a_compile_error() -> None:
    module = Module(find_target())

    def body(k: Function) -> None:
        k.intrinsic("llvm.fma.f32", t.f32, k.const(t.f32, 1))

    module.function("f", [], body, exported=True)
    with pytest.raises(CompileError, match="LLVM refused the generated code"):
        jit.compile_object(module)


@pytest.mark.usefixtures("cache")
def test_a_missing_symbol_is_a_compile_error() -> None:
    with pytest.raises(CompileError, match=r"cannot link the generated code.*question"):
        jit.load(answer(8), ["question"])


def test_code_lives_as_long_as_its_library(cache: Path) -> None:
    libraries = [jit.load(answer(n), ["answer"]) for n in range(3)]
    functions = [ctypes.CFUNCTYPE(ctypes.c_int64)(x.address("answer")) for x in libraries]
    assert [f() for f in functions] == [0, 1, 2]
    assert len(list(cache.iterdir())) == 3


# -- modules that are known by a description ------------------------------------------------------


@pytest.mark.usefixtures("cache")
def test_a_described_module_is_built_only_once() -> None:
    built = []

    def build() -> Module:
        built.append(1)
        return answer(7)

    for description in ("seven", "seven", "another"):
        library = jit.load_described(description, find_target(), build, ["answer"])
        assert ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("answer"))() == 7
    assert len(built) == 2


@pytest.mark.usefixtures("cache")
def test_a_described_module_is_built_again_when_the_generator_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jit.load_described("a number", find_target(), lambda: answer(1), ["answer"])
    monkeypatch.setattr(jit, "generator_digest", lambda: "other code")
    library = jit.load_described("a number", find_target(), lambda: answer(2), ["answer"])
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("answer"))() == 2


def test_the_generator_is_told_apart_by_all_of_its_files() -> None:
    folder = Path(jit.__file__).parent.parent
    for package in jit._GENERATOR:
        assert list((folder / package).glob("*.py")), package
    assert len(jit.generator_digest()) == 64


MALLINFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class MallInfo(ctypes.Structure):
    """The result of glibc's mallinfo2()."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO.split()]


def test_compiling_gives_its_memory_back() -> None:
    """But for a kilobyte or two of llvmlite's; a pipeline of passes is a quarter of a megabyte."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        pytest.skip("needs glibc's mallinfo2")
    mallinfo.restype = MallInfo
    target = find_target()
    source = str(answer(1))
    used = []
    for _ in range(2):
        for _ in range(8):
            jit._compile(target, source, print_asm=False)
        gc.collect()
        info = mallinfo()
        used.append(info.uordblks + info.hblkhd)
    assert used[1] - used[0] < 8 * 20_000


def test_memory_is_asked_for_before_llvm_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM ends the process when it gets none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(ModelMemoryError, match="cannot allocate"):
        jit._compile(find_target(), str(answer(1)), print_asm=False)
    with pytest.raises(ModelMemoryError, match="cannot allocate"):
        jit._link(find_target(), b"", ["answer"])
