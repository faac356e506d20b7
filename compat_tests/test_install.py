"""install_cffi.py: a prefix that is complete, moves as a whole and is replaced as a whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

import bitnet
import build_cffi
import install_cffi
from compat_tests.installed import library_file, moved_prefix
from compat_tests.programs import CC, OURS

pytestmark = OURS

NAMES = build_cffi.library_names()

# Where does what an installed library imports come from?
LIST_MODULES = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
if library.bitnet_init() != 0:
    library.bitnet_get_last_error.restype = ctypes.c_char_p
    sys.exit(library.bitnet_get_last_error().decode())
import bitnet, numpy, llvmlite.binding, tokenizers, jinja2, gguf
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", None) or "")
"""


@pytest.fixture(scope="module")
def prefix() -> Path:
    return moved_prefix()


def output(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_prefix_holds_what_is_expected(prefix: Path) -> None:
    assert sorted(path.name for path in prefix.iterdir()) == ["bin", "include", "lib", "share"]
    assert all((prefix / entry).exists() for entry in install_cffi.entries())
    assert sorted(path.name for path in (prefix / "include").iterdir()) == [
        "bitnet.h",
        "bitnet.hpp",
        "bitnet_ext.h",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names of ELF libraries")
def test_library_has_a_versioned_name_and_links_to_it(prefix: Path) -> None:
    file = library_file(prefix)
    assert file.name == f"libbitnet.so.1.{bitnet.__version__}"
    assert not file.is_symlink()
    for name in ("libbitnet.so", "libbitnet.so.1", "libbitnet_ffi.so"):
        assert (prefix / "lib" / name).readlink() == Path(file.name)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_programs_ask_for_the_abi_version(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        '#include "bitnet.h"\nint main(void) { return !bitnet_version(); }\n'
    )
    config = prefix / "bin" / "bitnet-config"
    flags = output(config, "--cflags", "--libs").split()
    rpath = f"-Wl,-rpath,{prefix / 'lib'}"
    subprocess.run([CC, tmp_path / "main.c", "-o", tmp_path / "main", *flags, rpath], check=True)
    needed = output("readelf", "-d", tmp_path / "main")
    assert "Shared library: [libbitnet.so.1]" in needed
    subprocess.run([tmp_path / "main"], check=True, env={})


def test_everything_comes_from_the_prefix_or_from_python_itself(prefix: Path) -> None:
    files = output(
        sys._base_executable, "-I", "-S", "-c", LIST_MODULES, library_file(prefix)
    ).splitlines()
    python = Path(sysconfig.get_path("stdlib")).resolve()
    homes = {
        "prefix"
        if path.is_relative_to(prefix)
        else "python"
        if path.is_relative_to(python)
        else path
        for path in (Path(file).resolve() for file in files if file)
        if path.suffix
    }
    assert homes == {"prefix", "python"}


def test_all_may_read_it(prefix: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in prefix.rglob("*")}
    assert modes == {0o644, 0o755}


def test_modules_are_compiled(prefix: Path) -> None:
    modules = prefix / install_cffi.PYTHON / "bitnet"
    tag = sys.implementation.cache_tag
    assert {path.stem for path in modules.glob("*.py")} == {
        path.name.removesuffix(f".{tag}.pyc") for path in modules.glob("__pycache__/*.pyc")
    }


def test_config_script_tells_where_it_is(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "direct").symlink_to(prefix / "bin" / "bitnet-config")
    (tmp_path / "indirect").symlink_to("direct")
    for script in (prefix / "bin" / "bitnet-config", tmp_path / "indirect"):
        assert output(script, "--prefix", "--version") == f"{prefix}\n{bitnet.__version__}\n"
        assert output(script, "--cflags") == f"-I{prefix}/include\n"
        assert output(script, "--libs") == f"-L{prefix}/lib -lbitnet\n"
        assert Path(output(script, "--model").strip()).is_file()


@pytest.mark.parametrize("arguments", [[], ["--cflags", "--lib"]])
def test_config_script_refuses_what_it_does_not_know(prefix: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [prefix / "bin" / "bitnet-config", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "usage: bitnet-config" in done.stderr
    assert not arguments or "unknown option --lib\n" in done.stderr


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="needs pkg-config")
def test_pkg_config_agrees(prefix: Path) -> None:
    def ask(*options: str) -> str:
        return output("env", f"PKG_CONFIG_PATH={prefix}/lib/pkgconfig", "pkg-config", *options)

    assert ask("--modversion", "bitnet").strip() == bitnet.__version__
    cflags, folder, library = ask("--cflags", "--libs", "bitnet").split()
    assert Path(cflags.removeprefix("-I")).resolve() == prefix / "include"
    assert Path(folder.removeprefix("-L")).resolve() == prefix / "lib"
    assert library == "-lbitnet"
    assert Path(ask("--variable=model", "bitnet").strip()).is_file()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs whose files are empty, made at once."""

    def make(folder: Path) -> None:
        for entry in install_cffi.entries():
            path = folder / entry
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry in ("lib/bitnet", "lib/cmake/bitnet", "share/doc/bitnet"):
                path.mkdir()
                path = path / "new"
            path.write_text("new")

    monkeypatch.setattr(install_cffi, "make", make)
    monkeypatch.setattr(install_cffi, "check", lambda _: None)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.mark.usefixtures("quick")
def test_second_install_replaces_the_first_and_uninstall_removes_it(tmp_path: Path) -> None:
    install_cffi.install(tmp_path)
    fresh = contents(tmp_path)
    assert set(fresh.values()) == {"new"}
    assert len(fresh) == len(install_cffi.entries())
    (tmp_path / "lib/bitnet/stale").write_text("old")
    (tmp_path / "include/bitnet.h").write_text("old")
    (tmp_path / "lib" / NAMES.link).unlink()
    (tmp_path / "lib" / NAMES.link).symlink_to("nowhere")
    (tmp_path / "lib/other").write_text("other")
    install_cffi.install(tmp_path)
    assert contents(tmp_path) == {**fresh, "lib/other": "other"}
    install_cffi.uninstall(tmp_path)
    assert contents(tmp_path) == {"lib/other": "other"}
    install_cffi.uninstall(tmp_path)


@pytest.mark.usefixtures("quick")
def test_failed_install_leaves_the_old_one_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_cffi.install(tmp_path)
    before = contents(tmp_path)

    def fail(_: Path) -> None:
        raise build_cffi.BuildError("it does not start")

    monkeypatch.setattr(install_cffi, "check", fail)
    with pytest.raises(build_cffi.BuildError, match="it does not start"):
        install_cffi.install(tmp_path)
    assert contents(tmp_path) == before


def test_library_without_its_packages_fails_the_check(prefix: Path, tmp_path: Path) -> None:
    library = shutil.copy(library_file(prefix), tmp_path)
    with pytest.raises(build_cffi.BuildError, match=r"does not start: .*No module named"):
        install_cffi.check(library)


def test_relative_prefix_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, install_cffi.__file__, "some/prefix"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr == ("install_cffi: PREFIX must be an absolute path, not some/prefix\n")
    assert list(tmp_path.iterdir()) == []


def test_requirements_of_requirements_are_found_once() -> None:
    names = [
        re.sub(r"[-_.]+", "-", found.name).lower() for found in install_cffi.requirements("bitnet")
    ]
    assert len(names) == len(set(names))
    assert {"numpy", "llvmlite", "cffi", "pycparser", "jinja2", "markupsafe"} <= set(names)
    assert not {"bitnet", "pytest", "ruff", "mypy"} & set(names)


def test_missing_requirement_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(install_cffi, "distribution", missing)
    with pytest.raises(build_cffi.BuildError, match=r"^bitnet is not installed in .*pip install"):
        install_cffi.requirements("bitnet")


def test_distribution_without_a_list_of_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some-1.dist-info").mkdir()
    (tmp_path / "some-1.dist-info" / "METADATA").write_text("Name: some\nVersion: 1\n")
    found = Distribution.at(tmp_path / "some-1.dist-info")
    with pytest.raises(build_cffi.BuildError, match=r"^some has no list of its files"):
        install_cffi.copy_distribution(found, tmp_path / "copy")
