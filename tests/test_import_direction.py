"""Every package imports only from those below it, no private names; `import bitnet` is light.

The order is that of the layers; what a layer may import is written out.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bitnet"
BASE = {"closing", "errors", "config", "log", "strict_json"}
# From files to the program that runs them.
PROGRAMS = {
    *BASE,
    *("quant", "formats", "tokenizers", "models", "codegen", "kernels", "program"),
}
MAY_IMPORT = {
    "closing": set(),
    "errors": set(),
    "config": {"errors"},
    "log": {"errors", "config"},
    "strict_json": {"errors"},
    "quant": BASE,
    "formats": {*BASE, "quant"},
    "tokenizers": {"errors", "strict_json"},
    "models": {*BASE, "quant", "formats", "tokenizers"},
    "store": {*BASE, "formats"},
    "codegen": BASE,
    "kernels": {*BASE, "codegen", "quant"},
    "program": {*BASE, "quant", "models", "codegen", "kernels"},
    "engine": {*BASE, "models", "program", "kernels"},
    "generation": {"errors", "engine", "tokenizers"},
    "evaluation": {"errors", "formats", "engine"},
    "model": {
        *BASE,
        "tokenizers",
        "models",
        "program",
        "engine",
        "generation",
        "evaluation",
    },
    "loading": {
        *BASE,
        "quant",
        "models",
        "store",
        "codegen",
        "kernels",
        "program",
        "engine",
        "model",
    },
    "conversion": PROGRAMS,
    "checkup": {*PROGRAMS, "conversion", "bench"},
    "bench": {*BASE, "quant", "models", "codegen", "kernels", "program", "loading"},
}
ANYTHING = {"__init__", "__main__", "cli", "server", "embed"}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module of bitnet, name or ""), such as ("codegen.types", "f32"), for each import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in found:
            if module == "bitnet":
                is_module = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
                yield (name, "") if is_module else ("__init__", name)
            elif module.startswith("bitnet."):
                yield module.removeprefix("bitnet."), name


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("name", sorted({layer(path) for path in PACKAGE.rglob("*.py")}))
def test_imports_go_downward(name: str) -> None:
    assert name in MAY_IMPORT or name in ANYTHING, f"{name} has no place among the layers"
    for path in PACKAGE.rglob("*.py"):
        used = {module.split(".")[0] for module, _ in imports(path)} - {name}
        if layer(path) == name and name in MAY_IMPORT:
            assert used <= MAY_IMPORT[name], path


def test_private_names_stay_in_their_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        for module, name in imports(path):
            private = any(part.startswith("_") for part in f"{module}.{name}".split("."))
            dunder = name.startswith("__") or module == "__init__"
            same = module.split(".")[0] == layer(path)
            assert dunder or same or not private, f"{path} imports {module}.{name}"


def test_importing_bitnet_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "typer", "rich", "pydantic", "jinja2", "huggingface_hub"}
    code = "import bitnet, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
