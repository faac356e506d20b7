"""What --help says of all commands, and what shells complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from bitnet.cli.app import COMMANDS, app
from bitnet.cli.outcome import ExitCode
from bitnet.store import local
from tests.cli.conftest import Run

ALL = [(name,) for name in COMMANDS] + [("config", "show"), ("config", "path")]


def test_every_command_is_known_here() -> None:
    group = typer.main.get_group(app)
    assert set(group.commands) == {path[0] for path in ALL}
    config = group.commands["config"]
    assert isinstance(config, TyperGroup)
    assert {("config", name) for name in config.commands} == {p for p in ALL if len(p) > 1}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_the_help_of_every_command_shows_an_example(run: Run, path: tuple[str, ...]) -> None:
    text = " ".join(run(*path, "--help").stdout.partition("Options:")[0].split())
    _, _, example = text.partition("For example: ")
    assert f"bitnet {' '.join(path)}" in example


def test_the_help_of_the_whole_lists_commands_and_exit_codes(run: Run) -> None:
    text = run("--help").stdout
    for name, *_ in ALL:
        assert f"\n  {name} " in text
    for code in ExitCode:
        assert f"\n    {code.value:<4} {code.meaning}\n" in text


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two models in the store."""
    monkeypatch.setattr(local, "folder", lambda: tmp_path)
    for name in ("some--tiny-gguf", "some--other"):
        folder = tmp_path / f"models--{name}" / "snapshots" / ("c0" * 20)
        folder.mkdir(parents=True)
        (folder / "m.gguf").write_bytes(b"1")


def complete(shell: str, line: str) -> set[str]:
    """What a shell offers after `line`."""
    variables = {
        "_BITNET_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    result = CliRunner().invoke(app, [], env=variables, prog_name="bitnet")
    # bash: a word a line; zsh: (("word":"help" ...; fish: word, tab, help.
    word = r'(?:\(\(|\n)"([^"]+)"' if shell == "zsh" else r"(?m)^([^\s:]+)"
    return set(re.findall(word, result.stdout))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.usefixtures("stored")
def test_shells_complete_commands_options_and_stored_models(shell: str) -> None:
    assert complete(shell, "bitnet re") == {"repair"}
    assert complete(shell, "bitnet p") == {"perplexity", "pull"}
    assert complete(shell, "bitnet run --temp") == {"--temperature"}
    assert complete(shell, "bitnet run --kv ") == {"f16", "f32"}
    assert complete(shell, "bitnet run -m ") == {"some/tiny-gguf", "some/other"}
    assert complete(shell, "bitnet rm some/t") == {"some/tiny-gguf"}
    assert complete(shell, "bitnet verify some/o") == {"some/other"}
    assert "some" not in str(complete(shell, "bitnet run -m ./"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_the_command(shell: str) -> None:
    variables = {"_BITNET_COMPLETE": f"source_{shell}"}
    result = CliRunner().invoke(app, [], env=variables, prog_name="bitnet")
    assert f"_BITNET_COMPLETE=complete_{shell}" in result.stdout
